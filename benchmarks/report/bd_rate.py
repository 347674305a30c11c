"""Bjøntegaard's delta rate: how many more bytes one codec takes than another at equal quality.

    ln(bpp) as a function of quality, by PCHIP ─► its mean over the qualities that both curves reach, for each
    percent = 100 (exp(mean of the test - mean of the anchor) - 1)

After G. Bjøntegaard, VCEG-M33 (2001), with the piecewise interpolation of JCTVC-L1100. Negative: fewer bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from latentcodec.errors import InvalidArgument

__all__ = ["BdRate", "bd_rate"]


@dataclass(frozen=True)
class BdRate:
    """A delta rate and the qualities it is a mean over."""

    percent: float
    """Bytes of the test over bytes of the anchor at equal quality, less one, in percent."""
    low: float
    high: float
    """The overlap, in units of quality."""
    warning: str | None = None
    """Set when the overlap is narrower than the caller thinks good."""


def bd_rate(
    anchor: tuple[Sequence[float], Sequence[float]],
    test: tuple[Sequence[float], Sequence[float]],
    *,
    least_overlap: float = 1.0,
    good_overlap: float = 0.0,
) -> BdRate:
    """The bytes that `test` takes against `anchor`, over the qualities that both reach.

    Each curve is (bits per pixel, quality): at least two points, in any order, each quality once. Quality is
    in an even unit, such as dB. Raises InvalidArgument for anything else and for an overlap narrower than
    `least_overlap`; one narrower than `good_overlap` is a warning in the result.
    """
    of_anchor, of_test = _log_rate("anchor", *anchor), _log_rate("test", *test)
    low = float(max(of_anchor.x[0], of_test.x[0]))
    high = float(min(of_anchor.x[-1], of_test.x[-1]))
    if high - low < max(least_overlap, 1e-9):
        raise InvalidArgument(
            f"the curves share too little: the anchor spans {_span(of_anchor)}, the test {_span(of_test)}, "
            f"and the overlap must be at least {least_overlap:g} wide; measure more qualities of either"
        )
    warning = None
    if high - low < good_overlap:
        warning = f"the overlap is {high - low:.2f} wide, and under {good_overlap:g} a delta rate says little"
    difference = (of_test.integrate(low, high) - of_anchor.integrate(low, high)) / (high - low)
    return BdRate(float(100 * np.expm1(difference)), low, high, warning)


def _log_rate(name: str, bpp: Sequence[float], quality: Sequence[float]) -> PchipInterpolator:
    rates, qualities = np.asarray(bpp, np.float64), np.asarray(quality, np.float64)
    if rates.ndim != 1 or rates.shape != qualities.shape or rates.size < 2:
        raise InvalidArgument(
            f"{name}: {rates.size} rates and {qualities.size} qualities; a curve has two points or more"
        )
    if not (np.isfinite(rates).all() and np.isfinite(qualities).all() and (rates > 0).all()):
        raise InvalidArgument(f"{name}: rates must be positive and finite, qualities finite")
    order = np.argsort(qualities)
    rates, qualities = rates[order], qualities[order]
    same = np.flatnonzero(np.diff(qualities) <= 0)
    if same.size:
        raise InvalidArgument(f"{name}: two points have the same quality, {qualities[same[0]]:g}; drop one")
    return PchipInterpolator(qualities, np.log(rates))


def _span(curve: PchipInterpolator) -> str:
    return f"{curve.x[0]:.2f} to {curve.x[-1]:.2f}"
