"""runs.run: what a row holds, what a second run keeps; failures are rows too."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from benchmarks.metrics import Metric
from benchmarks.peers import Jpeg, Peer
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import find_data_set, sha256
from benchmarks.runs.environment import machine, packages
from benchmarks.runs.rows import PICTURES, ROWS, RUN, SCHEMA, STREAMS, Row, read_rows
from benchmarks.runs.run import run
from latentcodec.errors import InvalidArgument
from tests.benchmarks.conftest import Coarse, make_picture, psnr

PSNR = Metric(psnr, "PSNR", True, 0, math.inf)
HALF = Metric(lambda reference, distorted: 0.5, "half", True, 0, 1)


def go(
    folder: Path,
    out: Path,
    *peers: Peer,
    settings: Sequence[float] | None = None,
    metrics: dict[str, Metric] | None = None,
    resume: bool = True,
    console: Console | None = None,
) -> list[Row]:
    data = find_data_set(str(folder))
    console = console or Console(quiet=True)
    metrics = metrics or {"psnr": PSNR}
    return run(data, peers, metrics, out, settings=settings, resume=resume, console=console)


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
    assert 0 < values["encode_cpu_seconds"] < values["encode_seconds"] + 0.1
    assert values["decode_cpu_seconds"] > 0
    assert values["machine"] == machine()
    assert values["packages"] == packages()
    assert (values["schema"], values["jobs"], values["undefined"]) == (SCHEMA, 1, {})
    assert (values["width"], values["height"]) == (112, 96)
    assert values["error"] is None
    assert (tmp_path / STREAMS / values["stream"]).read_bytes() == data
    assert values["stream"].endswith(".jpg")
    with Image.open(tmp_path / PICTURES / f"{values['digest']}.png") as image:
        assert (np.asarray(image) == pixels).all()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is known on Linux alone")
def test_peak_memory_is_what_the_codec_takes(folder: Path, tmp_path: Path) -> None:
    class Hungry(Coarse):
        def encode(self, picture: Pixels, setting: float) -> bytes:
            np.ones(int(setting) * 10_000_000, np.uint8)
            return super().encode(picture, 1)

    for row in go(folder, tmp_path, Hungry(), settings=[1, 3, 6]):
        assert row.peak_memory is not None
        assert row.setting * 1e7 - 1e6 <= row.peak_memory < row.setting * 1e7 + 5e6


def test_the_description_of_the_run(folder: Path, tmp_path: Path) -> None:
    go(folder, tmp_path, Coarse(), settings=[1])
    about = json.loads((tmp_path / RUN).read_text())
    assert about["data_set"] == "photographs"
    assert [(each["name"], each["sha256"]) for each in about["pictures"]] == [
        (name, sha256(folder / name)) for name in ("a.PNG", "b.png")
    ]
    assert about["codecs"] == {"coarse": {"version": "1", "settings": [1]}}
    assert about["metrics"]["psnr"]["higher_is_better"] is True


def test_rows_stand_in_order_and_two_runs_agree(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path / "one", Jpeg(), Coarse(), settings=[5, 1])
    keys = [(row.picture, row.codec, row.setting) for row in rows]
    assert keys == sorted(keys)
    go(folder, tmp_path / "two", Coarse(), settings=[1])
    again = go(folder, tmp_path / "two", Coarse(), Jpeg(), settings=[1, 5])
    assert [(row.bytes, row.metrics, row.stream) for row in again] == [
        (row.bytes, row.metrics, row.stream) for row in rows
    ]


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
    rows = go(folder, tmp_path, Coarse(), settings=[1], metrics={"psnr": PSNR, "ssim": HALF})
    assert [set(row.metrics) for row in rows] == [{"psnr", "ssim"}] * 2


def test_rows_of_other_pictures_are_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    go(folder, tmp_path, Coarse(), settings=[1])
    (folder / "b.png").unlink()
    Image.fromarray(make_picture(seed=9)).save(folder / "c.png")
    with pytest.raises(InvalidArgument, match=r"rows\.jsonl holds rows of b\.png, which is not among the 2"):
        go(folder, tmp_path, Coarse(), settings=[1])
    rows = go(folder, tmp_path, Coarse(), settings=[1], resume=False)
    assert [row.picture for row in rows] == ["a.PNG", "c.png"]


def test_a_picture_of_another_name_is_known_by_its_contents(folder: Path, tmp_path: Path) -> None:
    go(folder, tmp_path, Coarse(), settings=[1])
    (folder / "b.png").rename(folder / "c.png")
    (folder / "copy.png").write_bytes((folder / "c.png").read_bytes())
    idle = Coarse()
    rows = go(folder, tmp_path, idle, settings=[1])
    assert [row.picture for row in rows] == ["a.PNG", "c.png", "copy.png"]
    assert idle.encoded == []


def test_fresh_measures_all_again(folder: Path, tmp_path: Path) -> None:
    go(folder, tmp_path, Coarse(), settings=[1, 2])
    again = Coarse()
    rows = go(folder, tmp_path, again, settings=[1], resume=False)
    assert set(again.encoded) == {1}
    assert {row.setting for row in rows} == {1}
    assert {path.name for path in (tmp_path / STREAMS).iterdir()} == {row.stream for row in rows}


def test_a_row_whose_stream_is_gone_is_measured_again(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path, Coarse(), settings=[1, 2])
    (tmp_path / STREAMS / str(rows[1].stream)).unlink()
    again = Coarse()
    assert [row.stream for row in go(folder, tmp_path, again, settings=[1, 2])] == [
        row.stream for row in rows
    ]
    assert set(again.encoded) == {2}


def test_a_file_of_the_first_schema_is_measured_again_and_that_is_said(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path, Coarse(), settings=[1])
    new = {"schema", "width", "height", "encode_cpu_seconds", "decode_cpu_seconds", "peak_memory", "jobs"}
    new |= {"packages", "stream", "undefined"}
    lines = [json.loads(row.to_json()) for row in rows]
    text = "".join(json.dumps({k: v for k, v in line.items() if k not in new}) + "\n" for line in lines)
    (tmp_path / ROWS).write_text(text)
    old = read_rows(tmp_path / ROWS)
    assert [(row.schema, row.stream, row.bytes) for row in old] == [(1, None, row.bytes) for row in rows]
    console = Console(file=io.StringIO(), width=200)
    rows = go(folder, tmp_path, Coarse(), settings=[1], console=console)
    assert [row.schema for row in rows] == [SCHEMA] * 2
    assert "2 rows are of an older schema" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_a_kill_leaves_half_written_is_removed(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path, Coarse(), settings=[1])
    left = f".{'0' * 16}.tmp"
    stale = [tmp_path / name / left for name in ("", STREAMS, PICTURES)]
    stale += [tmp_path / PICTURES / f"{'0' * 16}.png", tmp_path / STREAMS / f"{'0' * 32}.jpg"]
    foreign = [tmp_path / "notes.txt", tmp_path / PICTURES / "mine.png", tmp_path / STREAMS / "mine.jpg"]
    for path in stale + foreign:
        path.write_text("x")
    assert go(folder, tmp_path, Coarse(), settings=[1]) == rows
    assert [path for path in stale if path.exists()] == []
    assert all(path.exists() for path in foreign)
    assert {path.name for path in (tmp_path / PICTURES).iterdir()} == {
        "mine.png",
        *(f"{row.digest}.png" for row in rows),
    }


def test_results_do_not_go_among_the_pictures(folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / PICTURES)
    with pytest.raises(InvalidArgument, match="holds the data set"):
        go(tmp_path / PICTURES, tmp_path, Coarse())
    assert {path.name for path in tmp_path.iterdir()} == {PICTURES}


def test_a_second_run_in_the_same_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InvalidArgument, match="another run is writing there"):
            go(folder, tmp_path, Coarse())


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
    assert str(folder) not in (failed.error or "")


def test_a_metric_s_failure_keeps_what_was_measured(folder: Path, tmp_path: Path) -> None:
    def broken(reference: Pixels, distorted: Pixels) -> float:
        raise ValueError("too small")

    metrics = {
        "psnr": PSNR,
        "ms_ssim": replace(HALF, function=broken),
        "ssim": replace(HALF, function=lambda reference, distorted: math.nan),
    }
    rows = go(folder, tmp_path, Coarse(), settings=[1], metrics=metrics)
    assert {row.error for row in rows} == {"ms_ssim: ValueError: too small"}
    assert all(row.bytes and set(row.metrics) == {"psnr"} for row in rows)
    del metrics["ms_ssim"]
    rows = go(folder, tmp_path, Coarse(), settings=[1], metrics=metrics)
    assert {row.error for row in rows} == {"ssim: InvalidArgument: not a number"}
    assert {row.stream for row in rows} == {None}


def test_a_metric_that_a_picture_is_too_small_for(folder: Path, tmp_path: Path) -> None:
    metrics = {"psnr": PSNR, "large": replace(HALF, smallest_side=100)}
    rows = go(folder, tmp_path, Coarse(), settings=[1], metrics=metrics)
    assert [(set(row.metrics), row.undefined, row.error) for row in rows] == [
        ({"psnr"}, {"large": "needs 100x100"}, None)
    ] * 2
    idle = Coarse()
    go(folder, tmp_path, idle, settings=[1], metrics=metrics)
    assert idle.encoded == []


def test_pictures_of_any_size(tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for height, width in ((1, 1), (3, 200), (40, 7)):
        Image.fromarray(make_picture(height, width)).save(folder / f"{height}x{width}.png")
    rows = go(folder, tmp_path / "out", Jpeg(), settings=[50])
    assert [(row.width, row.height) for row in rows] == [(1, 1), (200, 3), (7, 40)]
    assert {row.error for row in rows} == {None}


def test_a_picture_of_another_size_is_a_failure(folder: Path, tmp_path: Path) -> None:
    class Cropping(Coarse):
        def decode(self, data: bytes) -> Pixels:
            return super().decode(data)[1:]

    (row, _) = go(folder, tmp_path, Cropping(), settings=[1])
    assert row.error == "decode: InvalidArgument: the picture is (96, 112, 3), and (95, 112, 3) came back"
