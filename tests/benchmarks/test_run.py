"""benchmarks.run and benchmarks.rows: what a row holds, what a second run keeps; failures are rows too."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.datasets import Pixels, find_pictures
from benchmarks.peers import Jpeg, Peer
from benchmarks.rows import ROWS, Row, read_rows, write_rows
from benchmarks.run import run
from latentcodec.errors import InvalidArgument
from tests.benchmarks.conftest import Coarse, make_picture, psnr

METRICS = {"psnr": psnr}


def go(folder: Path, out: Path, *peers: Peer, settings: Sequence[float] | None = None) -> list[Row]:
    return run(find_pictures(folder), peers, METRICS, out, settings=settings, console=Console(quiet=True))


def test_a_row_for_each_picture_codec_and_setting(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path / "out", Coarse(), Jpeg(), settings=[2, 5])
    assert {(row.picture, row.codec, row.setting) for row in rows} == {
        (picture, codec, setting)
        for picture in ("a.PNG", "b.png")
        for codec in ("coarse", "jpeg")
        for setting in (2, 5)
    }
    assert read_rows(tmp_path / "out" / ROWS) == rows
    assert {row.error for row in rows} == {None}


def test_a_row_s_figures(folder: Path, tmp_path: Path) -> None:
    go(folder, tmp_path, Jpeg(), settings=[40])
    values = json.loads((tmp_path / ROWS).read_text().splitlines()[0])
    with Image.open(folder / "a.PNG") as image:
        pixels = np.asarray(image)
    data = Jpeg().encode(pixels, 40)
    assert values["picture"] == "a.PNG"
    assert values["pixels"] == 96 * 112
    assert values["bytes"] == len(data)
    assert values["bpp"] == pytest.approx(8 * len(data) / (96 * 112))
    assert values["metrics"] == {"psnr": pytest.approx(psnr(pixels, Jpeg().decode(data)))}
    assert values["version"] == Jpeg().version
    assert values["encode_seconds"] > 0
    assert values["decode_seconds"] > 0
    assert values["machine"]
    assert values["error"] is None


def test_a_peer_s_own_sweep_is_the_default(folder: Path, tmp_path: Path) -> None:
    assert {row.setting for row in go(folder, tmp_path, Coarse())} == set(Coarse.settings)


def test_a_second_run_measures_only_what_is_new(folder: Path, tmp_path: Path) -> None:
    first = go(folder, tmp_path, Coarse(), settings=[1, 2])
    again = Coarse()
    second = go(folder, tmp_path, again, settings=[2, 3])
    assert set(again.encoded) == {3}
    assert [row for row in second if row.setting < 3] == first
    idle = Coarse()
    go(folder, tmp_path, idle, settings=[1, 2, 3])
    assert idle.encoded == []


def test_an_unfinished_line_is_measured_again(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path, Coarse(), settings=[1, 2])
    text = (tmp_path / ROWS).read_text()
    (tmp_path / ROWS).write_text(text[:-30])
    assert read_rows(tmp_path / ROWS) == rows[:-1]
    again = Coarse()
    assert len(go(folder, tmp_path, again, settings=[1, 2])) == len(rows)
    assert set(again.encoded) == {rows[-1].setting}


def test_another_version_replaces_all_of_a_codec_s_rows(folder: Path, tmp_path: Path) -> None:
    go(folder, tmp_path, Coarse(), Jpeg(), settings=[1, 2])
    newer = Coarse()
    newer.version = "2"
    rows = go(folder, tmp_path, newer, settings=[2])
    assert {(row.codec, row.version, row.setting) for row in rows} == {
        ("coarse", "2", 2),
        ("jpeg", Jpeg().version, 1),
        ("jpeg", Jpeg().version, 2),
    }


def test_a_changed_picture_is_measured_again(folder: Path, tmp_path: Path) -> None:
    before = {row.picture: row for row in go(folder, tmp_path, Coarse(), settings=[1])}
    Image.fromarray(make_picture(seed=9)).save(folder / "b.png")
    after = {row.picture: row for row in go(folder, tmp_path, Coarse(), settings=[1])}
    assert before["a.PNG"] == after["a.PNG"]
    assert before["b.png"].digest != after["b.png"].digest
    assert len(read_rows(tmp_path / ROWS)) == 2


def test_a_new_metric_is_measured(folder: Path, tmp_path: Path) -> None:
    go(folder, tmp_path, Coarse(), settings=[1])
    both = {**METRICS, "ssim": lambda reference, distorted: 0.5}
    rows = run(find_pictures(folder), [Coarse()], both, tmp_path, settings=[1], console=Console(quiet=True))
    assert [set(row.metrics) for row in rows] == [{"psnr", "ssim"}] * 2


def test_rows_of_other_pictures_are_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    go(folder, tmp_path, Coarse(), settings=[1])
    (folder / "b.png").rename(folder / "c.png")
    with pytest.raises(InvalidArgument, match=r"rows\.jsonl holds rows of b\.png, which is not among the 2"):
        go(folder, tmp_path, Coarse(), settings=[1])


def test_a_codec_s_failure_is_a_row_and_is_tried_again(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path, Coarse(broken=2), settings=[1, 2])
    failed = [row for row in rows if row.setting == 2]
    assert {row.error for row in failed} == {"encode: RuntimeError: out of order"}
    assert [(row.pixels, row.bytes, row.metrics) for row in failed] == [(96 * 112, None, {})] * 2
    assert {row.error for row in go(folder, tmp_path, Coarse(), settings=[1, 2])} == {None}
    assert len(read_rows(tmp_path / ROWS)) == 4


def test_an_unreadable_picture_is_rows(folder: Path, tmp_path: Path) -> None:
    (folder / "text.png").write_text("not a picture")
    rows = go(folder, tmp_path, Coarse(), settings=[1])
    (failed,) = [row for row in rows if row.error]
    assert failed.picture == "text.png"
    assert failed.pixels is None
    assert (failed.error or "").startswith("load: UnidentifiedImageError")


def test_a_metric_s_failure_keeps_what_was_measured(folder: Path, tmp_path: Path) -> None:
    def broken(reference: Pixels, distorted: Pixels) -> float:
        raise ValueError("too small")

    metrics = {"psnr": psnr, "ms_ssim": broken, "ssim": lambda reference, distorted: math.nan}
    rows = run(
        find_pictures(folder), [Coarse()], metrics, tmp_path, settings=[1], console=Console(quiet=True)
    )
    assert {row.error for row in rows} == {"ms_ssim: ValueError: too small"}
    assert all(row.bytes and set(row.metrics) == {"psnr"} for row in rows)
    del metrics["ms_ssim"]
    rows = run(
        find_pictures(folder), [Coarse()], metrics, tmp_path, settings=[1], console=Console(quiet=True)
    )
    assert {row.error for row in rows} == {"ssim: InvalidArgument: not a number"}


def test_a_picture_of_another_size_is_a_failure(folder: Path, tmp_path: Path) -> None:
    class Cropping(Coarse):
        def decode(self, data: bytes) -> Pixels:
            return super().decode(data)[1:]

    (row, _) = go(folder, tmp_path, Cropping(), settings=[1])
    assert row.error == "decode: InvalidArgument: the picture is (96, 112, 3), and (95, 112, 3) came back"


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [
        Row("é.png", "0", "jpeg", "v", 50, "here", 12, 34, 22.7, {"psnr": math.inf, "ssim": 0.5}, 0.1, 0.2),
        Row("b.png", "0", "native", "v", 0.25, "here", error="encode: X: y"),
    ]
    write_rows(tmp_path / ROWS, rows)
    assert read_rows(tmp_path / ROWS) == rows
    assert "Infinity" not in (tmp_path / ROWS).read_text()
    assert [path.name for path in tmp_path.iterdir()] == [ROWS]


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"metrics": {}, "colour": 1}', '{"metrics": {"psnr": "x"}}']
)
def test_a_line_that_is_no_row(tmp_path: Path, line: str) -> None:
    good = Row("a.png", "0", "jpeg", "v", 50, "here").to_json()
    (tmp_path / ROWS).write_text(f"{good}\n{line}\n")
    with pytest.raises(InvalidArgument, match=r"rows\.jsonl, line 2: not a row"):
        read_rows(tmp_path / ROWS)


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / ROWS) == []
