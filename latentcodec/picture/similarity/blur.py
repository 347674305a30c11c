"""The Gaussian that measures of similarity look through: sigma 1.5, cut at 5 samples."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["RADIUS", "Floats", "Samples", "blur_inside"]

Floats = NDArray[np.float32]
Samples = NDArray[np.unsignedinteger]
"""uint8 or uint16, of which the largest value is white."""

SIGMA, RADIUS = 1.5, 5  # of SSIM (Wang et al. 2004): windows of 11 x 11
_WINDOW = 2 * RADIUS + 1


def blur_inside(plane: Floats) -> Floats:
    """Blur (h, w) where the whole window is inside: (h - 2 RADIUS, w - 2 RADIUS)."""
    height, width = (side - 2 * RADIUS for side in plane.shape)
    rows = _convolved([plane[place : place + height] for place in range(_WINDOW)])
    return _convolved([rows[:, place : place + width] for place in range(_WINDOW)])


def _convolved(shifted: list[Floats]) -> Floats:
    """The sum of the planes, weighted by the Gaussian, which is symmetric."""
    centre, *sides = _kernel()
    out = shifted[RADIUS] * centre
    pair = np.empty_like(out)
    for place, weight in enumerate(sides, 1):
        np.add(shifted[RADIUS - place], shifted[RADIUS + place], out=pair)
        pair *= weight
        out += pair
    return out


@cache
def _kernel() -> tuple[np.float32, ...]:
    """Its centre and one side."""
    weights = np.exp(-0.5 * (np.arange(RADIUS + 1) / SIGMA) ** 2)
    return tuple((weights / (2 * weights.sum() - weights[0])).astype(np.float32))
