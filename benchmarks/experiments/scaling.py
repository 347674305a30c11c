"""Time and peak memory from a tenth of a megapixel to fifty, each size in a process of its own.

    samples, tiled ─► fresh process: encode ─► file ─► fresh process: decode ─► Point ─► scaling.json, .png

`python -m benchmarks.experiments.scaling encode|decode ...` is that process: it writes one line of JSON. Its
peak is the kernel's high-water mark of the process itself (VmHWM); ru_maxrss, the fallback, can be its
parent's.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.experiments.alone import ROOT, measure_alone
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import load
from benchmarks.report.plot import save
from latentcodec.atomic import write_atomically

__all__ = ["SIZES", "Point", "run", "synthetic", "write"]

SAMPLES = ("astronaut.png", "coffee.png", "chelsea.png")
SIZES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
"""Megapixels."""
SIDES = 3 / 2  # width over height


@dataclass(frozen=True)
class Point:
    """One size. Seconds are those of the call alone; bytes of memory are the whole process's."""

    megapixels: float
    width: int
    height: int
    file_bytes: int
    encode_seconds: float
    decode_seconds: float
    encode_memory: int
    decode_memory: int
    loaded_memory: int
    """What a process has taken before it encodes: Python, PyTorch, weights, a tiny warm run, the picture."""


def synthetic(megapixels: float) -> Pixels:
    """A picture of that size, 3:2, tiled from the samples: neighbours are mirrored, so that edges meet."""
    width = max(8, round((megapixels * 1e6 * SIDES) ** 0.5))
    height = max(8, round(megapixels * 1e6 / width))
    tiles = [load(ROOT / "samples" / name)[:300, :448] for name in SAMPLES]
    picture = np.empty((height, width, 3), np.uint8)
    for row, top in enumerate(range(0, height, 300)):
        for column, left in enumerate(range(0, width, 448)):
            tile = tiles[(row + column) % len(tiles)]
            tile = tile[:: -1 if row % 2 else 1, :: -1 if column % 2 else 1]
            place = picture[top : top + 300, left : left + 448]
            place[:] = tile[: place.shape[0], : place.shape[1]]
    return picture


def run(sizes: Sequence[float], quality: float, threads: int) -> Iterator[Point]:
    """Each size's point as it is measured. Raises LatentCodecError if a process fails."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.lci"
        for megapixels in sizes:
            encoded = _process("encode", file, megapixels, quality, threads)
            decoded = _process("decode", file, megapixels, quality, threads)
            yield Point(
                megapixels,
                int(encoded["width"]),
                int(encoded["height"]),
                file.stat().st_size,
                encoded["seconds"],
                decoded["seconds"],
                int(encoded["memory"]),
                int(decoded["memory"]),
                int(encoded["before"]),
            )


def write(points: Sequence[Point], out: Path) -> None:
    """Writes out/scaling.json, .png and .svg."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(point) for point in points], indent=2) + "\n"
    write_atomically(out / "scaling.json", text.encode())
    figure = Figure(figsize=(13, 5.5), dpi=110, layout="constrained")
    panels = figure.subplots(1, 2)
    sizes = [point.megapixels for point in points]
    seconds = {
        "encode": [point.encode_seconds for point in points],
        "decode": [point.decode_seconds for point in points],
    }
    memory = {
        "encode": [point.encode_memory / 2**20 for point in points],
        "decode": [point.decode_memory / 2**20 for point in points],
        "loaded, before encoding": [point.loaded_memory / 2**20 for point in points],
    }
    for panel, lines, label in zip(panels, (seconds, memory), ("seconds", "peak memory, MiB"), strict=True):
        for name, values in lines.items():
            panel.plot(sizes, values, "--" if "loaded" in name else "-", marker=".", label=name)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xlabel("megapixels")
        panel.set_ylabel(label)
        panel.grid(alpha=0.3, which="both")
        panel.legend()
    save(figure, out / "scaling")


def _process(direction: str, file: Path, megapixels: float, quality: float, threads: int) -> dict[str, float]:
    arguments = [direction, str(file), str(megapixels), str(quality)]
    what = f"{direction} of {megapixels:g} megapixels"
    return measure_alone(what, "benchmarks.experiments.scaling", arguments, threads)


def _child(direction: str, file: Path, megapixels: float, quality: float) -> dict[str, float]:
    """What one process measures: one call after a warm one on a small picture."""
    from latentcodec.codec.api import Codec

    codec = Codec(device="cpu")
    codec.decode(codec.encode(synthetic(0.01), quality=quality))
    picture = synthetic(megapixels) if direction == "encode" else np.empty((0, 0, 3), np.uint8)
    data = b"" if direction == "encode" else file.read_bytes()
    before = _peak()
    begun = time.perf_counter()
    if direction == "encode":
        data = codec.encode(picture, quality=quality)
    else:
        codec.decode(data)
    seconds = time.perf_counter() - begun
    if direction == "encode":
        file.write_bytes(data)
    height, width = picture.shape[:2]
    return {"seconds": seconds, "memory": _peak(), "before": before, "width": width, "height": height}


def _peak() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource  # Unix alone has it

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    way, path, *numbers = sys.argv[1:]
    size, quality = (float(number) for number in numbers)
    sys.stdout.write(json.dumps(_child(way, Path(path), size, quality)) + "\n")
