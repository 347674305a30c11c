"""What the worst files cost to decode, beside an honest file of as many pixels and beside Pillow's PNG.

    photograph, tiled ─► encode ────────────────┐
    no symbol but the likeliest ─► small tiles ─┼─► files ─► fresh process each: decode ─► seconds, memory
    one colour ─► PNG, lossless tiles ──────────┘

A file may claim any size within `Limits.max_pixels`, and one with hardly any information is decoded as a full
one is. `python -m benchmarks.experiments.hostile FILE` is the process that decodes one.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.table import Table

from benchmarks.experiments.alone import ROOT, measure_alone
from benchmarks.runs.memory import PeakMemory
from latentcodec.codec.api import Codec
from latentcodec.codec.lossless import NO_HASH, pack_pixels
from latentcodec.codec.native.coder import NativeCodec, QuantisedStep, QuantisedTile
from latentcodec.codec.native.networks import encoder_networks
from latentcodec.codec.planes import latent_box
from latentcodec.container.file import File, Tile, pack
from latentcodec.container.header import MAX_QUALITY_LEVEL, MIN_TILE_SIDE, PIXELS, Header
from latentcodec.nn.exact.choice import choose_engine
from latentcodec.nn.native.integer_model import Ints
from latentcodec.weights.native import NATIVE_MODEL, shipped_weights

__all__ = ["HONEST", "Cost", "files", "hostile_table", "measure"]

HONEST = "honest: a photograph, quality 60"
LEVEL = 2640  # of quality 60


@dataclass(frozen=True)
class Cost:
    """What decoding one file takes: seconds of the call, bytes of memory at its peak above a warm process."""

    bytes: int
    seconds: float
    memory: int | None


def files(side: int) -> Iterator[tuple[str, bytes]]:
    """Name -> file of side x side pixels, or as many: an honest one first. side: a multiple of 256."""
    with Image.open(ROOT / "samples" / "astronaut.png") as image:
        photograph = np.asarray(image.convert("RGB"))
    repeats = -(-side // 512)
    honest = np.tile(photograph, (repeats, repeats, 1))[:side, :side]
    yield HONEST, Codec(device="cpu").encode(honest, quality=60)
    engine = choose_engine("cpu", side * side)
    native = NativeCodec(shipped_weights(NATIVE_MODEL), engine, encoder_networks(engine))
    yield "no symbol but the likeliest", likeliest(native, side, side, 1024)
    yield f"the same, tiles of {MIN_TILE_SIDE}", likeliest(native, side, side, MIN_TILE_SIDE)
    yield "the same, as thin as it may be", likeliest(native, side * side // 11, 11, 2048)
    flat = np.zeros((MIN_TILE_SIDE, MIN_TILE_SIDE, 3), np.uint8)
    yield "lossless, one colour", lossless(flat, side, side)
    yield "lossless, one pixel high", lossless(flat[:1], side * side, 1)
    held = io.BytesIO()
    Image.new("RGB", (side, side)).save(held, "PNG")
    yield "PNG, one colour, by Pillow", held.getvalue()


def likeliest(native: NativeCodec, width: int, height: int, tile_size: int) -> bytes:
    """A file of the native model all of whose symbols are 0: fewest bytes for the networks' work."""
    weights = native.weights
    header = Header(
        width=width,
        height=height,
        channels=3,
        depth=8,
        model_number=weights.number,
        networks_hash=weights.networks_hash,
        synthesis_hash=weights.synthesis_hash,
        quality_level=LEVEL,
        tile_size=tile_size,
    )
    made: dict[tuple[int, int], tuple[bytes, int]] = {}
    tiles = []
    for number, box in enumerate(header.tile_grid()):
        x0, y0, x1, y1 = latent_box(box)
        size = y1 - y0, x1 - x0
        if size not in made:
            made[size] = _likeliest_tile(native, *size)
        stream, digest = made[size]
        tiles.append(Tile(number, digest, None, stream))
    return pack(File(header, tiles))


def _likeliest_tile(native: NativeCodec, height: int, width: int) -> tuple[bytes, int]:
    hyper = native.weights.config.entropy.hyper
    z = np.zeros((hyper, -(-height // 4), -(-width // 4)), np.int32)
    steps: list[QuantisedStep] = []

    def code(step: int, means: Ints, rows: Ints) -> Ints:
        residual = np.zeros_like(rows)
        steps.append(QuantisedStep(means.astype(np.float32), residual, rows))
        return residual

    latents = native.integer.latents(z, LEVEL, height, width, code)
    coded = native.code(QuantisedTile(z, latents, steps), LEVEL)
    return coded.stream, coded.digest


def lossless(pixels: np.ndarray, width: int, height: int) -> bytes:
    """A file of pixels, each tile of MIN_TILE_SIDE the same."""
    header = Header(width, height, 3, 8, PIXELS, NO_HASH, NO_HASH, MAX_QUALITY_LEVEL, MIN_TILE_SIDE)
    stream, digest = pack_pixels(pixels, 1)
    return pack(File(header, [Tile(number, digest, None, stream) for number in range(header.tile_count)]))


def measure(side: int, threads: int) -> Iterator[tuple[str, Cost]]:
    """Name -> cost, as they are measured. Raises LatentCodecError if a process fails."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files(side):
            path = Path(folder) / ("picture.png" if name.startswith("PNG") else "picture.lci")
            path.write_bytes(data)
            yield name, Cost(len(data), **measure_alone(name, __name__, [str(path)], threads))


def hostile_table(costs: dict[str, Cost], side: int) -> Table:
    """A line for each file; times are also given against the honest file's."""
    table = Table(title=f"decoding {side} x {side} pixels, or as many")
    for column in ("file", "bytes", "seconds", "times honest", "MiB", "times honest"):
        table.add_column(column, justify="left" if column == "file" else "right")
    honest = costs[HONEST]
    for name, cost in costs.items():
        memory = ("-", "-")
        if cost.memory is not None and honest.memory:
            memory = f"{cost.memory / 2**20:.0f}", f"{cost.memory / honest.memory:.2f}"
        times = f"{cost.seconds:.2f}", f"{cost.seconds / honest.seconds:.2f}"
        table.add_row(name, f"{cost.bytes:,}", *times, *memory)
    return table


def _child(path: Path) -> dict[str, float | int | None]:
    """Decode one file in this process, after a small honest one."""
    codec = Codec(device="cpu")
    with Image.open(ROOT / "samples" / "astronaut.png") as image:
        codec.decode(codec.encode(image.convert("RGB").crop((0, 0, 64, 64))))
    data = path.read_bytes()
    with PeakMemory() as peak:
        begun = time.perf_counter()
        if path.suffix == ".png":
            with Image.open(io.BytesIO(data)) as image:
                np.asarray(image)
        else:
            codec.decode(data)
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "memory": peak.bytes}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_child(Path(sys.argv[1]))) + "\n")
