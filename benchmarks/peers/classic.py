"""The codecs that Pillow brings: JPEG, WebP, AVIF and JPEG 2000; and JPEG with MozJPEG's choice of scans."""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import PIL
from PIL import Image, features

from benchmarks.pictures.arrays import Pixels, to_pixels
from latentcodec.errors import InvalidArgument, MissingDependency

__all__ = ["Avif", "AvifFast", "Jpeg", "Jpeg2000", "MozJpeg", "WebP"]

RESOLUTIONS = 6  # of JPEG 2000: the default of OpenJPEG and Pillow, five halvings


class _Pillow:
    """A codec of Pillow's: quality 0-100 and fixed options."""

    step: ClassVar[float] = 1
    """Between the qualities that its library distinguishes."""
    format: ClassVar[str]
    feature: ClassVar[str]
    options: ClassVar[Mapping[str, Any]]

    def __init__(self) -> None:
        if not features.check(self.feature):
            raise MissingDependency(
                f"this Pillow ({PIL.__version__}) was built without {self.format}; PyPI's wheels have it"
            )
        library = (
            "libjpeg_turbo" if features.check("libjpeg_turbo") and self.feature == "jpg" else self.feature
        )
        options = " ".join(f"{key}={value}" for key, value in self.options.items())
        self.version = f"Pillow {PIL.__version__}, {library} {features.version(library)}, {options}"

    def encode(self, picture: Pixels, setting: float) -> bytes:
        if setting % self.step:
            accepted = "whole numbers" if self.step == 1 else f"multiples of {self.step:g}"
            raise InvalidArgument(f"quality {setting:g}: {self.format} takes {accepted}")
        return self._save(picture, quality=int(setting) if setting == int(setting) else setting)

    def decode(self, data: bytes) -> Pixels:
        with Image.open(io.BytesIO(data), formats=[self.format]) as image:
            return to_pixels(image)

    def _save(self, picture: Pixels, **options: Any) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, self.format, **options, **self.options)
        return buffer.getvalue()


class Jpeg(_Pillow):
    """libjpeg-turbo, with optimised Huffman tables and progressive scans; 4:2:0, Pillow's default."""

    name = "jpeg"
    suffix = ".jpg"
    settings: tuple[float, ...] = (5, 10, 15, 20, 30, 50, 75, 90)
    format = "JPEG"
    feature = "jpg"
    options: ClassVar = {"optimize": True, "progressive": True}


class MozJpeg(Jpeg):
    """Jpeg with the scans and Huffman tables that MozJPEG finds for it, same pixels.

    MozJPEG's own quantisation (trellis, tables) is in no package of PyPI's for Linux, so its files would be
    smaller still.
    """

    name = "mozjpeg"
    package = "mozjpeg-lossless-optimization"

    def __init__(self) -> None:
        super().__init__()
        try:
            self._optimise = import_module("mozjpeg_lossless_optimization").optimize
        except ImportError as error:
            raise MissingDependency(
                f"needs {self.package} ({error}): pip install 'latentcodec[bench]'"
            ) from error
        self.version += f", {self.package} {importlib.metadata.version(self.package)}"

    def encode(self, picture: Pixels, setting: float) -> bytes:
        return bytes(self._optimise(super().encode(picture, setting)))

    def __reduce__(self) -> tuple[type[MozJpeg], tuple[()]]:
        return MozJpeg, ()


class WebP(_Pillow):
    """libwebp, lossy, at its slowest and best method."""

    name = "webp"
    suffix = ".webp"
    settings: tuple[float, ...] = (5, 10, 20, 30, 40, 60, 80, 90)
    step = 1 / 4096  # a float there, and near 0 its quantiser goes with the cube root of it
    format = "WEBP"
    feature = "webp"
    options: ClassVar = {"method": 6}


class Avif(_Pillow):
    """libavif with AV1, at a speed of which the slower ones gain little; 4:2:0."""

    name = "avif"
    suffix = ".avif"
    settings: tuple[float, ...] = (5, 15, 25, 35, 45, 60, 75, 90)
    format = "AVIF"
    feature = "avif"
    options: ClassVar = {"speed": 4, "max_threads": 1}


class AvifFast(Avif):
    """AVIF at the speed of those who cannot wait."""

    name = "avif-fast"
    options: ClassVar = {"speed": 8, "max_threads": 1}


class Jpeg2000(_Pillow):
    """OpenJPEG with the irreversible 9/7 wavelet; the setting is the PSNR in dB that its encoder aims at."""

    name = "jpeg2000"
    suffix = ".jp2"
    settings: tuple[float, ...] = (22, 24, 26, 28, 31, 34, 38, 42)
    format = "JPEG2000"
    feature = "jpg_2000"
    options: ClassVar = {"irreversible": True, "mct": 1, "quality_mode": "dB"}

    def encode(self, picture: Pixels, setting: float) -> bytes:
        halvings = min(picture.shape[:2]).bit_length() - 1
        resolutions = min(RESOLUTIONS, 1 + halvings)
        return self._save(picture, quality_layers=[float(setting)], num_resolutions=resolutions)
