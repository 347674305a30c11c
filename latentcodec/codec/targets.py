"""Rate targets: the quality level whose real file, or really decoded picture, meets what was asked for.

    target ─► bracket levels ─► encode, measure ─► narrow ─► the best attempt that holds

Size and PSNR rise with the level but for noise of a few hundredths of a per cent, so the search brackets and
interpolates, and only ever returns an attempt that was measured. Where attempts are slow, quick ones
(`rough`) of about the same size and PSNR give the level to begin at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from latentcodec.container.file import File
from latentcodec.container.header import MAX_QUALITY_LEVEL
from latentcodec.errors import TargetUnreachable

CLOSE_SIZE = 0.995  # a size of this share of the target or more ends the search
GUESSES = 8
FIRST_STEP = 40  # levels that a slow attempt is tried beside where a quick one met the target
MAX_ATTEMPTS = GUESSES + 12  # twelve halvings of 4000 levels end at neighbours


@dataclass(frozen=True)
class Encoded:
    """A file at one level, and its bytes."""

    file: File
    data: bytes


@dataclass(frozen=True)
class Attempt:
    """A measured encoding: file bytes, PSNR and SSIMULACRA 2 where they were measured, the encoding
    itself."""

    level: int
    size: int
    psnr: float | None
    encoded: Encoded
    ssimulacra2: float | None = None


Attempts = Callable[[int], Attempt]


@dataclass(frozen=True)
class Measure:
    """A measure of the decoded picture that a target may name.

    close: a value of so little above ends a search. scale: of values, rising, on which levels lie about
    evenly.
    """

    name: str
    unit: str
    close: float
    of: Callable[[Attempt], float | None]
    scale: Callable[[float], float] = float

    def __call__(self, attempt: Attempt) -> float:
        """What the attempt reaches; what has no loss does not reach infinity."""
        reached = self.of(attempt)
        return min(reached if reached is not None else 0.0, 200.0)

    def told(self, value: float) -> str:
        """The value, rounded down: what is asked for as it was told is met."""
        return f"{math.floor(100 * value) / 100:.2f}{self.unit}"


PSNR = Measure("PSNR", " dB", 0.02, lambda attempt: attempt.psnr)
# Neighbouring levels differ by 0.1 to 0.2 of noise.
SSIMULACRA2 = Measure(
    "SSIMULACRA 2", "", 0.25, lambda attempt: attempt.ssimulacra2, lambda score: -math.log(101 - score)
)


def meet_size(
    attempt: Attempts, target: int, rough: Attempts | None = None, exact: Attempt | None = None
) -> Attempt:
    """The largest file of at most `target` bytes, or `exact`, which has no loss, if that is one.

    Raises TargetUnreachable naming the bound in bytes.
    """
    asked = f"target size {target} bytes"
    return _largest(attempt, target, asked, lambda size: f"{size} bytes", rough, exact)


def meet_bpp(
    attempt: Attempts,
    target: float,
    pixels: int,
    rough: Attempts | None = None,
    exact: Attempt | None = None,
) -> Attempt:
    """As meet_size, of at most `target` bits per pixel."""

    def describe(size: int) -> str:
        # Four digits, rounded up: a bound that is asked for as it was described is met.
        step = 10.0 ** (math.floor(math.log10(8 * size / pixels)) - 3)
        return f"{math.ceil(8 * size / pixels / step - 1e-12) * step:.4g} bpp"

    return _largest(attempt, bytes_of_bpp(target, pixels), f"target {target:g} bpp", describe, rough, exact)


def bytes_of_bpp(target: float, pixels: int) -> int:
    """The most bytes of a file of so many bits per pixel."""
    return math.floor(target * pixels / 8 + 1e-6)  # a product that should be whole may be a hair below


def _largest(
    attempt: Attempts,
    limit: int,
    asked: str,
    describe: Callable[[int], str],
    rough: Attempts | None,
    exact: Attempt | None,
) -> Attempt:
    """The largest file of at most `limit` bytes; the errors say `asked`, and `describe` a size."""
    if exact is not None and exact.size <= limit:
        return exact

    def excess(tried: Attempt) -> float:
        return math.log(tried.size / limit)

    attempt, close = cache(attempt), math.log(CLOSE_SIZE)
    if rough is not None:
        try:
            start = _largest(rough, limit, asked, describe, None, None).level
        except TargetUnreachable:  # by a hair, perhaps
            start = None
        if start is not None and (ends := _around(attempt, start, excess, rising=True)):
            return _narrow(attempt, *ends, excess, close)
    high = attempt(MAX_QUALITY_LEVEL)
    if high.size <= limit:
        if high.size < limit * 0.99:
            bound = describe(high.size)
            more = "" if exact is None else f", or for {describe(exact.size)}, which is lossless"
            raise TargetUnreachable(f"{asked}: quality 100 takes {bound}; ask for at most {bound}{more}")
        return high
    low = attempt(0)
    if low.size > limit:
        bound = describe(low.size if exact is None else min(low.size, exact.size))
        least = describe(low.size)
        if exact is not None and low.size == exact.size:
            raise TargetUnreachable(f"{asked}: stored losslessly it takes {least}; ask for at least that")
        raise TargetUnreachable(f"{asked}: quality 0 still takes {least}; ask for at least {bound}")
    return _narrow(attempt, low, high, excess, close)


def meet_measure(
    attempt: Attempts,
    target: float,
    measure: Measure,
    rough: Attempts | None = None,
    exact: Attempt | None = None,
) -> Attempt:
    """The smallest file whose picture reaches at least `target`, which may be `exact`, without loss.

    Raises TargetUnreachable naming the bound.
    """
    attempt = cache(attempt)
    if exact is not None and exact.size <= attempt(0).size:
        return exact
    try:
        met = _least(attempt, target, measure, rough)
    except TargetUnreachable:
        if exact is None:
            raise
        return exact
    return met if exact is None or met.size < exact.size else exact


def _least(attempt: Attempts, target: float, measure: Measure, rough: Attempts | None) -> Attempt:
    """The smallest file with loss that reaches `target`."""

    wanted = measure.scale(target)
    close = wanted - measure.scale(target + measure.close)

    def excess(tried: Attempt) -> float:
        return wanted - measure.scale(measure(tried))

    attempt = cache(attempt)
    if rough is not None:
        try:
            start = _least(rough, target, measure, None).level
        except TargetUnreachable:
            start = None
        if start is not None and (ends := _around(attempt, start, excess, rising=False)):
            return _narrow(attempt, *ends, excess, close)
    low = attempt(0)
    if measure(low) >= target:
        return low
    high = attempt(MAX_QUALITY_LEVEL)
    if measure(high) < target:
        asked, reached = f"target {measure.name} {target:g}{measure.unit}", measure(high)
        way_out = "ask for at most that" if reached > 0 else "no such target is in reach"
        raise TargetUnreachable(f"{asked}: quality 100 reaches {measure.told(reached)}; {way_out}")
    # The same search turned around: the highest level that is "under" in steps of falling level.
    return _narrow(attempt, high, low, excess, close)


def _around(
    attempt: Attempts, start: int, excess: Callable[[Attempt], float], *, rising: bool
) -> tuple[Attempt, Attempt] | None:
    """(one that holds, one that fails) near the level `start`; None where all levels on the way are alike.

    rising: whether the excess rises with the level.
    """
    tried, step = attempt(start), FIRST_STEP
    while True:
        upwards = (excess(tried) <= 0) == rising
        level = min(max(tried.level + (step if upwards else -step), 0), MAX_QUALITY_LEVEL)
        if level == tried.level:
            return None
        before, tried, step = tried, attempt(level), 3 * step
        if (excess(before) <= 0) != (excess(tried) <= 0):
            return (before, tried) if excess(before) <= 0 else (tried, before)


def _narrow(
    attempt: Attempts,
    holds: Attempt,
    fails: Attempt,
    excess: Callable[[Attempt], float],
    close: float,
) -> Attempt:
    """Between an attempt whose excess is at most 0 and one whose excess is above: the best that holds.

    Regula falsi in the Illinois form, bisection where that takes long; ends when the excess is within `close`
    of 0, or when the two levels are neighbours.
    """
    aim = close / 2
    under, over = excess(holds) - aim, excess(fails) - aim
    for count in range(MAX_ATTEMPTS):
        if excess(holds) >= close or abs(holds.level - fails.level) <= 1:
            break
        share = -under / (over - under) if count < GUESSES and under < over else 0.5
        level = round(holds.level + share * (fails.level - holds.level))
        low, high = sorted((holds.level, fails.level))
        tried = attempt(min(max(level, low + 1), high - 1))
        # The side that stays counts half as much the next time, so that it is replaced at last.
        if excess(tried) <= 0:
            holds, under, over = tried, excess(tried) - aim, over / 2
        else:
            fails, over, under = tried, excess(tried) - aim, under / 2
    return holds
