"""Bytes at equal quality where a codec turns to files without loss, which have no place on a curve.

    a picture's rows ─► with loss: ln(bpp) by quality, PCHIP ─┐
                     ─► without: one number of bytes ─────────┴─► the fewer bytes that reach each quality
                     ─► mean of ln(ours / anchor) over the anchor's qualities ─► mean over pictures ─► percent

Like a Bjøntegaard rate, but a file without loss serves every quality, and pictures count alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from benchmarks.curves import AXES
from benchmarks.rows import Row

__all__ = ["percent", "turns_lossless"]

_SAMPLES = 400
Values = NDArray[np.float64]


def turns_lossless(rows: Sequence[Row], codec: str) -> bool:
    """Whether one of the codec's files gives the same picture back."""
    return any(_lossless(row) for row in rows if row.codec == codec)


def percent(rows: Sequence[Row], codec: str, anchor: str, metric: str) -> float | None:
    """What `codec` takes more than `anchor`, in percent, at equal `metric` and in the mean over pictures.

    None where a picture lacks two points of the anchor with loss, or shares no quality with it.
    """
    logs = []
    for picture in sorted({row.picture for row in rows}):
        own = [row for row in rows if row.picture == picture and metric in row.metrics and row.bpp]
        log = _log_ratio(
            [row for row in own if row.codec == codec], [row for row in own if row.codec == anchor], metric
        )
        if log is None:
            return None
        logs.append(log)
    return 100 * math.expm1(sum(logs) / len(logs)) if logs else None


def _log_ratio(ours: Sequence[Row], others: Sequence[Row], metric: str) -> float | None:
    theirs, mine = _curve(others, metric), _curve(ours, metric)
    without = min((row.bpp or math.inf for row in ours if _lossless(row)), default=math.inf)
    if theirs is None or (mine is None and without == math.inf):
        return None
    low, high = float(theirs.x[0]), float(theirs.x[-1])
    if mine is not None:
        low = max(low, float(mine.x[0]))
        high = high if without < math.inf else min(high, float(mine.x[-1]))
    if high <= low:
        return None
    quality = np.linspace(low, high, _SAMPLES)
    rates = np.full(_SAMPLES, math.log(without) if without < math.inf else math.inf)
    if mine is not None:
        reached = quality <= mine.x[-1]
        rates[reached] = np.minimum(rates[reached], mine(quality[reached]))
    return float((rates - theirs(quality)).mean())


def _lossless(row: Row) -> bool:
    return math.isinf(row.metrics.get("psnr", 0.0))


def _curve(rows: Sequence[Row], metric: str) -> PchipInterpolator | None:
    """ln(bpp) by quality of what was coded with loss; None of fewer than two points."""
    axis = AXES[metric]
    points: dict[float, float] = {}
    for row in rows:
        quality = axis.scale(row.metrics[metric])
        if row.bpp and math.isfinite(quality) and not _lossless(row):
            points[quality] = min(row.bpp, points.get(quality, math.inf))
    if len(points) < 2:
        return None
    qualities = sorted(points)
    return PchipInterpolator(qualities, np.log([points[quality] for quality in qualities]))
