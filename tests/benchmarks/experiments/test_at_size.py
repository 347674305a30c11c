"""experiments.at_size: equal bytes, who wins, and by how much."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from benchmarks.experiments.at_size import SIDE, SIZE, Result, at_size, losses, prepare, wins
from benchmarks.metrics import METRICS
from benchmarks.peers import Jpeg, WebP
from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidArgument
from tests.benchmarks.conftest import make_picture

PSNR = {name: METRICS[name] for name in ("psnr", "mse")}


class Ours(WebP):
    """In place of the native codec, which takes longer."""

    name = "native"


def result(codec: str, psnr: float, mse: float, picture: str = "a") -> Result:
    return Result(picture, codec, 1, 100, {"psnr": psnr, "mse": mse}, "file")


def test_a_small_picture_is_whole_at_the_same_rate() -> None:
    square, size = prepare(make_picture(600, 700))
    assert (square.shape, size) == ((SIDE, SIDE, 3), SIZE)
    picture = make_picture(256, 512)
    whole, size = prepare(picture)
    assert (whole == picture).all()
    assert size == SIZE // 2


def test_wins_and_losses() -> None:
    pairs = [result("native", 30, 5), result("jpeg", 28, 4), result("native", 30, 5, "b")]
    pairs += [result("jpeg", 30, 6, "b")]
    assert wins(pairs, PSNR, "jpeg") == {"psnr": 1, "mse": 1, "all": 0}
    assert losses(pairs, PSNR, "jpeg") == [("a", "mse", 1), ("b", "psnr", 0)]
    better = [*pairs[:2], pairs[2], replace(pairs[3], metrics={"psnr": 29.0, "mse": 6.0})]
    assert wins(better, PSNR, "jpeg")["all"] == 1


def go(out: Path, pictures: dict[str, Pixels]) -> list[Result]:
    (out / "in").mkdir(parents=True)
    for name, picture in pictures.items():
        Image.fromarray(picture).save(out / "in" / f"{name}.png")
    paths = sorted((out / "in").iterdir())
    metrics = {"psnr": METRICS["psnr"], "ms_ssim": METRICS["ms_ssim"]}
    return at_size(paths, [Ours(), Jpeg()], metrics, out / "out", 9000, Console(file=io.StringIO()))


def test_two_without_loss_are_level() -> None:
    pair = [result(codec, float("inf"), 0) for codec in ("native", "webp")]
    assert wins(pair, PSNR, "webp")["all"] == 0
    assert losses(pair, PSNR, "webp") == [("a", "psnr", 0), ("a", "mse", 0)]


def test_tables_sheets_and_files(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_msssim")
    results = go(tmp_path, {"first": make_picture(256, 300), "tiny": make_picture(64, 64)})
    assert [(each.picture, each.codec) for each in results] == [("first", "native"), ("first", "jpeg")]
    out = tmp_path / "out"
    for each in results:
        assert (out / each.file).stat().st_size == each.bytes <= 9000 * 256 * 300 / SIDE**2
    about = json.loads((out / "at-size.json").read_text())
    assert [each["bytes"] for each in about["results"]] == [each.bytes for each in results]
    text = (out / "at-size.md").read_text()
    assert "| JPEG | 1 of 1 | 1 of 1 | 1 of 1 |" in text
    assert "- JPEG: nowhere" in text
    assert f"| first | latentcodec | {results[0].bytes:,} | **" in text
    with Image.open(out / "first.png") as sheet:
        assert sheet.width > 3 * 300


def test_nothing_is_left(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_msssim")
    with pytest.raises(InvalidArgument, match="no picture is left to measure; a metric needs 161"):
        go(tmp_path, {"tiny": make_picture(64, 64)})


def test_two_of_one_name(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "a.jpg"]
    with pytest.raises(InvalidArgument, match="two pictures are called a"):
        at_size(paths, [Ours()], PSNR, tmp_path / "out")
