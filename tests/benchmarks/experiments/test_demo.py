"""experiments.demo and comparison: the files and the table that a newcomer sees first."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.experiments import demo as module
from benchmarks.experiments.comparison import ZOOM, Panel, side_by_side
from benchmarks.experiments.demo import BYTES_PER_PIXEL, TOLERANCE, Entry, demo
from benchmarks.experiments.equal_bytes import nearest_not_over
from benchmarks.peers import WebP
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.regions import DETAIL, busiest
from latentcodec.errors import TargetUnreachable
from tests.benchmarks.conftest import make_picture


class Ours(WebP):
    """In place of the native codec, so that these tests are of the demo alone."""

    reachable = True

    def encode_to_size(self, picture: Pixels, size: int) -> bytes:
        setting, data = nearest_not_over(lambda each: self.encode(picture, each), range(101), size)
        if len(data) > size or not self.reachable:
            raise TargetUnreachable(f"quality {setting} takes {len(data)} bytes")
        return data


def run_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: type[Ours] = Ours
) -> tuple[list[Entry], str]:
    monkeypatch.setattr(module, "Native", codec)
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    sample = tmp_path / "sample.png"
    coarse.resize((160, 128), Image.Resampling.BICUBIC).save(sample)
    console = Console(file=io.StringIO(), width=110)
    entries = demo(sample, tmp_path / "out", console)
    assert isinstance(console.file, io.StringIO)
    return entries, console.file.getvalue()


def test_files_and_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries, text = run_demo(tmp_path, monkeypatch)
    assert [entry.path.name for entry in entries] == ["sample.png", "sample.lci", "sample.jpg", "sample.webp"]
    for entry in entries:
        assert entry.path.stat().st_size == entry.data_bytes
        assert f"{entry.data_bytes:,}" in text
        assert f"{8 * entry.data_bytes / (160 * 128):.3f}" in text
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "sample.lci", "sample.lci.png", "sample.jpg", "sample.webp", "comparison.png",
    }  # fmt: skip
    assert f"{tmp_path / 'out' / 'sample.lci'}" in text.replace("\n", "")
    assert f"{tmp_path / 'out' / 'comparison.png'}" in text.replace("\n", "")
    for word in ("PSNR", "SSIM", "bpp", "encode s", "decode s"):
        assert word in text


def test_bytes_are_held_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_, ours, *peers), _ = run_demo(tmp_path, monkeypatch)
    assert ours.data_bytes <= round(BYTES_PER_PIXEL * 160 * 128)
    for peer in peers:
        assert peer.data_bytes <= TOLERANCE * ours.data_bytes or peer.remark


def test_the_png_is_what_the_file_decodes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (_, ours, *_), _ = run_demo(tmp_path, monkeypatch)
    with Image.open(tmp_path / "out" / "sample.lci.png") as image:
        assert (np.asarray(image) == WebP().decode(ours.path.read_bytes())).all()


def test_an_unreachable_size_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(Ours):
        reachable = False

    (_, ours, *_), text = run_demo(tmp_path, monkeypatch, Stubborn)
    assert ours.remark is not None
    assert "this is quality 0" in " ".join(text.split())


def test_a_peer_that_cannot_go_as_low_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_PER_PIXEL", 0.005)
    (_, ours, jpeg, _), text = run_demo(tmp_path, monkeypatch)
    assert jpeg.title == "JPEG, quality 1"
    assert jpeg.data_bytes > ours.data_bytes
    assert "it cannot go as low" in " ".join(text.split())


@pytest.mark.parametrize(("height", "width"), [(1, 1), (100, 300), (1000, 500)])
def test_side_by_side_shows_every_panel(height: int, width: int) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    panels = [Panel("title", "caption", np.full((height, width, 3), colour, np.uint8)) for colour in colours]
    image = np.asarray(side_by_side(panels))
    counts = [int((image == colour).all(axis=2).sum()) for colour in colours]
    assert len(set(counts)) == 1
    assert counts[0] >= ZOOM**2 * min(height, DETAIL) * min(width, DETAIL)


def test_the_detail_keeps_its_pixels() -> None:
    picture = make_picture(200, 200)
    left, top, right, bottom = busiest(picture)
    detail = picture[top:bottom, left:right].repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
    image = np.asarray(side_by_side([Panel("a", "b", picture)]))
    rows = image[-12 - detail.shape[0] : -12]
    start = (image.shape[1] - detail.shape[1]) // 2
    assert (rows[:, start : start + detail.shape[1]] == detail).all()
