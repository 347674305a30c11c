"""Large pictures: tile by tile in bounded memory. Each runs in a process of its own, which tells its peak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")
ROOT = Path(__file__).resolve().parents[2]

CHILD = """
import json, re, resource, sys, time
from pathlib import Path
import numpy as np
from latentcodec.codec.api import Codec
from latentcodec.codec.info import info

width, height, quality = map(int, sys.argv[1:])
scale = 1 if sys.platform == "darwin" else 1024
status = Path("/proc/self/status")

def peak():
    # On Linux ru_maxrss begins with the peak of the process that started this one.
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text()).group(1)) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

codec = Codec(device="cpu")
y, x = np.ogrid[0:height, 0:width]
pixels = np.empty((height, width, 3), np.uint8)
for channel in range(3):  # smooth, and never the same twice
    pixels[..., channel] = (x * 255 // width + y * (40 + channel) // 64) % 512 // 2
start, begun = peak(), time.monotonic()
data = codec.encode(pixels, quality=quality)
encoded, encode_seconds = peak(), time.monotonic() - begun
begun = time.monotonic()
shown = np.asarray(codec.decode(data))
decode_seconds = time.monotonic() - begun
rows = slice(height // 2, height // 2 + 64)
error = np.mean((shown[rows].astype(float) - pixels[rows]) ** 2)
print(json.dumps({
    "tiles": info(data).tiles, "bytes": len(data), "psnr": float(10 * np.log10(65025 / error)),
    "start": start, "encoded": encoded, "decoded": peak(),
    "encode_seconds": encode_seconds, "decode_seconds": decode_seconds,
}))
"""


def measure(width: int, height: int, quality: int = 20, engine: str = "auto") -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(width), str(height), str(quality)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "LATENTCODEC_ENGINE": engine},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height", "tiles"), [(1280, 1240, 4), (2100, 1500, 6)])
def test_megapixels(width: int, height: int, tiles: int) -> None:
    found = measure(width, height)
    assert found["tiles"] == tiles
    assert found["psnr"] > 24
    assert max(found["encoded"], found["decoded"]) < 1000e6


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["numpy", "torch-float32"])
def test_every_engine_s_memory_is_bounded(engine: str) -> None:
    found = measure(1280, 1240, engine=engine)
    assert found["psnr"] > 24
    assert max(found["encoded"], found["decoded"]) < 1000e6


@pytest.mark.release
def test_forty_megapixels_take_under_two_gigabytes() -> None:
    found = measure(8000, 5000)
    assert found["tiles"] == 40
    assert max(found["encoded"], found["decoded"]) < 2e9
