"""Searching a quality: what is returned was measured and holds, whatever the curve looks like."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from latentcodec.codec.targets import (
    MAX_ATTEMPTS,
    PSNR,
    SSIMULACRA2,
    Attempt,
    meet_bpp,
    meet_measure,
    meet_size,
)
from latentcodec.container.header import MAX_QUALITY_LEVEL as TOP
from latentcodec.errors import TargetUnreachable

Curve = Callable[[int], float]
NOISE = [1 + 0.0005 * random.Random(level).gauss(0, 1) for level in range(TOP + 1)]

SIZES: dict[str, Curve] = {
    "exponential": lambda level: 1500 * 60 ** (level / TOP),
    "noisy": lambda level: 1500 * 60 ** (level / TOP) * NOISE[level],
    "late": lambda level: 2000 + 90_000 * (level / TOP) ** 12,
    "early": lambda level: 60 + 40_000 * (level / TOP) ** 0.1,
    "plateau": lambda level: 60 + (1000 * 30 ** ((level - 3500) / 500) if level >= 3500 else 0),
    "step": lambda level: 1000 if level < 1234 else 100_000,
}


class Searched:
    """An encoder that only counts: `size` and `psnr` of a level are rounded as real ones are."""

    def __init__(self, size: Curve, psnr: Curve = lambda level: 20 + 25 * level / TOP) -> None:
        self.size, self.psnr = size, psnr
        self.levels: list[int] = []

    def attempt(self, level: int) -> Attempt:
        assert 0 <= level <= TOP
        assert level not in self.levels, "encoded twice"
        self.levels.append(level)
        return Attempt(level, round(self.size(level)), self.psnr(level), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_met_from_below(name: str) -> None:
    curve = SIZES[name]
    sizes = [round(curve(level)) for level in range(TOP + 1)]
    chance = random.Random(7)
    for _ in range(40):
        target = round(sizes[0] + (sizes[-1] - sizes[0]) * chance.random() ** 3)
        searched = Searched(curve)
        met = meet_size(searched.attempt, target)
        assert met.size == sizes[met.level] <= target
        assert met.level in searched.levels
        assert len(searched.levels) <= MAX_ATTEMPTS + 2  # and the two ends
        # Within 1 %, or nothing that the search may call a neighbour comes closer.
        best = max(size for size in sizes if size <= target)
        assert met.size >= 0.99 * target or sizes[met.level + 1] > target or met.size == best


def test_a_common_curve_takes_few_encodings() -> None:
    for target in range(2000, 80_000, 1777):
        searched = Searched(SIZES["noisy"])
        assert meet_size(searched.attempt, target).size >= 0.99 * target
        assert len(searched.levels) <= 8


def test_sizes_out_of_reach_name_the_bound() -> None:
    searched = Searched(SIZES["exponential"])
    with pytest.raises(TargetUnreachable, match="at least 1500 bytes"):
        meet_size(searched.attempt, 1499)
    with pytest.raises(TargetUnreachable, match="at most 90000 bytes"):
        meet_size(Searched(SIZES["exponential"]).attempt, 91_000)
    with pytest.raises(TargetUnreachable, match="0 bytes"):
        meet_size(Searched(SIZES["exponential"]).attempt, 0)


def test_bits_per_pixel_out_of_reach_name_the_bound_in_them() -> None:
    with pytest.raises(TargetUnreachable) as most:
        meet_bpp(Searched(SIZES["exponential"]).attempt, 50, 225_000)
    assert str(most.value) == "target 50 bpp: quality 100 takes 3.2 bpp; ask for at most 3.2 bpp"
    with pytest.raises(TargetUnreachable) as least:
        meet_bpp(Searched(SIZES["exponential"]).attempt, 0.01, 225_000)
    assert (
        str(least.value) == "target 0.01 bpp: quality 0 still takes 0.05334 bpp; ask for at least 0.05334 bpp"
    )


@pytest.mark.parametrize("pixels", [1, 80, 65_537, 225_000, 178_956_970])
def test_bounds_in_bits_per_pixel_are_met(pixels: int) -> None:
    for target, level in ((1e-9, 0), (1e9, TOP)):
        with pytest.raises(TargetUnreachable) as told:
            meet_bpp(Searched(SIZES["exponential"]).attempt, target, pixels)
        bound = float(str(told.value).split()[-2])
        met = meet_bpp(Searched(SIZES["exponential"]).attempt, bound, pixels)
        assert abs(met.level - level) <= 10


@pytest.mark.parametrize("target", [1500, 1501, 89_999, 90_000, 90_500])
def test_sizes_at_the_ends_are_met(target: int) -> None:
    assert 0.99 * target <= meet_size(Searched(SIZES["exponential"]).attempt, target).size <= target


@pytest.mark.parametrize("target", [5.0, 20.0, 20.001, 31.7, 44.99, 45.0])
def test_psnr_is_met_from_above(target: float) -> None:
    searched = Searched(SIZES["exponential"])
    met = meet_measure(searched.attempt, target, PSNR)
    assert met.psnr is not None
    assert met.psnr >= target
    if target > 20:
        assert met.psnr <= target + 0.03
    else:
        assert met.level == 0
    assert len(searched.levels) <= 8


def test_psnr_curves_with_noise_and_infinity() -> None:
    def curve(level: int) -> float:
        return math.inf if level > 3000 else 30 * NOISE[level] + level / 400

    for target in (30.5, 33.3, 37.4):
        met = meet_measure(Searched(SIZES["exponential"], curve).attempt, target, PSNR)
        assert target <= curve(met.level) == met.psnr
        assert met.psnr < target + 0.1
    assert meet_measure(Searched(SIZES["exponential"], lambda level: math.inf).attempt, 99, PSNR).level == 0


def test_psnr_out_of_reach_names_the_bound() -> None:
    with pytest.raises(TargetUnreachable, match=r"quality 100 reaches 45\.00 dB"):
        meet_measure(Searched(SIZES["exponential"]).attempt, 45.01, PSNR)


def test_scores_are_met_from_above_and_their_bound_is_one_that_can_be_asked_for() -> None:
    def scored(level: int) -> Attempt:
        score = -30 + 124.4567 * level / TOP
        return Attempt(level, 100 + level, None, None, score)  # type: ignore[arg-type]

    for target in (0.5, 33.3, 70, 94.45):
        met = meet_measure(scored, target, SSIMULACRA2)
        assert met.ssimulacra2 is not None
        assert target <= met.ssimulacra2 <= target + 0.3
    with pytest.raises(
        TargetUnreachable,
        match=r"^target SSIMULACRA 2 94\.46: quality 100 reaches 94\.45; ask for at most that$",
    ):
        meet_measure(scored, 94.46, SSIMULACRA2)
    exact = Attempt(TOP, 2000, math.inf, None, ssimulacra2=100.0)  # type: ignore[arg-type]
    assert meet_measure(scored, 90, SSIMULACRA2, exact=exact) is exact
    assert meet_measure(scored, 100, SSIMULACRA2, exact=replace(exact, size=9999)).size == 9999


@pytest.mark.parametrize("share", [0.9, 0.97, 1.0, 1.02])
def test_quick_attempts_only_tell_where_to_begin(share: float) -> None:
    """Whatever the ratio of slow and quick sizes, the slow ones meet the target, in few attempts."""
    quick = SIZES["noisy"]
    for target in (1600, 7777, 30_000, 80_900):
        searched = Searched(lambda level: share * quick(level))
        met = meet_size(searched.attempt, target, Searched(quick).attempt)
        assert 0.99 * target <= met.size <= target
        assert met.level in searched.levels
        assert len(searched.levels) <= 9


@pytest.mark.parametrize("gain", [-0.1, 0.0, 0.2])
def test_quick_attempts_for_a_psnr(gain: float) -> None:
    for target in (20.3, 31.7, 44.5):
        searched = Searched(SIZES["noisy"], lambda level: 20 + gain + 25 * level / TOP)
        met = meet_measure(searched.attempt, target, PSNR, Searched(SIZES["noisy"]).attempt)
        assert met.psnr is not None
        assert target <= met.psnr <= target + 0.03
        assert len(searched.levels) <= 9


def test_what_quick_attempts_call_unreachable_is_tried() -> None:
    quick, slow = SIZES["exponential"], Searched(lambda level: 0.9 * SIZES["exponential"](level))
    assert meet_size(slow.attempt, 1400, Searched(quick).attempt).size <= 1400
    with pytest.raises(TargetUnreachable, match="at least 1350 bytes"):
        meet_size(Searched(lambda level: 0.9 * quick(level)).attempt, 1300, Searched(quick).attempt)
