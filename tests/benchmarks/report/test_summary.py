"""report.summary: BD-rates with their intervals, curves that do not meet, and what must not be mixed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.summary import measured, summarise
from benchmarks.runs.rows import Row, read_rows

DATA = Path(__file__).parent / "data"
SETTINGS = (5, 30, 60, 90)


def curve(
    picture: str, codec: str, factor: float, *, shift: float = 0, settings: Any = SETTINGS
) -> list[Row]:
    """A picture whose rate is exp(quality / 5) times the factor, at qualities from 25 + shift on."""
    rows = []
    for setting in settings:
        quality = 24 + setting / 6 + shift
        bpp = factor * math.exp(quality / 5) / 1000
        metrics = {"psnr": quality}
        rows.append(Row(picture, "0", codec, "1", setting, "here", 10**5, 1000, bpp, metrics, 0.2, 0.1))
    return rows


def summary_of(rows: list[Row]) -> dict[str, Any]:
    return summarise(rows, measured(rows))


def test_intervals_hold_the_figure_and_follow_the_pictures() -> None:
    factors = {"a": 0.5, "b": 0.7, "c": 0.9, "d": 1.1}
    rows = [row for name in factors for row in curve(name, "jpeg", 1)]
    rows += [row for name, factor in factors.items() for row in curve(name, "native", factor)]
    rows += [row for name in factors for row in curve(name, "webp", 0.8)]
    summary = summary_of(rows)
    there, back = summary["bd_rate"]["native"]["jpeg"]["psnr"], summary["bd_rate"]["jpeg"]["native"]["psnr"]
    assert there["percent"] == pytest.approx(-20)
    low, high = there["interval"]
    assert -50 < low < -30 < -10 < high < 10
    # The same draws both ways: the ends are each other's inverse.
    assert [100 * (1 / (1 + end / 100) - 1) for end in reversed(back["interval"])] == pytest.approx(
        [low, high], abs=0.1
    )
    assert summary["bd_rate"]["webp"]["jpeg"]["psnr"]["interval"] == pytest.approx((-20, -20))
    assert summary_of(rows) == summary
    worst = summary["worst_first"]
    assert [each["picture"] for each in worst["pictures"]] == ["d", "c", "b", "a"]
    assert worst["pictures"][0]["percent"] == pytest.approx(10)


def test_one_picture_has_no_interval() -> None:
    summary = summary_of(curve("a", "native", 0.5) + curve("a", "jpeg", 1))
    figure = summary["bd_rate"]["native"]["jpeg"]["psnr"]
    assert (figure["percent"], figure["interval"]) == (pytest.approx(-50), None)


def test_a_codec_with_one_point_has_a_curve_and_no_rate() -> None:
    rows = [row for name in "ab" for row in curve(name, "jpeg", 1) + curve(name, "native", 1, settings=[30])]
    summary = summary_of(rows)
    assert summary["codecs"]["native"]["curves"]["psnr"]["bpp"] == (pytest.approx(math.exp(29 / 5) / 1000),)
    assert "a curve has two points or more" in summary["bd_rate"]["native"]["jpeg"]["psnr"]["error"]
    assert summary["per_picture"]["psnr"]["native"]["jpeg"] == {"a": None, "b": None}
    assert summary["worst_first"] is None


def test_pictures_whose_curves_do_not_meet() -> None:
    rows = [row for name in "abc" for row in curve(name, "jpeg", 1)]
    rows += [
        row
        for name, shift in (("a", 0), ("b", 30), ("c", 0))
        for row in curve(name, "native", 0.8, shift=shift)
    ]
    summary = summary_of(rows)
    there = summary["per_picture"]["psnr"]["native"]["jpeg"]
    assert there == {"a": pytest.approx(-20), "b": None, "c": pytest.approx(-20)}
    assert summary["per_picture"]["psnr"]["jpeg"]["native"]["b"] is None
    assert {each["picture"] for each in summary["worst_first"]["pictures"]} == {"a", "c"}
    # The means overlap, but those of too many draws do not: a figure without an interval.
    assert "percent" in summary["bd_rate"]["native"]["jpeg"]["psnr"]
    assert summary["bd_rate"]["native"]["jpeg"]["psnr"]["interval"] is None


def test_what_is_mixed_is_said() -> None:
    rows = curve("a", "jpeg", 1)
    mixed = [
        replace(rows[0], packages="numpy 1", jobs=2, width=20, height=30),
        replace(rows[1], packages="numpy 2", machine="there", version="2"),
        *rows[2:],
    ]
    left_out = "\n".join(measured(mixed).notes)
    for note in (
        "jpeg: rows of 2 versions are averaged: 1; 2",
        "rows were measured with 2 sets of package versions: numpy 1; numpy 2",
        "times come from 2 machines",
        "up to 2 processes measured",
        "mostly header: a (20x30)",
    ):
        assert note in left_out
    assert measured(rows).notes == []


def test_a_real_file_of_the_first_schema() -> None:
    rows = read_rows(DATA / "rows_schema_1.jsonl")
    summary = summary_of(rows)
    assert {row.schema for row in rows} == {1}
    assert summary["pictures"] == 3
    for metric in ("psnr", "ms_ssim", "ssimulacra2"):
        figure = summary["bd_rate"]["native"]["jpeg"][metric]
        assert figure["interval"][0] <= figure["percent"] <= figure["interval"][1] < -20
    assert f"{len(rows)} rows are of an older schema" in summary["left_out"][0]
