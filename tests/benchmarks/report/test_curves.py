"""report.curves: means over the same pictures everywhere, and a word for whatever is left out."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.metrics import METRICS
from benchmarks.report.curves import AXES, mean_curves, published_curves, sweeps
from benchmarks.runs.rows import Row


def row(
    picture: str, setting: float, bpp: float, codec: str = "jpeg", error: str | None = None, **metrics: float
) -> Row:
    return Row(picture, "0", codec, "1", setting, "here", 100, 10, bpp, metrics, 0.1, 0.1, error)


def test_means_of_rate_and_quality() -> None:
    rows = [
        row("a", 2, 1.0, psnr=30),
        row("b", 2, 2.0, psnr=34),
        row("a", 1, 0.5, psnr=20),
        row("b", 1, 0.7, psnr=24),
    ]
    curves, notes = mean_curves(rows, "psnr")
    assert notes == []
    curve = curves["jpeg"]
    assert (curve.pictures, curve.settings, curve.quality) == (2, (1, 2), (22, 32))
    assert curve.bpp == pytest.approx((0.6, 1.5))


def test_decibels_are_of_the_mean() -> None:
    curves, _ = mean_curves([row("a", 1, 1, ms_ssim=0.9), row("b", 1, 1, ms_ssim=0.98)], "ms_ssim")
    assert curves["jpeg"].quality == pytest.approx((-10 * math.log10(1 - 0.94),))


def test_values_of_zero_and_below_count() -> None:
    curves, notes = mean_curves(
        [row("a", 1, 1, ssimulacra2=0.0), row("b", 1, 1, ssimulacra2=-20.0)], "ssimulacra2"
    )
    assert curves["jpeg"].quality == (-10,)
    assert notes == []


def test_ours_comes_first() -> None:
    rows = [row("a", 1, 1, codec, psnr=30) for codec in ("webp", "avif", "native", "jpeg")]
    assert list(mean_curves(rows, "psnr")[0]) == ["native", "avif", "jpeg", "webp"]


def test_a_setting_with_a_failure_is_left_out() -> None:
    rows = [
        row("a", 1, 1, psnr=30),
        row("b", 1, 1, error="encode: x"),
        row("a", 2, 2, psnr=33),
        row("b", 2, 2, psnr=35),
    ]
    curves, notes = mean_curves(rows, "psnr")
    assert curves["jpeg"].settings == (2,)
    assert notes == ["psnr: jpeg 1 is left out: 1 of 2 pictures"]


def test_a_picture_that_no_codec_can_be_measured_on_is_left_out() -> None:
    rows = [row("tiny", 1, 1, psnr=30, error="ms_ssim: too small"), row("b", 1, 1, psnr=30, ms_ssim=0.9)]
    curves, notes = mean_curves(rows, "ms_ssim")
    assert curves["jpeg"].pictures == 1
    assert notes == ["ms_ssim: tiny is left out, since no codec has a value for it"]
    assert mean_curves(rows, "psnr")[0]["jpeg"].pictures == 2


def test_an_interrupted_picture_is_left_out_everywhere() -> None:
    rows = [row(name, 1, 1, codec, psnr=30) for name in ("a", "b") for codec in ("jpeg", "webp")][:3]
    curves, notes = mean_curves(rows, "psnr")
    assert {curve.pictures for curve in curves.values()} == {1}
    assert notes == ["psnr: b is left out, since the run has not finished with it"]


def test_a_lossless_point_is_left_out() -> None:
    curves, notes = mean_curves([row("a", 1, 1, psnr=30), row("a", 2, 2, psnr=math.inf)], "psnr")
    assert curves["jpeg"].settings == (1,)
    assert notes == ["psnr: jpeg 2 is left out, since it lost nothing"]
    _, notes = mean_curves([row("a", 2, 1, psnr=30), row("b", 2, 2, psnr=math.inf)], "psnr")
    assert notes == ["psnr: jpeg 2 is left out, since it lost nothing on 1 of 2 pictures"]


@pytest.mark.parametrize("metric", ["psnr", "ssimulacra2"])
def test_a_picture_that_ours_keeps_without_loss_has_no_curve(metric: str) -> None:
    exact = {"psnr": math.inf, "ssimulacra2": 100.0}
    rows = [
        row("page", 1, 1, "native", psnr=30, ssimulacra2=50),
        row("page", 2, 2, "native", **exact),
        row("page", 1, 1, "jpeg", psnr=25, ssimulacra2=40),
        row("page", 2, 9, "jpeg", **exact),
        *(
            row("photo", i, i, codec, psnr=30 + i, ssimulacra2=60 + i)
            for codec in ("native", "jpeg")
            for i in (1, 2)
        ),
    ]
    curves, notes = mean_curves(rows, metric)
    assert curves["native"].bpp == curves["jpeg"].bpp == (1, 2)
    assert curves["native"].pictures == 1
    assert notes == [f"{metric}: page is left out, since native keeps it without loss"]


def test_no_rows_have_no_curves() -> None:
    assert mean_curves([], "psnr") == ({}, [])


def test_between_keeps_both_ends() -> None:
    curves, _ = mean_curves(
        [row("a", setting, setting, psnr=setting) for setting in (1, 5, 50, 90, 100)], "psnr"
    )
    assert curves["jpeg"].between(5, 90).settings == (5, 50, 90)


@pytest.mark.parametrize("metric", ["psnr", "ms_ssim"])
def test_published_curves_rise(metric: str) -> None:
    curves = published_curves(metric)
    assert "VVC (VTM)" in curves
    for curve in curves.values():
        assert list(curve.bpp) == sorted(curve.bpp)
        assert list(curve.quality) == sorted(curve.quality)
        assert 5 < curve.quality[0] < curve.quality[-1] < 50


def test_nothing_is_published_for_other_metrics() -> None:
    assert published_curves("ssimulacra2") == {}


def test_every_metric_of_the_suite_has_an_axis() -> None:
    assert set(AXES) == set(METRICS)
    for name, axis in AXES.items():
        better, worse = (0.9, 0.8) if METRICS[name].higher_is_better else (0.1, 0.2)
        assert axis.scale(better) > axis.scale(worse)


def test_a_metric_that_is_not_defined_says_why() -> None:
    tiny = replace(row("tiny", 1, 1, psnr=30), undefined={"ms_ssim": "needs 161x161"})
    _, notes = mean_curves([tiny, row("b", 1, 1, psnr=30, ms_ssim=0.9)], "ms_ssim")
    assert notes == ["ms_ssim: tiny is left out, since it is not defined there: needs 161x161"]


def test_a_sweep_keeps_the_pictures_apart() -> None:
    rows = [row(name, s, s * f, psnr=20 + s * f) for name, f in (("a", 1), ("b", 2)) for s in (1, 2, 3)]
    sweep = sweeps(rows, "psnr")[0]["jpeg"].between(2, 3)
    assert sweep.bpp.tolist() == [[2, 3], [4, 6]]
    assert sweep.of_picture(1, AXES["psnr"]).quality == (24, 26)
    assert sweep.mean(AXES["psnr"]).bpp == (3, 4.5)
