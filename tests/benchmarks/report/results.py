"""A small result folder as a run leaves it: rows, streams, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from benchmarks.metrics import METRICS
from benchmarks.peers import make_peer
from benchmarks.runs.rows import PICTURES, ROWS, STREAMS, Row, write_rows
from tests.benchmarks.conftest import make_picture

MEASURED = ("psnr", "ssim", "features")
SETTINGS = {"jpeg": (5, 20, 50, 90), "webp": (5, 20, 60, 90), "jpeg2000": None}


@cache
def coded(seed: int, side: int) -> list[tuple[str, str, float, bytes, dict[str, float]]]:
    """A made-up picture by each codec and setting: codec, version, setting, file and metrics."""
    picture, files = make_picture(side, side, seed), []
    for codec, settings in SETTINGS.items():
        peer = make_peer(codec)
        for setting in settings or peer.settings[::2]:
            data = peer.encode(picture, setting)
            metrics = {each: METRICS[each](picture, peer.decode(data)) for each in MEASURED}
            files.append((codec, peer.version, setting, data, metrics))
    return files


def make_results(out: Path, names: Sequence[str], *, side: int = 160) -> list[Row]:
    """Measures made-up pictures of these names with JPEG, WebP and JPEG 2000."""
    (out / STREAMS).mkdir(parents=True)
    (out / PICTURES).mkdir()
    rows = []
    for seed, name in enumerate(names):
        Image.fromarray(make_picture(side, side, seed)).save(out / PICTURES / f"{seed:016}.png")
        for codec, version, setting, data, metrics in coded(seed, side):
            stream = f"{codec}-{seed}-{setting}.{codec}"
            (out / STREAMS / stream).write_bytes(data)
            bpp = 8 * len(data) / side**2
            rows.append(
                Row(
                    *(name, f"{seed:016}", codec, version, setting, "here", side**2, len(data), bpp),
                    *(dict(metrics), 0.02, 0.01, None, side, side),
                    stream=stream,
                    undefined={"ms_ssim": "needs at least 161x161 pixels"},
                )
            )
    write_rows(out / ROWS, rows)
    return rows
