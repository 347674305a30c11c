"""Makes the golden files anew, from a checkout: python -m tests.golden.remake [NAME ...]

Until the first release they change with the model; from then on they never do (docs/format.md).
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latentcodec.codec.api import Codec
from latentcodec.codec.decoder import decode_with
from latentcodec.codec.lossless import PixelReader
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.decoder import synthesise_picture
from latentcodec.codec.planes import latent_box
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.file import Header, Tile, unpack
from latentcodec.container.header import PIXELS
from latentcodec.picture.picture import Picture, Pixels

FOLDER = Path(__file__).parent
SAMPLES = FOLDER.parents[1] / "samples"
DESCRIPTION = FOLDER / "golden.json"


def pictures() -> dict[str, tuple[Picture, float]]:
    """Name -> (picture, quality)."""
    with Image.open(SAMPLES / "astronaut.png") as image:
        pixels = np.array(image.convert("RGB"))
    colour = Picture(pixels[40:104, 176:272].copy())
    gray = np.repeat(pixels[100:151, 200:277, 1:2], 3, axis=2)
    distance = np.hypot(*(np.indices((51, 77)) - np.array([25, 38])[:, None, None]))
    alpha = (255 * np.clip(1.5 - distance / 30, 0, 1)).astype(np.uint8)
    wide = pixels[100:166, 180:260].astype(np.int64) ** 2  # of 16 bits, with all of them in use
    deep = Picture((wide[::2, ::2] + wide[1::2, 1::2] >> 1).astype(np.uint16), bit_depth=16)
    y, x = np.indices((45, 70))
    ramp = np.stack([x * 930 + y, y * 1400 + x, 65535 - x * 400 - y * 300], 2).astype(np.uint16)
    return {
        "colour-96x64": (colour, 70.0),
        "gray-alpha-77x51": (Picture(gray, alpha, gray=True), 35.0),
        "deep-40x33": (replace(deep, alpha=np.minimum(deep.pixels[..., 2], 50000)), 70.0),
        "deep-ramp-70x45": (Picture(ramp, bit_depth=16), 100.0),
    }


def describe(codec: NativeCodec, data: bytes) -> dict[str, Any]:
    """What a decoder must find in a file of one tile: its digest, latents, pixels and alpha."""
    file = unpack(data)
    header = file.header
    (tile,), (box,) = file.tiles, header.tile_grid()
    if tile is None:
        raise ValueError("a golden file is whole")
    if header.model_number == PIXELS:
        picture, _ = decode_with(PixelReader(header), file, DEFAULT_LIMITS, None)
        return _of_file(data, header, tile, picture.pixels)
    x0, y0, x1, y1 = latent_box(box)
    decoded = codec.decode_tile(tile.stream, tile.digest, header.quality_level, y1 - y0, x1 - x0)
    latents = decoded.latents.astype("<i2")
    pixels = synthesise_picture(codec, latents, header)
    return _of_file(data, header, tile, pixels) | {
        "latents_shape": list(latents.shape),
        "latents_sha256": hashlib.sha256(latents.tobytes()).hexdigest(),
    }


def _of_file(data: bytes, header: Header, tile: Tile, pixels: Pixels) -> dict[str, Any]:
    """What holds of files with latents and without; samples of 16 bits count little endian."""
    samples = pixels.astype(pixels.dtype.newbyteorder("<"))
    return {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "networks_hash": header.networks_hash.hex(),
        "synthesis_hash": header.synthesis_hash.hex(),
        "symbols_crc32": f"{tile.digest:08x}",
        "pixels_sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
        "alpha_sha256": hashlib.sha256(tile.alpha).hexdigest() if tile.alpha is not None else None,
    }


def main() -> None:
    """Write the files and what is in them; those that are named, or all."""
    whole = Codec(device="cpu")
    codec, named = whole._load_native(), sys.argv[1:]
    described = json.loads(DESCRIPTION.read_text()) if named else {}
    for name, (picture, quality) in pictures().items():
        if named and name not in named:
            continue
        data = whole.encode(picture, quality=quality)
        (FOLDER / f"{name}.lci").write_bytes(data)
        described[name] = describe(codec, data)
        sys.stdout.write(f"{name}: {len(data)} bytes, symbols {described[name]['symbols_crc32']}\n")
    DESCRIPTION.write_text(json.dumps(described, indent=2) + "\n")


if __name__ == "__main__":
    main()
