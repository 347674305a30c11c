"""Picture files of other formats, through Pillow: open_picture and save_picture.

path or stream ─► read_file: what stands beside the pixels ─────────────┐
               ─► guard ─► Pillow, which opens PICTURE_FORMATS alone ───┴─► picture_of ─► Picture
Picture ─► embed.py: what the format has a place for ─► Pillow ─► bytes ─► path (whole, or not at all), stream
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidArgument, UnreadableImage, UnsupportedImage
from latentcodec.picture.deep_reading import describe_tiff
from latentcodec.picture.deep_writing import deep_bytes
from latentcodec.picture.embed import finished, prepared
from latentcodec.picture.formats.scan import read_file
from latentcodec.picture.guard import open_image
from latentcodec.picture.notices import noted
from latentcodec.picture.picture import (
    MAX_PIXELS,
    Picture,
    picture_of,
    pillow_errors,
    to_pillow,
    with_depth,
)

__all__ = ["open_picture", "save_picture"]


@dataclass(frozen=True)
class _Format:
    """How one format is written: the best that it can do short of surprises, lossless where it is able to."""

    extensions: tuple[str, ...]
    alpha: bool
    largest_side: int = 2**31 - 1
    options: dict[str, Any] = field(default_factory=dict)


_FORMATS = {
    "PNG": _Format((".png",), alpha=True),
    "JPEG": _Format(
        (".jpg", ".jpeg", ".jpe", ".jfif"), False, 65500, {"quality": 95, "subsampling": "4:4:4"}
    ),
    "WEBP": _Format((".webp",), True, 16383, {"lossless": True, "exact": True}),
    "AVIF": _Format((".avif",), True, 65535, {"quality": 95, "subsampling": "4:4:4"}),
    # Uncompressed: Pillow cannot write EXIF's directories through libtiff.
    "TIFF": _Format((".tif", ".tiff"), alpha=True, options={"compression": "raw"}),
    "JPEG2000": _Format((".jp2",), alpha=True),
    "TGA": _Format((".tga",), True, 65535),
    "BMP": _Format((".bmp",), alpha=False),
    "PPM": _Format((".ppm", ".pgm", ".pnm"), alpha=False),
}
_BY_EXTENSION = {extension: name for name, format_ in _FORMATS.items() for extension in format_.extensions}


def open_picture(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    name: str = "",
    first_frame: bool = False,
    turn: int | None = None,
) -> Picture:
    """The picture in a file or binary stream, which may be a pipe; `from_pillow` says what becomes of it.

    Its content, not its name, says what format it has: one of `guard.PICTURE_FORMATS`. `name` is what
    messages call it, by default its path. first_frame, turn: as of `from_pillow`. EXIF that would cost too
    much to take apart is dropped with a DroppedDataWarning. Raises UnreadableImage (no picture, or a damaged
    one), UnsupportedImage (an animation), LimitExceeded (over `max_pixels`, over Pillow's own limit, or a
    TIFF whose tags claim too much), OSError (the file cannot be opened).
    """
    if isinstance(source, (str, os.PathLike)):
        name = name or os.fspath(source)
        with open(source, "rb") as file:
            return _read(file, name, max_pixels, first_frame, turn)
    if not hasattr(source, "read"):
        raise InvalidArgument(
            f"a picture is opened by path or binary stream, this is a {type(source).__name__}"
        )
    name = name or str(getattr(source, "name", "the stream"))
    seekable = getattr(source, "seekable", lambda: False)()
    return _read(source if seekable else io.BytesIO(source.read()), name, max_pixels, first_frame, turn)


def _read(file: BinaryIO, name: str, max_pixels: int, first_frame: bool, turn: int | None) -> Picture:
    with noted() as notes:
        own = read_file(file, name)
        image = _opened(file, name)
        picture = picture_of(image, own, name, max_pixels, first_frame=first_frame, turn=turn)
    return replace(picture, left_out=tuple(notes))


def _opened(file: BinaryIO, name: str) -> Image.Image:
    try:
        with pillow_errors(name):
            return open_image(file, name)
    except UnreadableImage as error:
        if kind := describe_tiff(file):
            raise UnsupportedImage(
                f"{name} is a TIFF that Pillow does not read ({kind}): convert it to gray, RGB or RGBA, "
                "integers of 8 or 16 bits"
            ) from error
        raise


def save_picture(
    picture: Picture,
    target: str | os.PathLike[str] | BinaryIO,
    format: str | None = None,
    *,
    like: os.stat_result | None = None,
) -> None:
    """Write a picture as PNG, JPEG, WebP, AVIF, TIFF, JPEG 2000, TGA, BMP or PPM.

    `format` is such a name ("png", "JPEG" ...) or an extension; without it the extension of the path decides.
    A file appears whole or not at all; like: with these permissions and times. JPEG and AVIF are written at
    quality 95 without chroma subsampling; all others are lossless. PNG, TIFF, PPM and, with the extra `deep`,
    JPEG 2000 hold all bits of a picture of more than 8, and AVIF up to 12; elsewhere they are rounded, with a
    ReducedDepthWarning. What the format has no place for is left out with a DroppedDataWarning, as is EXIF
    that is too damaged for it, or would cost too much to take apart; colours become sRGB where it has no
    place for a profile (docs/fidelity.md).

    Raises UnsupportedImage where the format cannot hold the picture (its transparency, its size),
    InvalidArgument for an unknown format, OSError where the file cannot be written.
    """
    path = Path(target) if isinstance(target, (str, os.PathLike)) else None
    label = str(path) if path else "the stream"
    kind = _format_name(path, format)
    data = _encoded(picture, kind, label)
    if path:
        write_atomically(path, data, like=like)
    elif isinstance(target, (str, os.PathLike)) or not hasattr(target, "write"):
        raise InvalidArgument(f"a picture is saved to a path or binary stream, not a {type(target).__name__}")
    else:
        target.write(data)


def _format_name(path: Path | None, format: str | None) -> str:
    if format is None and path is None:
        raise InvalidArgument("a picture saved to a stream needs its format: format='PNG', say")
    requested = format if format is not None else path.suffix if path else ""
    name = (
        requested.upper()
        if requested.upper() in _FORMATS
        else _BY_EXTENSION.get(f".{requested.lower().lstrip('.')}")
    )
    if name is None:
        known = ", ".join(_BY_EXTENSION)
        raise InvalidArgument(
            f"{path or 'the stream'}: no picture format is known as '{requested}'; use {known}"
        )
    return name


def _encoded(picture: Picture, kind: str, label: str) -> bytes:
    chosen = _FORMATS[kind]
    if picture.alpha is not None and not chosen.alpha:
        raise UnsupportedImage(
            f"{label}: {kind} cannot hold transparency; save it as PNG, WebP or TIFF, or remove the alpha"
        )
    side = max(picture.height, picture.width)
    if side > chosen.largest_side:
        raise UnsupportedImage(
            f"{label}: {kind} holds at most {chosen.largest_side} pixels a side, the picture has {side};"
            " save it as PNG or TIFF"
        )
    picture, beside = prepared(picture, kind, label)
    if picture.bit_depth > 8:
        quality = int(chosen.options.get("quality", 0))
        shell = partial(_pillow_bytes, kind=kind, beside=beside, label=label)
        deep = deep_bytes(picture, kind, shell, label, quality)
        if deep is not None:
            return finished(deep, picture, kind) if kind == "JPEG2000" else deep
        picture = with_depth(picture, 8)
    return _pillow_bytes(picture, kind, beside, label)


def _pillow_bytes(picture: Picture, kind: str, beside: dict[str, Any], label: str) -> bytes:
    """The file of a prepared picture of 8 bits."""
    stream, image = io.BytesIO(), to_pillow(replace(picture, exif=None))
    image.info.clear()  # or Pillow would write what it finds there
    try:
        image.save(stream, kind, **_FORMATS[kind].options | beside)
        return finished(stream.getvalue(), picture, kind)
    except Exception as error:  # what a build of Pillow lacks, it says in many classes
        raise UnsupportedImage(
            f"{label}: Pillow cannot write {image.width}x{image.height} {image.mode} as {kind} ({error});"
            " save it as PNG"
        ) from error
