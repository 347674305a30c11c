"""How far a BD-rate would move with other pictures: percentile bootstrap over pictures.

    sweeps (pictures, settings) ─► pictures drawn with replacement, as often as there are pictures, 1000 times
      ─► for each draw the mean curves, as of the whole set ─► their BD-rate ─► the middle 95 % of the draws

What is drawn is pictures and nothing else. A draw takes whole pictures with all their points, the same ones
for every codec, since codecs are compared on the same pictures; settings are never drawn, and the qualities
over which a draw's BD-rate is a mean are those that its own two curves share. The interval says how much the
figure depends on which pictures of this kind were chosen: nothing about other kinds of pictures.

All draws are computed at once: curves of shape (draws, settings), PCHIP as in benchmarks.bd_rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.pictures.arrays import Floats
from benchmarks.report.curves import Axis, Sweep

__all__ = ["DRAWS", "LEVEL", "Draws", "draw", "interval"]

DRAWS = 1000
LEVEL = 0.95
SEED = 0
ENOUGH = 0.95
"""An interval needs a BD-rate in this share of the draws: with fewer, what is missing could be its ends."""


@dataclass(frozen=True, eq=False)
class Draws:
    """One codec's curves, a draw a row, ascending in quality: quality, ln(bpp) and its slope there."""

    quality: Floats
    log_rate: Floats
    slope: Floats

    def integral(self, low: Floats, high: Floats) -> Floats:
        """The integral of ln(bpp) from low to high, both (draws,) and within the curve."""
        start, width = self.quality[:, :-1], np.diff(self.quality, axis=1)
        ends = [np.clip((limit[:, None] - start) / width, 0, 1) for limit in (low, high)]
        first, last = (self._antiderivative(end, width) for end in ends)
        return np.asarray((width * (last - first)).sum(axis=1))

    def _antiderivative(self, t: Floats, width: Floats) -> Floats:
        """Of the cubic Hermite segments in their own coordinate t, 0..1; 0 at t = 0."""
        y0, y1 = self.log_rate[:, :-1], self.log_rate[:, 1:]
        m0, m1 = width * self.slope[:, :-1], width * self.slope[:, 1:]
        cubic, quadratic = 2 * (y0 - y1) + m0 + m1, 3 * (y1 - y0) - 2 * m0 - m1
        return t * (y0 + t * (m0 / 2 + t * (quadratic / 3 + t * cubic / 4)))


def draw(sweep: Sweep, axis: Axis, *, draws: int = DRAWS, seed: int = SEED) -> Draws | None:
    """The mean curves of `draws` samples of the pictures; the same samples for every sweep over as many.

    None where there is nothing to draw from (one picture) or no curve (one point).
    """
    count = len(sweep.pictures)
    if count < 2 or len(sweep.settings) < 2:
        return None
    chosen = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=draws) / count
    quality, log_rate = axis.scale_all(chosen @ sweep.values), np.log(chosen @ sweep.bpp)
    order = np.argsort(quality, axis=1)
    quality, log_rate = np.take_along_axis(quality, order, 1), np.take_along_axis(log_rate, order, 1)
    return Draws(quality, log_rate, _pchip_slopes(quality, log_rate))


def interval(anchor: Draws, test: Draws, *, least_overlap: float) -> tuple[float, float] | None:
    """The middle LEVEL of the draws' BD-rates in percent; None where too many draws have none."""
    low = np.maximum(anchor.quality[:, 0], test.quality[:, 0])
    high = np.minimum(anchor.quality[:, -1], test.quality[:, -1])
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = (test.integral(low, high) - anchor.integral(low, high)) / (high - low)
    usable = np.isfinite(difference) & (high - low >= max(least_overlap, 1e-9))
    if usable.mean() < ENOUGH:
        return None
    tail = (1 - LEVEL) / 2
    ends = np.quantile(100 * np.expm1(difference[usable]), [tail, 1 - tail])
    return float(ends[0]), float(ends[1])


def _pchip_slopes(x: Floats, y: Floats) -> Floats:
    """Fritsch's and Butland's monotone slopes, each row for itself; as scipy's PchipInterpolator has them.

    Rows with a NaN or two equal x give NaN, which interval() leaves out.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        width = np.diff(x, axis=1)
        secant = np.diff(y, axis=1) / width
        if x.shape[1] == 2:
            return np.repeat(secant, 2, axis=1)
        before, after = width[:, :-1], width[:, 1:]
        first, second = 2 * after + before, after + 2 * before
        harmonic = (first + second) / (first / secant[:, :-1] + second / secant[:, 1:])
    product = secant[:, :-1] * secant[:, 1:]
    inner = np.where(product > 0, harmonic, 0 * product)  # 0 * NaN stays NaN
    left = _end_slope(width[:, 0], width[:, 1], secant[:, 0], secant[:, 1])
    right = _end_slope(width[:, -1], width[:, -2], secant[:, -1], secant[:, -2])
    return np.concatenate([left[:, None], inner, right[:, None]], axis=1)


def _end_slope(near: Floats, far: Floats, secant: Floats, next_secant: Floats) -> Floats:
    """The three-point slope at an end, held to the shape of the data (Fritsch and Carlson)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        slope = ((2 * near + far) * secant - near * next_secant) / (near + far)
        steep = (np.sign(secant) != np.sign(next_secant)) & (np.abs(slope) > 3 * np.abs(secant))
    slope = np.where(np.sign(slope) != np.sign(secant), 0 * slope, slope)
    return np.where(steep & (slope != 0), 3 * secant, slope)
