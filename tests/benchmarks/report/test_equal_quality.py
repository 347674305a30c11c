"""report.equal_quality: the delta rate where all is lossy, and what a file without loss is worth."""

from __future__ import annotations

import math

import pytest

from benchmarks.report.bd_rate import bd_rate
from benchmarks.report.equal_quality import percent, turns_lossless
from benchmarks.runs.rows import Row


def row(codec: str, bpp: float, psnr: float, picture: str = "a") -> Row:
    return Row(
        picture=picture,
        digest="0" * 64,
        codec=codec,
        version="1",
        setting=bpp,
        machine="m",
        pixels=8,
        bytes=max(1, round(bpp)),
        bpp=bpp,
        metrics={"psnr": psnr, "ms_ssim": 1.0 if math.isinf(psnr) else 1 - 10 ** (-psnr / 20)},
    )


def curve(codec: str, factor: float, low: int, high: int, picture: str = "a") -> list[Row]:
    return [row(codec, factor * 1.2**db, db, picture) for db in range(low, high + 1, 5)]


def test_without_lossless_files_it_is_the_delta_rate() -> None:
    rows = curve("webp", 1.0, 20, 40) + curve("native", 0.7, 25, 50)
    expected = bd_rate(
        *(([r.bpp or 0 for r in of], [r.metrics["psnr"] for r in of]) for of in (rows[:5], rows[5:]))
    )
    assert not turns_lossless(rows, "native")
    assert percent(rows, "native", "webp", "psnr", {}) == pytest.approx(expected.percent, abs=0.1)
    assert percent(rows, "native", "webp", "psnr", {}) == pytest.approx(-30, abs=0.1)


@pytest.mark.parametrize("metric", ["psnr", "ms_ssim"])
def test_a_file_without_loss_serves_all_qualities(metric: str) -> None:
    rows = [*curve("webp", 1.0, 20, 40), row("native", 1.2**30, math.inf)]
    assert turns_lossless(rows, "native")
    # As many bytes as WebP at 30 dB: dearer below, cheaper above, even in the mean.
    assert percent(rows, "native", "webp", metric, {}) == pytest.approx(0, abs=0.5)


def test_above_the_lossy_files_it_takes_over_and_below_only_where_it_is_smaller() -> None:
    lossy = curve("native", 2.0, 20, 30)
    rows = [*curve("webp", 1.0, 20, 40), *lossy, row("native", 1.2**28, math.inf)]
    logs = [min(math.log(2) + d * math.log(1.2), 28 * math.log(1.2)) for d in _grid(20, 30)]
    logs += [28 * math.log(1.2) for _ in _grid(30, 40)]
    expected = sum(logs) / len(logs) - 30 * math.log(1.2)
    assert percent(rows, "native", "webp", "psnr", {}) == pytest.approx(100 * math.expm1(expected), abs=1)


def _grid(low: float, high: float) -> list[float]:
    return [low + (high - low) * index / 1000 for index in range(1000)]


def test_pictures_count_alike() -> None:
    rows = [
        *curve("webp", 1.0, 20, 40, "a"),
        *curve("native", 0.5, 20, 40, "a"),
        *curve("webp", 1000.0, 20, 40, "b"),
        *curve("native", 2000.0, 20, 40, "b"),
    ]
    assert percent(rows, "native", "webp", "psnr", {}) == pytest.approx(0, abs=0.1)


def test_too_little_to_compare_is_no_figure() -> None:
    exact = row("native", 3, math.inf)
    assert percent([exact], "native", "webp", "psnr", {}) is None
    assert percent([exact, row("webp", 1, 30)], "native", "webp", "psnr", {}) is None
    assert (
        percent(curve("webp", 1, 20, 30) + curve("native", 1, 35, 45), "native", "webp", "psnr", {}) is None
    )
    assert percent([], "native", "webp", "psnr", {}) is None


def test_the_anchor_may_be_lossless_too() -> None:
    rows = [*curve("webp", 1.0, 20, 40), row("native", 1.2**22, math.inf)]
    alone = percent(rows, "native", "webp", "psnr", {})
    both = percent(rows, "native", "webp", "psnr", {"a": 1.2**22 / 1.02})
    assert alone is not None
    assert both is not None
    assert alone < -60
    # Equal but for 2 % above 22 dB; dearer below, where WebP's lossy files are smaller.
    assert both == pytest.approx(100 * math.expm1(0.9 * math.log(1.02) + 0.1 * math.log(1.2)), abs=1)


def test_a_hair_of_overlap_is_no_figure() -> None:
    rows = [*curve("webp", 1, 20, 30), row("native", 1, 29.6), row("native", 1.1, 45)]
    assert percent(rows, "native", "webp", "psnr", {}) is None
