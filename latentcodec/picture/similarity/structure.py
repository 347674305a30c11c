"""PSNR and MS-SSIM of two pictures, by numpy alone.

    samples ─► squares of differences ─► PSNR
    samples ─► halved up to four times ─► blurred means and squares ─► contrast [x luminance] ─► MS-SSIM

Wang, Simoncelli and Bovik, "Multiscale structural similarity for image quality assessment" (2003), with
windows and borders of the package pytorch-msssim, whose figures it gives. As in ssimulacra2.py, all is
computed from the difference of the pictures, so that float32 is enough, and in bands of rows.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from latentcodec.errors import InvalidArgument
from latentcodec.picture.similarity.blur import RADIUS, Floats, Samples, blur_inside

__all__ = ["MS_SSIM_LEAST_SIDE", "ms_ssim", "psnr"]

MS_SSIM_LEAST_SIDE = 161  # pixels: four halvings leave the window of 11 its place
_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the scales
_C1, _C2 = np.float32(0.01**2), np.float32(0.03**2)
_ROWS = 256  # compared at once
_BAND = 64  # rows of means at once


def psnr(
    reference: Samples, distorted: Samples, seen: NDArray[np.bool_] | None = None, peak: int | None = None
) -> float:
    """Peak signal-to-noise ratio in dB, infinite for equal pictures.

    Both uint8 or both uint16, (H, W) or (H, W, C). seen: (H, W), where alone it is measured. peak: the sample
    that is white, by default the largest.
    """
    total = count = 0
    for top in range(0, len(reference), _ROWS):
        rows = slice(top, top + _ROWS)
        error = distorted[rows].astype(np.int64) - reference[rows]
        if seen is not None:
            error = error[seen[rows]]
        total += int((error * error).sum())
        count += error.size
    peak = peak or int(np.iinfo(reference.dtype).max)
    return math.inf if total == 0 else 10 * math.log10(peak**2 * count / total)


def ms_ssim(reference: Samples, distorted: Samples) -> float:
    """MS-SSIM, 0 to 1, the mean of the channels of (H, W, C), both uint8 or both uint16.

    Raises InvalidArgument for sides under MS_SSIM_LEAST_SIDE.
    """
    height, width, channels = reference.shape
    if min(height, width) < MS_SSIM_LEAST_SIDE:
        raise InvalidArgument(
            f"MS-SSIM needs {MS_SSIM_LEAST_SIDE} pixels a side, the pictures have {width}x{height}"
        )
    scale = np.float32(1 / np.iinfo(reference.dtype).max)
    scores = [
        _channel(*(picture[..., channel] * scale for picture in (reference, distorted)))
        for channel in range(channels)
    ]
    return float(np.mean(scores))


def _channel(x: Floats, y: Floats) -> float:
    score: float = 1.0
    for scale, exponent in enumerate(_EXPONENTS):
        if scale:
            x, y = _halved(x), _halved(y)
        similarity = _similarity(x, y, with_luminance=scale == len(_EXPONENTS) - 1)
        score *= math.pow(max(similarity, 0.0), exponent)
    return score


def _similarity(x: Floats, y: Floats, *, with_luminance: bool) -> float:
    """The mean of contrast and structure, and of luminance too, over all whole windows of (h, w)."""
    height, width = (side - 2 * RADIUS for side in x.shape)
    total = 0.0
    for top in range(0, height, _BAND):
        rows = slice(top, min(top + _BAND, height) + 2 * RADIUS)
        difference = y[rows] - x[rows]
        mean, change = blur_inside(x[rows]), blur_inside(difference)
        energy = mean * mean + (mean + change) ** 2
        change *= change
        variances = blur_inside(x[rows] ** 2 + y[rows] ** 2) - energy + _C2
        values = 1 - (blur_inside(difference * difference) - change) / variances
        if with_luminance:
            values *= 1 - change / (energy + _C1)
        total += float(values.sum(dtype=np.float64))
    return float(total / (height * width))


def _halved(plane: Floats) -> Floats:
    """Means of 2 x 2; above and left of odd sides stand zeros, as PyTorch's padded pooling has it."""
    height, width = plane.shape
    padded = np.pad(plane, ((height % 2, 0), (width % 2, 0)))
    rows = padded[::2] + padded[1::2]
    return (rows[:, ::2] + rows[:, 1::2]) * np.float32(0.25)
