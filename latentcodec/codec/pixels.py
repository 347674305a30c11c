"""Pictures that take fewer bytes without any loss: their tiles hold the pixels themselves, not latents.

    pixels ─► repetitive enough to try? ─► every tile: WebP's lossless bitstream (VP8L, RFC 9649), by Pillow
    stream ─► header checked against the tile ─► pixels ─► digest ─► plane of 3 channels ─► Picture

Screens, pages and drawings have few colours and parts that repeat: there a lossless coder beats every
transform. Such files have the model number PIXELS and need no networks.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Collection

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, features
from torch import Tensor

from latentcodec.container import Tile
from latentcodec.errors import MalformedFile, MissingDependency, TruncatedFile
from latentcodec.header import PIXELS, Header
from latentcodec.rans import check_digest

NO_HASH = bytes(4)
MAX_SIDE = (1 << 14) - 1  # that libwebp writes
REPEATING = 0.3  # share of pixels that are as the one at the left: photographs have 0.01 to 0.15
_SAMPLED = 64  # rows that are looked at, about
# Pillow's `method` and `quality`, which is effort here, by the codec's effort 1 to 9.
_EFFORTS = ((2, 50), (3, 75), (4, 75), (4, 90), (5, 90), (6, 90), (6, 100), (6, 100), (6, 100))
_SIGNATURE = 0x2F
Pixels = NDArray[np.uint8]


def worth_trying(pixels: Pixels) -> bool:
    """Whether (H, W, 3) may take fewer bytes without loss: decided in a moment, and generously."""
    row = pixels[:: max(1, len(pixels) // _SAMPLED)].reshape(-1, 3)
    same = int(np.count_nonzero((row[1:] == row[:-1]).all(1)))
    return bool(features.check("webp")) and same >= REPEATING * len(row)


def pack_pixels(pixels: Pixels, effort: int) -> tuple[bytes, int]:
    """(stream, digest) of a tile (H, W, 3) with sides of at most MAX_SIDE; effort: 1 to 9."""
    method, quality = _EFFORTS[effort - 1]
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        stream, "WEBP", lossless=True, method=method, quality=quality
    )
    chunks = stream.getvalue()
    # RIFF, size, WEBP, VP8L, size of the bitstream.
    size = int.from_bytes(chunks[16:20], "little")
    return chunks[20 : 20 + size], zlib.crc32(pixels.tobytes())


def unpack_pixels(stream: bytes, height: int, width: int, name: str) -> Pixels:
    """The pixels (height, width, 3) of a tile's stream.

    Raises MalformedFile, TruncatedFile, and MissingDependency where Pillow was built without WebP.
    """
    if not features.check("webp"):
        raise MissingDependency(f"{name}: Pillow was built without WebP; install Pillow from PyPI")
    if len(stream) < 5:
        raise TruncatedFile(f"{name}: {len(stream)} bytes, a VP8L bitstream has at least 5")
    # 8 bits of signature, 14 each of width - 1 and height - 1, 1 of alpha, 3 of version.
    fields = int.from_bytes(stream[1:5], "little")
    found = (fields & 0x3FFF) + 1, (fields >> 14 & 0x3FFF) + 1
    if stream[0] != _SIGNATURE or fields >> 28:
        raise MalformedFile(f"{name}: {stream[:5].hex()} is no beginning of a VP8L bitstream without alpha")
    if found != (width, height):
        raise MalformedFile(
            f"{name}: its bitstream has {found[0]}x{found[1]} pixels, the tile {width}x{height}"
        )
    body = b"VP8L" + len(stream).to_bytes(4, "little") + stream + bytes(len(stream) % 2)
    riff = b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body
    try:
        with Image.open(io.BytesIO(riff), formats=("WEBP",)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow raises almost anything on damaged data
        raise MalformedFile(f"{name}: its VP8L bitstream is damaged or cut ({error})") from error
    if pixels.shape != (height, width, 3):
        raise MalformedFile(f"{name}: its bitstream decodes to {pixels.shape}, not {(height, width, 3)}")
    return pixels


class PixelReader:
    """Reads files whose tiles hold pixels, for decode_with."""

    patch, latents, blank = 1, 3, 128

    def __init__(self, header: Header) -> None:
        """Raises MalformedFile where the header names networks."""
        for name, stored in (("networks", header.networks_hash), ("synthesis", header.synthesis_hash)):
            if stored != NO_HASH:
                raise MalformedFile(
                    f"header: {name} hash {stored.hex()}, but files of model {PIXELS} need no networks"
                )
        self.header = header

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[Tensor, bool]:
        """As decoder.Reader says; samples. Of a tile that was cut nothing is left."""
        pixels = unpack_pixels(tile.stream, height, width, name)
        check_digest(zlib.crc32(pixels.tobytes()), tile.digest, name)
        if self.header.channels <= 2 and (pixels != pixels[..., :1]).any():
            raise MalformedFile(f"{name}: its pixels have colours, but the picture is gray")
        return torch.from_numpy(pixels.astype(np.int16)).permute(2, 0, 1), True

    def synthesise(self, plane: Tensor, missing: Collection[int]) -> Pixels:
        """As decoder.Reader says."""
        pixels: Pixels = plane.permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
        return pixels
