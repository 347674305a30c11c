"""Two pictures compared, by rules for alpha and depth that targets go by too.

colours ─► PSNR where the first picture is not fully transparent         alpha ─► PSNR of its own
colours, alpha ─► on a dark and on a light ground ─► MS-SSIM, SSIMULACRA 2: the lower value of the two
8 bits and 16 ─► 16 bits                 gray ─► colours               profiles: values as they stand
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latentcodec.errors import InvalidArgument
from latentcodec.picture.picture import Picture
from latentcodec.picture.similarity.blur import Samples
from latentcodec.picture.similarity.ssimulacra2 import ssimulacra2
from latentcodec.picture.similarity.structure import MS_SSIM_LEAST_SIDE, ms_ssim, psnr

__all__ = ["Similarity", "compare_pictures", "visible_score"]

_GROUNDS = (0.1, 0.9)  # as libjxl's ssimulacra2_main has them
_WIDE = 65535


@dataclass(frozen=True)
class Similarity:
    """How near a picture is to another of its size.

    identical: whether all that is seen is equal, alpha included. psnr, alpha_psnr: dB, infinite for equal
    ones; alpha's is None where both are opaque. ms_ssim: 0 to 1, None under 161 pixels a side. ssimulacra2:
    at most 100.
    """

    width: int
    height: int
    identical: bool
    psnr: float
    alpha_psnr: float | None
    ms_ssim: float | None
    ssimulacra2: float


def compare_pictures(first: Picture, second: Picture) -> Similarity:
    """Measure the second against the first. Raises InvalidArgument for pictures of different sizes."""
    if first.pixels.shape != second.pixels.shape:
        sizes = " and ".join(f"{picture.width}x{picture.height}" for picture in (first, second))
        raise InvalidArgument(f"the pictures are {sizes}: only pictures of one size can be compared")
    a, b = _of_one_depth(first.pixels, second.pixels)
    seen = None if first.alpha is None else first.alpha > 0
    alpha = None
    if first.alpha is not None or second.alpha is not None:
        alpha = psnr(*_of_one_depth(*(_opacity(picture) for picture in (first, second))))
    colours = psnr(a, b, seen)
    similar = None
    if min(first.width, first.height) >= MS_SSIM_LEAST_SIDE:
        similar = min(ms_ssim(*pair) for pair in _shown(a, first.alpha, b, second.alpha))
    return Similarity(
        first.width,
        first.height,
        identical=colours == np.inf and alpha in (None, np.inf),
        psnr=colours,
        alpha_psnr=alpha,
        ms_ssim=similar,
        ssimulacra2=visible_score(a, first.alpha, b, second.alpha),
    )


def visible_score(
    reference: Samples, alpha: Samples | None, distorted: Samples, distorted_alpha: Samples | None
) -> float:
    """SSIMULACRA 2 of colours (H, W, 3), with alpha (H, W) on the ground where it is lower."""
    return min(ssimulacra2(*pair) for pair in _shown(reference, alpha, distorted, distorted_alpha))


def _shown(
    a: Samples, a_alpha: Samples | None, b: Samples, b_alpha: Samples | None
) -> list[tuple[Samples, Samples]]:
    """The pair as it is seen: on each ground where there is alpha."""
    if a_alpha is None and b_alpha is None:
        return [(a, b)]
    return [(_blended(a, a_alpha, ground), _blended(b, b_alpha, ground)) for ground in _GROUNDS]


def _blended(pixels: Samples, alpha: Samples | None, ground: float) -> Samples:
    colours = _widened(pixels)
    if alpha is None:
        return colours
    cover = (alpha / np.float32(np.iinfo(alpha.dtype).max))[..., None]
    return np.rint(colours * cover + np.float32(ground * _WIDE) * (1 - cover)).astype(np.uint16)


def _opacity(picture: Picture) -> Samples:
    if picture.alpha is not None:
        return picture.alpha
    return np.full(picture.pixels.shape[:2], np.iinfo(picture.pixels.dtype).max, picture.pixels.dtype)


def _of_one_depth(a: Samples, b: Samples) -> tuple[Samples, Samples]:
    return (a, b) if a.dtype == b.dtype else (_widened(a), _widened(b))


def _widened(samples: Samples) -> NDArray[np.uint16]:
    """As 16 bits: 0 stays 0, the peak becomes the peak."""
    wide = samples.astype(np.uint16)
    return wide * np.uint16(257) if samples.dtype == np.uint8 else wide
