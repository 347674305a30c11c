"""report.bd_rate, against curves whose answer is known and against the package bjontegaard."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metrics import METRICS
from benchmarks.peers import make_peer
from benchmarks.report.bd_rate import bd_rate
from benchmarks.report.curves import mean_curves, published_curves
from benchmarks.runs.rows import Row
from latentcodec.errors import InvalidArgument
from tests.benchmarks.conftest import make_picture

DATA = Path(__file__).parent / "data"
RATES = (0.1, 0.2, 0.45, 0.9, 1.7)
QUALITIES = (25.0, 28.0, 31.5, 35.0, 39.0)


def scaled(factor: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(factor * rate for rate in RATES), QUALITIES


def test_the_same_curve_is_zero() -> None:
    result = bd_rate(scaled(1), scaled(1))
    assert result.percent == pytest.approx(0, abs=1e-12)
    assert (result.low, result.high, result.warning) == (25.0, 39.0, None)


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.25, 2.0])
def test_a_constant_factor_is_found(factor: float) -> None:
    assert bd_rate(scaled(1), scaled(factor)).percent == pytest.approx(100 * (factor - 1))


def test_straight_lines_over_a_part_of_both() -> None:
    # ln(rate) = 0.2 q against ln(rate) = 0.25 q - 1.5, over q in [30, 35]: the mean difference is
    # 0.05 * 32.5 - 1.5 = 0.125. PCHIP is exact on straight lines.
    first, second = np.linspace(25, 35, 6), np.linspace(30, 41, 5)
    result = bd_rate((np.exp(0.2 * first), first), (np.exp(0.25 * second - 1.5), second))
    assert result.percent == pytest.approx(100 * math.expm1(0.125))
    assert (result.low, result.high) == (30, 35)


def test_order_does_not_matter() -> None:
    shuffled = (RATES[::-1], QUALITIES[::-1])
    assert bd_rate(shuffled, scaled(0.7)).percent == pytest.approx(-30)


def test_swapping_inverts_the_ratio() -> None:
    other = ((0.15, 0.4, 0.8, 2.1), (27.0, 31.0, 34.0, 40.0))
    there, back = bd_rate(scaled(1), other).percent, bd_rate(other, scaled(1)).percent
    assert (1 + there / 100) * (1 + back / 100) == pytest.approx(1)


@settings(deadline=None)  # the first example imports the package
@given(st.integers(0, 2**32 - 1), st.integers(4, 9), st.integers(4, 9))
def test_agrees_with_the_package_bjontegaard(seed: int, points: int, others: int) -> None:
    oracle = pytest.importorskip("bjontegaard")
    random = np.random.default_rng(seed)
    curves = []
    for count in (points, others):
        rates = np.exp(np.cumsum(random.uniform(0.1, 0.8, count)) - 3)
        # Both begin by 26 and end after 26.4, so that they always overlap.
        steps = random.uniform(0.8, 4, count - 1)
        qualities = 24 + random.uniform(0, 2) + np.cumsum([0, *steps])
        curves.append((rates, qualities))
    (anchor, test) = curves
    theirs = oracle.bd_rate(*anchor, *test, method="pchip", require_matching_points=False, min_overlap=0)
    assert bd_rate(anchor, test, least_overlap=0).percent == pytest.approx(theirs, rel=1e-9, abs=1e-9)


def test_all_pairs_of_a_real_result_agree_with_bjontegaard() -> None:
    import bjontegaard as oracle

    rows = []
    for name in ("jpeg", "webp", "jpeg2000"):
        peer = make_peer(name)
        for seed in range(3):
            picture = make_picture(seed=seed)
            for setting in peer.settings:
                data = peer.encode(picture, setting)
                metrics = {each: METRICS[each](picture, peer.decode(data)) for each in ("psnr", "ssim")}
                bpp = 8 * len(data) / (96 * 112)
                rows.append(Row(f"{seed}", "0", name, "1", setting, "", 96 * 112, len(data), bpp, metrics))
    pairs = 0
    for metric in ("psnr", "ssim"):
        curves, _ = mean_curves(rows, metric)
        for anchor in curves.values():
            for test in curves.values():
                pair = ((anchor.bpp, anchor.quality), (test.bpp, test.quality))
                theirs = oracle.bd_rate(
                    *pair[0], *pair[1], method="pchip", require_matching_points=False, min_overlap=0
                )
                assert bd_rate(*pair).percent == pytest.approx(theirs, rel=1e-3, abs=1e-9)
                pairs += 1
    assert pairs == 18


@pytest.mark.parametrize("metric", ["psnr", "ms_ssim", "ssimulacra2"])
def test_all_pairs_on_kodak_agree_with_bjontegaard(metric: str) -> None:
    import bjontegaard as oracle

    measured = json.loads((DATA / "kodak_curves.json").read_text(encoding="utf-8"))["curves"][metric]
    curves = {name: (curve["bpp"], curve["quality"]) for name, curve in measured.items()}
    curves |= {name: (curve.bpp, curve.quality) for name, curve in published_curves(metric).items()}
    assert len(curves) == {"psnr": 9, "ms_ssim": 8, "ssimulacra2": 4}[metric]
    for anchor in curves.values():
        for test in curves.values():
            theirs = oracle.bd_rate(
                *anchor, *test, method="pchip", require_matching_points=False, min_overlap=0
            )
            assert bd_rate(anchor, test).percent == pytest.approx(theirs, rel=1e-3, abs=1e-6)


def test_jpeg_against_published_curves() -> None:
    # JPEG by Pillow 13 on Kodak (mean of 24), and the delta rates that were computed from it elsewhere.
    bpp = (0.15427, 0.26837, 0.36949, 0.45818, 0.615, 0.86484, 1.31531, 2.20697)
    psnr = (23.8522, 26.6718, 28.1448, 29.1445, 30.4915, 32.1738, 34.5221, 38.034)
    known = {"hyperprior (Ballé 2018)": -51.9, "ELIC (He 2022)": -65.4, "VVC (VTM)": -66.1}
    for name, percent in known.items():
        curve = published_curves("psnr")[name]
        result = bd_rate((bpp, psnr), (curve.bpp, curve.quality), good_overlap=8)
        assert result.percent == pytest.approx(percent, abs=0.05)
        assert result.warning is None


def test_a_narrow_overlap_warns() -> None:
    result = bd_rate(scaled(1), ((1.0, 2.0), (36.0, 41.0)), good_overlap=8)
    assert result.warning is not None
    assert "3.00 wide" in result.warning
    assert bd_rate(scaled(1), ((1.0, 2.0), (36.0, 41.0)), good_overlap=3).warning is None


@pytest.mark.parametrize("qualities", [(38.5, 41.0), (39.0, 41.0), (45.0, 50.0), (10.0, 25.5)])
def test_too_little_overlap_raises(qualities: tuple[float, float]) -> None:
    with pytest.raises(InvalidArgument, match=r"share too little: the anchor spans 25\.00 to 39\.00"):
        bd_rate(scaled(1), ((1.0, 2.0), qualities))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (((0.1,), (30.0,)), "two points or more"),
        (((0.1, 0.2), (30.0,)), "2 rates and 1 qualities"),
        (((0.1, 0.0), (30.0, 33.0)), "must be positive"),
        (((0.1, math.inf), (30.0, 33.0)), "must be positive and finite"),
        (((0.1, 0.2), (30.0, math.inf)), "qualities finite"),
        (((0.1, 0.2, 0.3), (30.0, 33.0, 30.0)), "the same quality, 30"),
    ],
)
def test_what_is_no_curve_raises(test: tuple[tuple[float, ...], tuple[float, ...]], message: str) -> None:
    with pytest.raises(InvalidArgument, match=f"test: .*{message}"):
        bd_rate(scaled(1), test)
