"""SSIMULACRA 2: how good a picture looks beside the one that it was made from, as the eye sees it.

    pixels ─► linear ─► halved up to five times ─► X, Y, B - Y of each scale ─► blurred means and squares
                                              ─► maps: structure, edges added, edges lost
                                              ─► mean and 4-norm of each map ─► weighted sum ─► score

Jon Sneyers, "SSIMULACRA 2" (2022), constants as in its reference, libjxl, borders as in the package
ssimulacra2, whose scores it gives. Pictures are worked on in bands of rows. Structure is computed from their
difference e = y - x,

    1 - (1 - (mx - my)^2) (2 cov + C) / (var x + var y + C) = me^2 + (1 - me^2) var e / (var x + var y + C),

since var e = var x + var y - 2 cov. So float32 is enough, and equal pictures score 100. Weights below 0.1
(the largest is 225) are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from latentcodec.errors import InvalidArgument
from latentcodec.picture.similarity.blur import RADIUS, Floats, Samples, blur_inside

__all__ = ["BIAS", "NOISE", "OPSINS", "SCALES", "WEIGHTS", "ssimulacra2"]

SCALES = 6
# Absorbance of the cones' opsins, and their bias.
OPSINS = (
    (0.30, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
BIAS = 0.0037930732552754493
NOISE = 0.0009  # C2 of SSIM
# By place in the order plane (X, Y, B - Y), scale, norm (mean, 4-norm), map (structure, added, lost).
WEIGHTS = {
    9: 1.1041726426657346,
    15: 1.8422455520539298,
    16: 11.441172603757666,
    21: 1.8787594979546387,
    22: 10.94906990605142,
    25: 0.9677937080626833,
    28: 0.9981766977854967,
    39: 7.466890328078848,
    41: 17.445833984131262,
    45: 6.683678146179332,
    47: 1.027889937768264,
    48: 225.20515300849274,
    51: 19.213238186143016,
    54: 176.39317598450694,
    57: 24.43300999870476,
    58: 0.28520802612117757,
    63: 34.77906344483772,
    64: 44.835625328877896,
    93: 8.826982764996862,
    94: 23.19243343998926,
    96: 95.1080498811086,
    97: 0.9863978034400682,
    98: 0.9834382792465353,
    100: 171.2667255897307,
    101: 0.9807858872435379,
}
_LEAST_SIDE = 8  # of a scale; smaller pictures are mirrored until they have it
_BAND = 1 << 16  # pixels worked on at once, about
_SUM = 0.9562382616834844
_CUBIC = (2.326765642916932, -0.020884521182843837, 6.248496625763138e-05)
_EXPONENT = 0.6276336467831387


def ssimulacra2(reference: Samples, distorted: Samples) -> float:
    """The score, at most 100: 90 is visually lossless, 70 high, 50 medium and 30 low quality.

    Both are sRGB, uint8 or uint16 (H, W, 3), of one size; not symmetric. Pictures under 225 pixels have fewer
    scales, and others weights, as in the reference. Raises InvalidArgument for other arrays.
    """
    for name, picture in (("reference", reference), ("distorted", distorted)):
        if picture.dtype not in (np.uint8, np.uint16) or picture.ndim != 3 or picture.shape[2] != 3:
            raise InvalidArgument(
                f"ssimulacra2: {name} is {picture.dtype} {picture.shape}, not uint8 (H, W, 3)"
            )
    if reference.shape != distorted.shape or reference.size == 0:
        raise InvalidArgument(f"ssimulacra2: {reference.shape} and {distorted.shape} are not of one size")
    pair = _coded(_enlarged(reference)), _coded(_enlarged(distorted))
    sides = [min(pair[0].height, pair[0].width)]
    while len(sides) < SCALES and sides[-1] > 2 * (_LEAST_SIDE - 1):
        sides.append(-(-sides[-1] // 2))
    weights = _weights(len(sides))
    total = 0.0
    for scale in range(len(sides)):
        norms, pair = _scale(pair, weights[:, scale], last=scale == len(sides) - 1)
        total += float((weights[:, scale] * norms).sum())
    total *= _SUM
    difference = total * (_CUBIC[0] + total * (_CUBIC[1] + total * _CUBIC[2]))
    return 100 - 10 * difference**_EXPONENT if difference > 0 else 100.0


@dataclass(frozen=True)
class _Scale:
    """A picture at one scale; rows: linear light (3, n, width) of the rows of these numbers."""

    height: int
    width: int
    rows: Callable[[NDArray[np.intp]], Floats]


def _enlarged(pixels: Samples) -> Samples:
    """Mirrored at the right and below until a scale has its place, as pictures so small have none else."""
    below, right = (max(0, _LEAST_SIDE - side) for side in pixels.shape[:2])
    return np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric") if below or right else pixels


def _coded(pixels: Samples) -> _Scale:
    light = _light(int(np.iinfo(pixels.dtype).max))
    height, width, _ = pixels.shape

    def rows(numbers: NDArray[np.intp]) -> Floats:
        return np.stack([light[pixels[numbers, :, channel]] for channel in range(3)])

    return _Scale(height, width, rows)


@cache
def _light(peak: int) -> Floats:
    """Light of the sRGB values 0 to `peak`."""
    coded = np.arange(peak + 1) / peak
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4).astype(np.float32)


@cache
def _weights(scales: int) -> NDArray[np.float64]:
    """Weights (plane, scale, norm, map); where scales are missing they close ranks, as in the reference."""
    flat = np.zeros(3 * SCALES * 6)
    flat[list(WEIGHTS)] = list(WEIGHTS.values())
    return flat[: 3 * scales * 6].reshape(3, scales, 2, 3)


def _scale(
    pair: tuple[_Scale, _Scale], weights: NDArray[np.float64], *, last: bool
) -> tuple[NDArray[np.float64], tuple[_Scale, _Scale]]:
    """(norms (plane, norm, map) of the maps that have weights (same shape), the pair at half the size)."""
    height, width = pair[0].height, pair[0].width
    band = max(6 * RADIUS, _BAND // width) & ~1
    planes = [plane for plane in range(3) if weights[plane].any()]
    sums = np.zeros((3, 2, 3))
    halves: list[list[Floats]] = [[], []]
    for top in range(0, height, band):
        bottom = min(top + band, height)
        numbers = np.arange(top - RADIUS, bottom + RADIUS)
        numbers = np.where(numbers < 0, -1 - numbers, numbers)  # mirrored above and below
        numbers = np.where(numbers >= height, 2 * height - 1 - numbers, numbers)
        light = [scale.rows(numbers) for scale in pair]
        if not last:
            for half, rows in zip(halves, light, strict=True):
                half.append(_halved(rows[:, RADIUS : RADIUS + bottom - top]))
        if planes:
            x, y = (_opponent(rows, planes) for rows in light)
            for number, plane in enumerate(planes):
                sums[plane] += _sums(x[number], y[number], weights[plane])
    norms = sums / (height * width)
    norms[:, 1] **= 0.25
    if last:
        return norms, pair
    return norms, (_linear(np.concatenate(halves[0], 1)), _linear(np.concatenate(halves[1], 1)))


def _linear(light: Floats) -> _Scale:
    return _Scale(light.shape[1], light.shape[2], lambda numbers: light[:, numbers])


def _halved(light: Floats) -> Floats:
    """Means of 2 x 2; of an odd side's last row and column of what there is."""
    _, height, width = light.shape
    if height % 2 or width % 2:
        light = np.pad(light, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    rows = light[:, ::2] + light[:, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) * np.float32(0.25)


def _opponent(light: Floats, planes: list[int]) -> list[Floats]:
    """Those of X, Y and B - Y that are named, all positive, of linear light (3, h, w)."""
    needed = 3 if 2 in planes else 2
    mixed = np.array(OPSINS, np.float32)[:needed] @ light.reshape(3, -1)
    mixed += np.float32(BIAS)
    np.log(mixed, out=mixed)  # quicker than a cube root
    mixed *= np.float32(1 / 3)
    np.exp(mixed, out=mixed)
    mixed -= np.float32(math.cbrt(BIAS))
    long, medium, *short = mixed.reshape(needed, *light.shape[1:])
    luma = np.float32(0.5) * (long + medium)
    found = []
    for plane in planes:
        if plane == 0:
            found.append((long - medium) * np.float32(7) + np.float32(0.42))
        else:
            found.append(luma + np.float32(0.01) if plane == 1 else short[0] - luma + np.float32(0.55))
    return found


def _sums(x: Floats, y: Floats, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(norm, map): sums over a band of the maps, and of their fourth powers, where there are weights."""
    difference = y - x
    mean, change = _blurred(x), _blurred(difference)
    maps: dict[int, Floats] = {}
    if weights[:, 0].any():
        other = mean + change
        noise = _blurred(x * x + y * y) - mean * mean - other * other + np.float32(NOISE)
        change *= change
        contrast = _blurred(difference * difference) - change
        maps[0] = np.maximum(change + (1 - change) * contrast / noise, 0)
        change = other - mean
    if weights[:, 1:].any():
        inside = slice(RADIUS, -RADIUS)
        before = np.abs(x[inside] - mean)
        edges = np.abs(y[inside] - (mean + change)) - before
        edges /= 1 + before
        maps |= {1: np.maximum(edges, 0), 2: np.maximum(-edges, 0)}
    sums = np.zeros((2, 3))
    for kind, values in maps.items():
        if weights[0, kind]:
            sums[0, kind] = values.sum(dtype=np.float64)
        if weights[1, kind]:
            values *= values
            sums[1, kind] = np.vdot(values, values)
    return sums


def _blurred(plane: Floats) -> Floats:
    """Without the RADIUS rows above and below; left and right of the plane stands 0, as in the reference."""
    return blur_inside(np.pad(plane, ((0, 0), (RADIUS, RADIUS))))
