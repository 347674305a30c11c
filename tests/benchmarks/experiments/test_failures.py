"""experiments.failures: delta rates by kind, strips of equal bytes, and what goes into the documents."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.experiments.comparison import LINE, MARGIN, ZOOM
from benchmarks.experiments.failure_kinds import Kind
from benchmarks.experiments.failures import MARKS, QUALITY, failures, publish, strip
from benchmarks.metrics import METRICS
from benchmarks.peers import Jpeg, WebP
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.regions import DETAIL
from benchmarks.pictures.synthetic import sensor_noise
from latentcodec.errors import InvalidArgument
from tests.benchmarks.conftest import make_picture


class Ours(WebP):
    """In place of the native codec, which takes longer."""

    name = "native"


PICTURES = {"first": make_picture(128, 160, 1), "second": make_picture(128, 128, 2)}
NOISY = {name: sensor_noise(picture, 0) for name, picture in PICTURES.items()}
KINDS = {"plain": Kind("Plain", PICTURES, ("first",)), "noise": Kind("Noise", NOISY, tuple(NOISY), 4)}
PEERS = [Ours(), Jpeg()]


@pytest.mark.slow
def test_table_and_strips(tmp_path: Path) -> None:
    metrics = {"psnr": METRICS["psnr"]}
    table = failures(KINDS, PEERS, metrics, tmp_path, console=Console(file=io.StringIO()))
    assert (tmp_path / "failures.md").read_text() == table
    assert "| kind | pictures | JPEG, PSNR |" in table
    (plain,) = (line for line in table.splitlines() if line.startswith("| Plain | 2 | "))
    assert float(plain.split("|")[3]) < 0  # WebP against JPEG
    for name, kind in KINDS.items():
        with Image.open(tmp_path / f"{name}.webp") as image:
            assert image.width == MARGIN + 3 * (ZOOM * DETAIL + MARGIN)
            assert image.height > len(kind.enlarged) * ZOOM * DETAIL
    before = (tmp_path / "run" / "rows.jsonl").stat().st_mtime_ns
    assert failures(KINDS, PEERS, metrics, tmp_path, console=Console(file=io.StringIO())) == table
    assert (tmp_path / "run" / "rows.jsonl").stat().st_mtime_ns != before


class OursLossless(Ours):
    """Keeps pictures as they are from quality 50 on."""

    def encode(self, picture: Pixels, setting: float) -> bytes:
        if setting < 50:
            return super().encode(picture, setting)
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "WEBP", lossless=True, quality=100, method=6)
        return stream.getvalue()


@pytest.mark.slow
def test_kinds_that_are_kept_without_loss_are_marked_and_race_a_lossless_webp(tmp_path: Path) -> None:
    x, y = np.meshgrid(np.arange(128), np.arange(128))
    bars = np.repeat((200 * (x // 5 + y // 7 & 1) + 20)[..., None], 3, 2).astype(np.uint8)
    kinds = {"plain": KINDS["plain"], "bars": Kind("Bars", {"bars": bars}, ("bars",))}
    console = Console(file=io.StringIO())
    metrics = {"psnr": METRICS["psnr"]}
    lossy = failures(kinds, PEERS, metrics, tmp_path / "lossy", console=console)
    assert "\\*" not in lossy
    table = failures(kinds, [OursLossless(), WebP()], metrics, tmp_path / "exact", console=console)
    assert r"\* Native keeps some without loss" in table
    (line,) = (line for line in table.splitlines() if line.startswith(r"| Bars \* | 1 | "))
    assert float(line.split("|")[3]) == pytest.approx(0, abs=0.5)  # the very same files


def test_a_strip_shows_the_pixels_that_the_files_hold() -> None:
    picture = PICTURES["second"][:DETAIL, :DETAIL].copy()  # no larger than a detail: all of it is shown
    image = np.asarray(strip(Kind("Plain", {"a": picture}, ("a",)), PEERS))
    top, side = MARGIN + 2 * LINE + 4, ZOOM * DETAIL
    decoded = Ours().decode(Ours().encode(picture, QUALITY))
    for column, expected in enumerate((picture, decoded)):
        left = MARGIN + column * (side + MARGIN)
        shown = image[top : top + side : ZOOM, left : left + side : ZOOM]
        assert (shown == expected).all()


def test_the_table_goes_between_the_marks(tmp_path: Path) -> None:
    out, docs = tmp_path / "out", tmp_path / "docs"
    for folder in (out, docs):
        folder.mkdir()
    for name in KINDS:
        (out / f"{name}.webp").write_bytes(name.encode())
    page = docs / "training.md"
    page.write_text(f"words\n\n{MARKS[0]}\nold\n{MARKS[1]}\n\nmore words\n")
    for _ in range(2):
        publish(KINDS, "| new |\n", out, docs)
        assert page.read_text() == f"words\n\n{MARKS[0]}\n| new |\n{MARKS[1]}\n\nmore words\n"
    assert (docs / "pictures" / "fails-plain.webp").read_bytes() == b"plain"
    page.write_text("words")
    with pytest.raises(InvalidArgument, match="lacks the lines <!-- failures: begin"):
        publish(KINDS, "", out, docs)
