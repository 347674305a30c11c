"""What Pillow parses while it opens a file, bounded before: EXIF, JPEG's MP index, a TIFF's own directories.

    PNG ─► a copy without text and profile, which are read elsewhere: Pillow takes no more than 1 MiB of each
    JPEG ─► segments before the scan ─► EXIF, MP index ─┐
    AVIF ─► its decoder, which reads boxes only ─► EXIF ┼─► excess ─► none: the stream
    TIFF ───────────────────────────────────────────────┘       └───► some: a copy in which Pillow finds none
                                                                     (a TIFF cannot be without: LimitExceeded)

Only what would cost too much is refused. Mere damage Pillow may deal with as it does.
"""

from __future__ import annotations

import io
import re
from typing import BinaryIO

from PIL import AvifImagePlugin, Image, TiffImagePlugin

from latentcodec.errors import LimitExceeded, MissingDependency
from latentcodec.picture.directories import excess
from latentcodec.picture.formats import png
from latentcodec.picture.formats.jpeg import START, segments
from latentcodec.picture.metadata import without_prefix
from latentcodec.picture.notices import report

__all__ = ["PICTURE_FORMATS", "guarded", "open_formats", "open_image"]

# What may be opened (docs/usage.md), by Pillow's names. Left out is what nobody means by a picture file,
# above all EPS: whatever the file's name, Pillow would hand it to Ghostscript, which runs it as a program.
# HEIF is read where pillow-heif is installed or another plugin registered, JXL where a plugin is.
PICTURE_FORMATS = (
    *("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "JPEG2000", "GIF", "BMP", "DIB", "ICO", "ICNS"),
    *("PPM", "TGA", "PSD", "QOI", "PCX", "SGI", "HEIF", "JXL"),
)

# Brands of HEIF with HEVC inside (ISO 23008-12, annex B); the boxes of a file begin with them.
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_HEAD = 256  # bytes that show them
_EXIF, _MP = b"Exif\0\0", b"MPF\0"
_APP1, _APP2 = 0xFFE1, 0xFFE2
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{7,9})Exif", re.DOTALL)  # ISO 14496-12, 8.11.6


def open_formats() -> list[str]:
    """Those of PICTURE_FORMATS that this Pillow, with its plugins, has."""
    Image.init()
    return [name for name in PICTURE_FORMATS if name in Image.OPEN]


def open_image(file: BinaryIO, name: str) -> Image.Image:
    """Pillow's image of a seekable stream, guarded, of one of PICTURE_FORMATS.

    Raises what Pillow raises, LimitExceeded as `guarded` does, MissingDependency for HEIC without
    pillow-heif.
    """
    formats = open_formats()
    file.seek(0)
    if _is_heic(file.read(_HEAD)) and "HEIF" not in formats:
        file.seek(0)
        return _open_heic(file, name)
    return Image.open(guarded(file, name), formats=formats)


def guarded(file: BinaryIO, name: str) -> BinaryIO:
    """The stream, or a copy without EXIF or MP index that would cost too much, which is reported; of a PNG
    without text and profile. Raises LimitExceeded for a TIFF that would cost too much, OSError.
    """
    file.seek(0)
    head = file.read(16)
    if head.startswith(tuple(TiffImagePlugin.PREFIXES)):
        problem = excess(file)
        if problem:
            raise LimitExceeded(f"{name}: {problem}")
    elif head.startswith(START):
        file.seek(0)
        file = _jpeg(file, name)
    elif head.startswith(png.SIGNATURE):
        file = png.lean(file)
    elif head[4:8] == b"ftyp" and AvifImagePlugin.SUPPORTED:
        file.seek(0)
        file = _avif(file, name)
    file.seek(0)
    return file


def _is_heic(head: bytes) -> bool:
    """Whether a file begins as HEIC does: its own brand, or one of those that it is compatible with."""
    if head[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return not _HEIC_BRANDS.isdisjoint(head[place : place + 4] for place in (8, *range(16, end, 4)))


def _open_heic(file: BinaryIO, name: str) -> Image.Image:
    """By pillow-heif, which is not registered with Pillow: that is for the program to do."""
    try:
        from pillow_heif import HeifImageFile
    except Exception as error:  # a wheel for another system fails in its own ways
        raise MissingDependency(
            f"{name}: a HEIC picture, which needs the package pillow-heif ({error}): "
            "pip install 'latentcodec[heif]', or save it as JPEG or PNG"
        ) from error
    return HeifImageFile(file)  # type: ignore[no-untyped-call]


def _jpeg(file: BinaryIO, name: str) -> BinaryIO:
    data = file.read()
    exif, index = [], []
    for marker, begin, end in segments(data):
        if marker == _APP1 and data.startswith(_EXIF, begin, end):
            exif.append((begin, end))
        elif marker == _APP2 and data.startswith(_MP, begin, end):
            index = [(begin, end)]  # as Pillow has it: the last one
    changed = bytearray()
    for part, places, mark in (("EXIF", exif, _EXIF), ("index of further pictures", index, _MP)):
        parts = [data[begin + len(mark) : end] for begin, end in places]  # Pillow joins those of EXIF
        problem = excess(io.BytesIO(without_prefix(b"".join(parts)))) if parts else ""
        if problem:
            report(name, f"its {part} is dropped: {problem}")
            changed = changed or bytearray(data)
            for begin, _ in places:
                changed[begin : begin + len(mark)] = bytes(len(mark))  # a segment that nobody knows
    return io.BytesIO(changed or data)


def _avif(file: BinaryIO, name: str) -> BinaryIO:
    data = file.read()
    exif = _avif_exif(data)
    problem = excess(io.BytesIO(without_prefix(exif))) if exif else ""
    if problem:
        report(name, f"its EXIF is dropped: {problem}")
        data = _EXIF_ITEM.sub(rb"\1none", data)  # an item of a type that nobody knows
        if _avif_exif(data):
            raise LimitExceeded(f"{name}: {problem}")
    return io.BytesIO(data)


def _avif_exif(data: bytes) -> bytes:
    """The EXIF of an AVIF file as Pillow's own decoder finds it; empty if there is none, or no AVIF."""
    from PIL import _avif as library

    try:
        _, _, _, _, exif, _, _ = library.AvifDecoder(data, "auto", 1).get_info()
    except Exception:  # noqa: BLE001 - what it is, Pillow says when it opens the file
        return b""
    return exif or b""
