"""Bytes at equal quality where a codec turns to files without loss, which have no place on a curve.

    a picture's rows ─► with loss: ln(bpp) by quality, PCHIP ─┐
                     ─► without: one number of bytes ─────────┴─► the fewer bytes that reach each quality
                     ─► mean of ln(ours / anchor) over the anchor's qualities ─► mean over pictures ─► percent

Like a Bjøntegaard rate, but a file without loss serves every quality, the anchor's own as well as ours, and
pictures count alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

from benchmarks.report.curves import AXES, lost_nothing
from benchmarks.runs.rows import Row

__all__ = ["percent", "turns_lossless"]

_SAMPLES = 400


def turns_lossless(rows: Sequence[Row], codec: str) -> bool:
    """Whether one of the codec's files gives the same picture back."""
    return any(lost_nothing(row) for row in rows if row.codec == codec)


def percent(
    rows: Sequence[Row], codec: str, anchor: str, metric: str, without_loss: Mapping[str, float]
) -> float | None:
    """What `codec` takes more than `anchor`, in percent, at equal `metric` and in the mean over pictures.

    without_loss: bits per pixel of the anchor's own file without loss by picture, where it has one. None if a
    picture lacks two points of the anchor with loss, or shares less than the axis's least overlap with it.
    """
    logs = []
    for picture in sorted({row.picture for row in rows}):
        own = [row for row in rows if row.picture == picture and metric in row.metrics and row.bpp]
        ours, others = ([row for row in own if row.codec == name] for name in (codec, anchor))
        log = _log_ratio(ours, others, metric, without_loss.get(picture, math.inf))
        if log is None:
            return None
        logs.append(log)
    return 100 * math.expm1(sum(logs) / len(logs)) if logs else None


def _log_ratio(ours: Sequence[Row], others: Sequence[Row], metric: str, without_loss: float) -> float | None:
    theirs, mine = _curve(others, metric), _curve(ours, metric)
    exact = min((row.bpp or math.inf for row in ours if lost_nothing(row)), default=math.inf)
    if theirs is None or (mine is None and exact == math.inf):
        return None
    low, high = float(theirs.x[0]), float(theirs.x[-1])
    if mine is not None:
        low = max(low, float(mine.x[0]))
        high = high if exact < math.inf else min(high, float(mine.x[-1]))
    if high - low < AXES[metric].least_overlap:
        return None
    quality = np.linspace(low, high, _SAMPLES)
    rates = np.full(_SAMPLES, math.log(exact))
    if mine is not None:
        reached = quality <= mine.x[-1]
        rates[reached] = np.minimum(rates[reached], mine(quality[reached]))
    return float((rates - np.minimum(theirs(quality), math.log(without_loss))).mean())


def _curve(rows: Sequence[Row], metric: str) -> PchipInterpolator | None:
    """ln(bpp) by quality of what was coded with loss; None of fewer than two points."""
    axis = AXES[metric]
    points: dict[float, float] = {}
    for row in rows:
        quality = axis.scale(row.metrics[metric])
        if row.bpp and math.isfinite(quality) and not lost_nothing(row):
            points[quality] = min(row.bpp, points.get(quality, math.inf))
    if len(points) < 2:
        return None
    qualities = sorted(points)
    return PchipInterpolator(qualities, np.log([points[quality] for quality in qualities]))
