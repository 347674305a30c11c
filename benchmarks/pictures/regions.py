"""Where a picture has the most of something: detail, colour, or any other value of each pixel.

picture ─► activity (or other values) ─► richest ─► Box
"""

from __future__ import annotations

import numpy as np

from benchmarks.pictures.arrays import Floats, Pixels
from latentcodec.container.header import Box

__all__ = ["DETAIL", "activity", "busiest", "richest"]

DETAIL = 96
"""Pixels a side of a detail that is shown."""


def busiest(picture: Pixels, side: int = DETAIL) -> Box:
    """The square with the most detail; all of a picture that is smaller."""
    return richest(activity(picture), side)


def activity(picture: Pixels) -> Floats:
    """(H, W): how much each pixel's luma differs from those to the left and above."""
    luma = picture.astype(np.float64) @ (0.299, 0.587, 0.114)
    differences = np.zeros(luma.shape)
    differences[:, 1:] += np.abs(np.diff(luma, axis=1))
    differences[1:, :] += np.abs(np.diff(luma, axis=0))
    return differences


def richest(values: Floats, side: int) -> Box:
    """The square of `side` pixels (or fewer, where there are fewer) over which values (H, W) sum to most."""
    height, width = values.shape
    high, wide = min(side, height), min(side, width)
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = values.cumsum(0).cumsum(1)
    sums = total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return Box(int(left), int(top), int(left) + wide, int(top) + high)
