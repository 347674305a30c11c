"""Arguments of the public API, checked: pictures of any kind, numbers, options, and targets of files.

quality or target, quantiser, effort, prior, clean-up ─► check_encoding ─► what is asked for
"""

from __future__ import annotations

import math
import numbers
import operator
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcodec.container.autoencoder import PALETTE, SCALAR
from latentcodec.container.chunks import Limits
from latentcodec.errors import InvalidArgument, LimitExceeded
from latentcodec.picture.picture import PICTURE_EXTENSIONS, Picture, from_array, from_pillow

DEFAULT_QUALITY = 60.0
DEFAULT_EFFORT = 3
MAX_EFFORT = 9
REFINED_FROM = 4  # effort from which on an autoencoder's latents are refined
NATIVE = "native"
_UNITS = {"target_size": " of bytes", "target_bpp": " of bits per pixel", "min_psnr": " of dB"}

ImageLike = Image.Image | NDArray[np.uint8 | np.uint16]
PathLike = str | os.PathLike[str]


def as_picture(
    image: ImageLike | Picture,
    limits: Limits,
    model: PathLike = NATIVE,
    *,
    first_frame: bool = False,
    orientation: int | None = None,
) -> Picture:
    """The image as a Picture that a decoder with these limits takes, in a file of this model.

    first_frame, orientation: as of Codec.encode. A Picture is as it is.
    """
    turn = check_orientation(orientation)
    if isinstance(image, Image.Image):
        picture = from_pillow(image, max_pixels=limits.max_pixels, first_frame=first_frame, turn=turn)
    else:
        picture = image if isinstance(image, Picture) else from_array(image, turn or 1)
    fields = ("max_pixels",) if model == NATIVE else ("max_pixels", "max_autoencoder_pixels")
    pixels = picture.width * picture.height
    for name in fields:
        if pixels > (limit := getattr(limits, name)):
            raise LimitExceeded(
                f"the picture is {picture.width}x{picture.height} = {pixels} pixels, the limit is {limit}: "
                f"raise {name} here and where it is decoded (Codec(limits=Limits({name}=...)))"
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


def check_encoding(
    model: PathLike,
    *,
    quality: float | None = None,
    target_size: int | None = None,
    target_bpp: float | None = None,
    min_psnr: float | None = None,
    min_ssimulacra2: float | None = None,
    lossless: bool = False,
    quantiser: str = SCALAR,
    effort: int = DEFAULT_EFFORT,
    prior: PathLike | None = None,
    cleanup_unet: str | None = None,
) -> dict[str, float]:
    """What is asked for of quality and targets: one of them, or nothing. All are those of Codec and encode.

    cleanup_unet: the name of the clean-up's UNet. Nothing is loaded. Raises InvalidArgument, with the names
    of the arguments, for what is out of range and for what does not go together.
    """
    asked = _check_rate(
        quality=quality,
        target_size=target_size,
        target_bpp=target_bpp,
        min_psnr=min_psnr,
        min_ssimulacra2=min_ssimulacra2,
    )
    effort = check_effort(effort)
    if quantiser not in (SCALAR, PALETTE):
        raise InvalidArgument(f"quantiser {quantiser!r}: use {SCALAR} or {PALETTE}", ("quantiser",))
    palette = quantiser if quantiser == PALETTE else None
    if lossless:
        _refuse("what is lossless has no other quality; leave it out", **asked)
        _refuse("what is lossless needs no model; leave it out", model=None if model == NATIVE else model)
    if model == NATIVE:
        _refuse("for autoencoders only; name one as the model",
                quantiser=palette, prior=prior, cleanup_unet=cleanup_unet)  # fmt: skip
    elif palette:
        _refuse("the palette has one rate; leave it out", **asked)
        _refuse("the palette is coded without one; leave it out", prior=prior)
        refined = effort if effort >= REFINED_FROM else None
        _refuse("the palette is never refined; leave it out", effort=refined)
    return asked


def _refuse(why: str, **given: object) -> None:
    """Raise InvalidArgument for the first of these arguments that has a value."""
    for name, value in given.items():
        if value is not None:
            shown = f"{value:g}" if isinstance(value, float) else value
            raise InvalidArgument(f"{name} {shown}: {why}", (name,))


def _check_rate(**given: float | None) -> dict[str, float]:
    asked = {name: number(name, value) for name, value in given.items() if value is not None}
    if len(asked) > 1:
        together = ", ".join(f"{name} {value:g}" for name, value in asked.items())
        raise InvalidArgument(f"{together}: ask for one of them", tuple(asked))
    for name, value in asked.items():
        if name == "quality" and not 0 <= value <= 100:
            raise InvalidArgument(f"quality {value:g}: it goes from 0 to 100", (name,))
        if name == "min_ssimulacra2" and value > 100:
            raise InvalidArgument(
                f"{name} {value:g}: no score is above 100, which pictures without loss have", (name,)
            )
        if name != "quality" and not 0 < value < math.inf:
            raise InvalidArgument(
                f"{name} {value:g}: it must be a positive number{_UNITS.get(name, '')}", (name,)
            )
    return asked


def check_orientation(orientation: object) -> int | None:
    """The orientation, 1 to 8 as in EXIF, or None. Raises InvalidArgument."""
    if orientation is None or (type(orientation) is int and 1 <= orientation <= 8):
        return orientation
    raise InvalidArgument(
        f"orientation {orientation!r}: it is a whole number from 1, upright, to 8, as in EXIF",
        ("orientation",),
    )


def check_effort(effort: object) -> int:
    """The effort, 1 to 9. Raises InvalidArgument."""
    try:
        value = 0 if isinstance(effort, bool) else operator.index(effort)  # type: ignore[arg-type]
    except TypeError:
        value = 0
    if not 1 <= value <= MAX_EFFORT:
        raise InvalidArgument(f"effort {effort!r}: it is a whole number from 1 to {MAX_EFFORT}", ("effort",))
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
