"""experiments.seed: equal bytes, a sheet that shows every picture as it is, and the tables."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.experiments.at_size import SIDE, SIZE, Result, square
from benchmarks.experiments.comparison import LINE, MARGIN, Panel, contact_sheet
from benchmarks.experiments.equal_bytes import nearest_not_over
from benchmarks.experiments.seed import seed, seed_pictures
from benchmarks.metrics import METRICS
from benchmarks.peers import Jpeg, WebP
from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidArgument, TargetUnreachable
from tests.benchmarks.conftest import make_picture


class Ours(WebP):
    """In place of the native codec, so that these tests are of the experiment alone."""

    name = "ours"
    highest = 100

    def encode_to_size(self, picture: Pixels, size: int) -> bytes:
        settings = range(self.highest + 1)
        _, data = nearest_not_over(lambda each: super(Ours, self).encode(picture, each), settings, size)
        if not 0.9 * size < len(data) <= size:
            raise TargetUnreachable(f"{len(data)} bytes")
        return data


def smooth(seed: int) -> Pixels:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    return np.array(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def go(out: Path, pictures: dict[str, Pixels], ours: Ours) -> list[Result]:
    metrics = {name: METRICS[name] for name in ("psnr", "psnr_y")}
    return seed(pictures, [Jpeg(), ours], metrics, out, Console(file=io.StringIO()))


def test_sheet_tables_and_files(tmp_path: Path) -> None:
    pictures = {"first": smooth(0), "second": smooth(1)}
    results = go(tmp_path, pictures, Ours())
    assert [(each.picture, each.codec) for each in results] == [
        (picture, codec) for picture in pictures for codec in ("jpeg", "ours")
    ]
    sheet = np.asarray(Image.open(tmp_path / "seed.png"))
    for row, (name, picture) in enumerate(pictures.items()):
        decoded = [Jpeg().decode((tmp_path / f"{name}.jpeg.jpg").read_bytes())]
        decoded.append(WebP().decode((tmp_path / f"{name}.ours.webp").read_bytes()))
        top = MARGIN + 2 * LINE + 4 + row * (2 * LINE + 4 + SIDE + MARGIN)
        for column, expected in enumerate([picture, *decoded]):
            left = MARGIN + column * (SIDE + MARGIN)
            assert (sheet[top : top + SIDE, left : left + SIDE] == expected).all()
    text = (tmp_path / "seed.md").read_text()
    about = json.loads((tmp_path / "seed.json").read_text())
    for result, written in zip(results, about["results"], strict=True):
        assert result.bytes == (tmp_path / result.file).stat().st_size <= SIZE
        assert f"| {result.bytes:,} |" in text
        assert f"| {result.metrics['psnr']:.2f} |" in text
        assert written["bytes"] == result.bytes
        assert written["metrics"]["psnr"] == pytest.approx(result.metrics["psnr"])
    assert (results[0].setting is None, results[1].setting is None) == (False, True)
    assert about["versions"]["jpeg"] == Jpeg().version


def test_a_codec_that_cannot_go_as_low_is_marked(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    jpeg, ours = go(tmp_path, {"noise": noise}, Ours())
    assert (jpeg.setting, ours.setting) == (0, 0)
    assert jpeg.bytes > SIZE
    assert jpeg.remark == ours.remark == "its smallest file: it cannot go as low"
    text = (tmp_path / "seed.md").read_text()
    assert f"| {jpeg.bytes:,}* |" in text
    assert "it cannot go as low" in text


def test_a_codec_that_needs_less_gives_its_best(tmp_path: Path) -> None:
    _, ours = go(tmp_path, {"gray": np.full((SIDE, SIDE, 3), 128, np.uint8)}, Ours())
    assert (ours.setting, ours.remark) == (100, None)
    assert ours.bytes <= SIZE
    assert (
        json.loads((tmp_path / "seed.json").read_text())["results"][1]["metrics"]["psnr"] is None
    )  # infinite


@pytest.mark.parametrize(("height", "width"), [(512, 512), (512, 700), (1100, 1024)])
def test_the_square_is_the_middle(height: int, width: int) -> None:
    picture = make_picture(height, width)
    middle = square(picture)
    assert (middle.shape, middle.dtype) == ((SIDE, SIDE, 3), np.uint8)
    if height == SIDE:
        assert (middle == picture[:, (width - SIDE) // 2 :][:, :SIDE]).all()
    with pytest.raises(InvalidArgument, match=f"it has {width}x511 pixels"):
        square(picture[:511])


def test_pictures_by_name(tmp_path: Path) -> None:
    Image.fromarray(make_picture(520, 530)).save(tmp_path / "large.png")
    Image.fromarray(make_picture(100, 530)).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("no picture")
    assert list(seed_pictures([tmp_path / "large.png"])) == ["large"]
    with pytest.raises(InvalidArgument, match=r"small\.png: it has 530x100 pixels"):
        seed_pictures([tmp_path / "large.png", tmp_path / "small.png"])
    with pytest.raises(InvalidArgument, match=r"text\.png: cannot identify"):
        seed_pictures([tmp_path / "text.png"])
    with pytest.raises(InvalidArgument, match="another picture is called large"):
        seed_pictures([tmp_path / "large.png"] * 2)
    assert {"astronaut", "camera"} <= set(seed_pictures())


def test_long_captions_shrink() -> None:
    pictures = [np.full((200, 200, 3), value, np.uint8) for value in (10, 200)]
    row = [Panel("t", "a caption that is too long for its picture", each) for each in pictures]
    sheet = np.asarray(contact_sheet([row]))
    gap = sheet[MARGIN : MARGIN + 2 * LINE, MARGIN + 200 + 1 : 2 * MARGIN + 200 - 1]
    assert (gap == 255).all()
