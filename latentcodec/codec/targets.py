"""Rate targets: the quality level whose real file, or really decoded picture, meets what was asked for.

    target ─► bracket levels ─► encode, measure ─► narrow ─► the best attempt that holds

Size and PSNR rise with the level but for noise of a few hundredths of a per cent, so the search brackets and
interpolates, and only ever returns an attempt that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentcodec.errors import TargetUnreachable
from latentcodec.header import MAX_QUALITY_LEVEL

if TYPE_CHECKING:
    from latentcodec.codec.encoder import Encoded

CLOSE_SIZE = 0.995  # a size of this share of the target or more ends the search
CLOSE_PSNR = 0.02  # dB
MAX_ATTEMPTS = 40  # every third halves the 4000 levels, so 36 always reach neighbours


@dataclass(frozen=True)
class Attempt:
    """A measured encoding: file bytes, PSNR where it was measured, and the encoding itself."""

    level: int
    size: int
    psnr: float | None
    encoded: Encoded


def meet_size(attempt: Callable[[int], Attempt], target: int) -> Attempt:
    """The largest file of at most `target` bytes. Raises TargetUnreachable naming the bound."""
    high = attempt(MAX_QUALITY_LEVEL)
    if high.size <= target:
        if high.size < target * 0.99:
            raise TargetUnreachable(
                f"target size {target} bytes: quality 100 takes {high.size}; ask for at most {high.size} bytes"
            )
        return high
    low = attempt(0)
    if low.size > target:
        raise TargetUnreachable(
            f"target size {target} bytes: quality 0 still takes {low.size}; ask for at least {low.size} bytes"
        )
    return _narrow(attempt, low, high, lambda a: math.log(a.size / target), math.log(CLOSE_SIZE))


def meet_psnr(attempt: Callable[[int], Attempt], target: float) -> Attempt:
    """The smallest file of at least `target` dB. Raises TargetUnreachable naming the bound."""
    low = attempt(0)
    if _psnr(low) >= target:
        return low
    high = attempt(MAX_QUALITY_LEVEL)
    if _psnr(high) < target:
        raise TargetUnreachable(
            f"target PSNR {target:g} dB: quality 100 reaches {_psnr(high):.2f} dB; ask for at most {_psnr(high):.2f} dB"
        )
    # The same search turned around: the highest level that is "under" in steps of falling level.
    return _narrow(attempt, high, low, lambda a: target - _psnr(a), -CLOSE_PSNR)


def _psnr(attempt: Attempt) -> float:
    return min(attempt.psnr if attempt.psnr is not None else 0.0, 200.0)


def _narrow(
    attempt: Callable[[int], Attempt], holds: Attempt, fails: Attempt, excess: Callable[[Attempt], float], close: float
) -> Attempt:
    """Between an attempt whose excess is at most 0 and one whose excess is above: the best that holds.

    Regula falsi with a bisection every third time; ends when the excess is within `close` of 0, or when the
    two levels are neighbours.
    """
    for count in range(MAX_ATTEMPTS):
        if excess(holds) >= close or abs(holds.level - fails.level) <= 1:
            break
        under, over = excess(holds) - close / 2, excess(fails) - close / 2
        share = 0.5 if count % 3 == 2 or over <= under else -under / (over - under)
        level = round(holds.level + share * (fails.level - holds.level))
        low, high = sorted((holds.level, fails.level))
        tried = attempt(min(max(level, low + 1), high - 1))
        if excess(tried) <= 0:
            holds = tried
        else:
            fails = tried
    return holds
