"""Arguments of the public API, checked: pictures of any kind, numbers, options, and targets of files.

CodecOptions ────┐
EncodeOptions ───┼─► EncodeWith: latentcodec.encode and compress
DecodeOptions ───┴─► DecodeWith: latentcodec.decode and decompress          split takes them apart again
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcodec.chunks import Limits
from latentcodec.errors import InvalidArgument, LimitExceeded
from latentcodec.image import PICTURE_EXTENSIONS, Picture, from_array, from_pillow

DEFAULT_QUALITY = 60.0
DEFAULT_EFFORT = 3
MAX_EFFORT = 9
REFINED_FROM = 4  # effort from which on an autoencoder's latents are refined
NATIVE = "native"
SCALAR, PALETTE = "scalar", "palette"
_UNITS = {"target_size": "bytes", "target_bpp": "bits per pixel", "min_psnr": "dB"}

ImageLike = Image.Image | NDArray[np.uint8]
PathLike = str | os.PathLike[str]


class CodecOptions(TypedDict, total=False):
    """Keywords of Codec."""

    model: PathLike
    device: str
    limits: Limits
    prior: PathLike | None
    cleanup_unet: PathLike | None
    cleanup_limit: float
    cleanup_preset: str
    cleanup_prompt: Sequence[int]
    cleanup_seed: int


class EncodeOptions(TypedDict, total=False):
    """Keywords of Codec.encode and Codec.compress."""

    quality: float | None
    target_size: int | None
    target_bpp: float | None
    min_psnr: float | None
    strip: bool
    quantiser: str
    effort: int


class DecodeOptions(TypedDict, total=False):
    """Keywords of Codec.decode and Codec.decompress."""

    partial: bool
    cleanup: float


class EncodeWith(CodecOptions, EncodeOptions, total=False):
    """Both."""


class DecodeWith(CodecOptions, DecodeOptions, total=False):
    """Both."""


def split(options: Mapping[str, Any]) -> tuple[CodecOptions, dict[str, Any]]:
    """Codec's keywords, and the others, which its methods know or refuse."""
    own = CodecOptions.__annotations__
    return (
        CodecOptions(**{name: value for name, value in options.items() if name in own}),  # type: ignore[typeddict-item]
        {name: value for name, value in options.items() if name not in own},
    )


def as_picture(image: ImageLike | Picture, max_pixels: int) -> Picture:
    """The image as a Picture of at most `max_pixels`, which is what a decoder with these limits takes."""
    if isinstance(image, Image.Image):
        return from_pillow(image, max_pixels=max_pixels)
    picture = image if isinstance(image, Picture) else from_array(image)
    if (pixels := picture.width * picture.height) > max_pixels:
        raise LimitExceeded(
            f"the picture is {picture.width}x{picture.height} = {pixels} pixels, the limit is {max_pixels}: "
            "raise max_pixels here and where it is decoded (Codec(limits=Limits(max_pixels=...)))"
        )
    return picture


def number(name: str, value: object) -> float:
    """An argument as a float. Raises InvalidArgument for what is no real number; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidArgument(f"{name} {value!r}: it must be a number, this is a {type(value).__name__}")
    try:
        return float(value)
    except OverflowError as error:
        raise InvalidArgument(f"{name}: it is beyond all floats; give a smaller number") from error


def check_rate(**given: float | None) -> dict[str, float]:
    """What is asked for of quality, target_size, target_bpp and min_psnr: one of them, or nothing.

    Raises InvalidArgument for several, and for what is out of range.
    """
    asked = {name: number(name, value) for name, value in given.items() if value is not None}
    if len(asked) > 1:
        named = ", ".join(f"{name} {value:g}" for name, value in asked.items())
        raise InvalidArgument(f"{named}: ask for one of them")
    for name, value in asked.items():
        if name == "quality" and not 0 <= value <= 100:
            raise InvalidArgument(f"quality {value:g}: it goes from 0 to 100")
        if name != "quality" and not 0 < value < math.inf:
            raise InvalidArgument(f"{name} {value:g}: it must be a positive number of {_UNITS[name]}")
    return asked


def check_effort(effort: object) -> int:
    """The effort, 1 to 9. Raises InvalidArgument."""
    try:
        value = 0 if isinstance(effort, bool) else operator.index(effort)  # type: ignore[arg-type]
    except TypeError:
        value = 0
    if not 1 <= value <= MAX_EFFORT:
        raise InvalidArgument(f"effort {effort!r}: it is a whole number from 1 to {MAX_EFFORT}")
    return value


def check_target(src: PathLike, dst: PathLike) -> None:
    """Raise InvalidArgument where compressing to dst would surely be a mistake."""
    target = Path(dst)
    if os.path.realpath(src) == os.path.realpath(dst):
        raise InvalidArgument(f"{target}: it would be written over the picture itself: name another file")
    if target.suffix.lower() in PICTURE_EXTENSIONS:
        raise InvalidArgument(
            f"{target}: compress writes .lci files, not {target.suffix}: "
            f"name it {target.with_suffix('.lci')}, or use decompress"
        )
