"""A small result folder as a run leaves it: rows, streams, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.metrics import METRICS
from benchmarks.peers import make_peer
from benchmarks.runs.rows import PICTURES, ROWS, STREAMS, Row, write_rows
from tests.benchmarks.conftest import make_picture

MEASURED = ("psnr", "ssim", "features")
SETTINGS = {"jpeg": (5, 20, 50, 90), "webp": (5, 20, 60, 90), "jpeg2000": None}


def make_results(out: Path, names: Sequence[str], *, side: int = 160) -> list[Row]:
    """Measures made-up pictures of these names with JPEG, WebP and JPEG 2000."""
    (out / STREAMS).mkdir(parents=True)
    (out / PICTURES).mkdir()
    rows = []
    for seed, name in enumerate(names):
        picture = make_picture(side, side, seed)
        Image.fromarray(picture).save(out / PICTURES / f"{seed:016}.png")
        for codec, settings in SETTINGS.items():
            peer = make_peer(codec)
            for setting in settings or peer.settings[::2]:
                data = peer.encode(picture, setting)
                stream = f"{codec}-{seed}-{setting}.{codec}"
                (out / STREAMS / stream).write_bytes(data)
                metrics = {each: METRICS[each](picture, peer.decode(data)) for each in MEASURED}
                bpp = 8 * len(data) / side**2
                rows.append(
                    Row(
                        *(name, f"{seed:016}", codec, peer.version, setting, "here", side**2, len(data), bpp),
                        *(metrics, 0.02, 0.01, None, side, side),
                        stream=stream,
                        undefined={"ms_ssim": "needs at least 161x161 pixels"},
                    )
                )
    write_rows(out / ROWS, rows)
    return rows
