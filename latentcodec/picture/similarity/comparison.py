"""Two pictures compared, by rules for alpha and depth that targets go by too.

colours ─► PSNR where the first picture is not fully transparent         alpha ─► PSNR of its own
colours, alpha ─► on a dark and on a light ground ─► MS-SSIM, SSIMULACRA 2: the lower value of the two
8 bits and 16 ─► 16 bits                 gray ─► colours               profiles: values as they stand
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from latentcodec.errors import InvalidArgument
from latentcodec.picture.picture import Picture, Pixels, with_depth
from latentcodec.picture.samples import MAX_DEPTH
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
    bits = 8 if first.bit_depth == second.bit_depth == 8 else MAX_DEPTH
    first, second = with_depth(first, bits), with_depth(second, bits)
    seen = None if first.alpha is None else first.alpha > 0
    colours, alpha = psnr(first.pixels, second.pixels, seen), None
    if first.alpha is not None or second.alpha is not None:
        alpha = psnr(_opacity(first), _opacity(second))
    shown = _shown(first, second)
    return Similarity(
        first.width,
        first.height,
        identical=colours == np.inf and alpha in (None, np.inf),
        psnr=colours,
        alpha_psnr=alpha,
        ms_ssim=_least(ms_ssim, shown) if min(first.width, first.height) >= MS_SSIM_LEAST_SIDE else None,
        ssimulacra2=_least(ssimulacra2, shown),
    )


def visible_score(picture: Picture, pixels: Pixels) -> float:
    """SSIMULACRA 2 of what a decoder has for the colours of a picture, whose alpha it has too."""
    bits = 8 if picture.bit_depth == 8 else MAX_DEPTH
    decoded = with_depth(replace(picture, pixels=pixels), bits)
    return _least(ssimulacra2, _shown(with_depth(picture, bits), decoded))


def _least(measure: Callable[[Samples, Samples], float], pairs: list[tuple[Samples, Samples]]) -> float:
    return min(measure(*pair) for pair in pairs)


def _shown(first: Picture, second: Picture) -> list[tuple[Samples, Samples]]:
    """The colours of two pictures of one depth, 8 or 16 bits, as they are seen: with alpha on each ground."""
    if first.alpha is None and second.alpha is None:
        return [(first.pixels, second.pixels)]
    return [(_on(first, ground), _on(second, ground)) for ground in _GROUNDS]


def _on(picture: Picture, ground: float) -> Samples:
    """The colours on a ground, as 16 bits."""
    colours = with_depth(picture, MAX_DEPTH).pixels
    if picture.alpha is None:
        return colours
    cover = (picture.alpha / np.float32(picture.peak))[..., None]
    return np.rint(colours * cover + np.float32(ground * _WIDE) * (1 - cover)).astype(np.uint16)


def _opacity(picture: Picture) -> Samples:
    if picture.alpha is not None:
        return picture.alpha
    return np.full(picture.pixels.shape[:2], picture.peak, picture.pixels.dtype)
