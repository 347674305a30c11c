"""JPEG XL, by libjxl as imagecodecs brings it.

quality 0-100 ─► Butteraugli distance, as cjxl -q maps them ─► VarDCT, effort 7 ─► .jxl
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidArgument, MissingDependency

__all__ = ["JpegXl", "distance"]

EFFORT = 7  # cjxl's default


def distance(quality: float) -> float:
    """The Butteraugli distance that libjxl takes this quality for (JxlEncoderDistanceFromQuality): 25 for 0,
    6.4 for 30, 1 for 90. Raises InvalidArgument outside 0 to 99.99, since 100 would be lossless."""
    if not 0 <= quality < 100:
        raise InvalidArgument(f"quality {quality:g}: JPEG XL's lossy ones go from 0 to under 100")
    if quality >= 30:
        return 0.1 + 0.09 * (100 - quality)
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


class JpegXl:
    """libjxl, lossy; the setting is a quality, for which `distance` stands."""

    name = "jpegxl"
    suffix = ".jxl"
    settings: tuple[float, ...] = (5, 10, 20, 30, 45, 60, 75, 90)

    def __init__(self) -> None:
        codecs = _imagecodecs()
        library = codecs.jpegxl_version()
        self.version = f"imagecodecs {codecs.__version__}, {library}, effort={EFFORT}"

    def encode(self, picture: Pixels, setting: float) -> bytes:
        data = _imagecodecs().jpegxl_encode(
            picture, effort=EFFORT, distance=distance(setting), lossless=False, numthreads=1
        )
        return bytes(data)

    def decode(self, data: bytes) -> Pixels:
        return np.asarray(_imagecodecs().jpegxl_decode(data, numthreads=1), np.uint8)


def _imagecodecs() -> Any:
    try:
        codecs = import_module("imagecodecs")
    except ImportError as error:
        raise MissingDependency(f"needs imagecodecs ({error}): pip install 'latentcodec[bench]'") from error
    if not codecs.JPEGXL.available:
        raise MissingDependency(f"this imagecodecs ({codecs.__version__}) was built without JPEG XL")
    return codecs
