"""Arguments of the public API, checked: pictures of any kind, numbers, and targets of files."""

from __future__ import annotations

import numbers
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcodec.errors import InvalidArgument, LimitExceeded
from latentcodec.image import PICTURE_EXTENSIONS, Picture, from_array, from_pillow

ImageLike = Image.Image | NDArray[np.uint8]
PathLike = str | os.PathLike[str]


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
