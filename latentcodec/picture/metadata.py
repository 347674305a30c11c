"""EXIF and XMP in one form, whatever the file format, and the orientation that they give.

    Pillow image, Beside ─► read_exif, read_xmp ─► bytes
                          │
                          ├─► orientation ─► 1 ... 8: what to do with the pixels
                          └─► exif.turned, xmp.turned ─► the same bytes, true of the upright picture

EXIF is kept as the bytes of its TIFF structure ("II*\\0..." or "MM\\0*..."), without the "Exif\\0\\0" in
front that JPEG needs. What would cost too much to take apart (directories.py) is dropped, wherever it comes
from.
"""

from __future__ import annotations

import io
import re

from PIL import Image

from latentcodec.errors import LatentCodecError
from latentcodec.picture import xmp as packets
from latentcodec.picture.directories import EXIF_IFD, GPS_IFD, INTEROP_IFD, excess
from latentcodec.picture.exif import orientation_of
from latentcodec.picture.formats.tiff import DESCRIPTIVE
from latentcodec.picture.notices import report

__all__ = [
    "orientation",
    "picture_tags",
    "read_exif",
    "read_xmp",
    "sound_exif",
    "without_prefix",
]

_JPEG_PREFIX = re.compile(rb"^(?:Exif\0\0)+")
_BYTE_ORDERS = (b"II*\0", b"MM\0*")  # TIFF 6.0, section 2


def read_exif(image: Image.Image, name: str, own: bytes | None = None) -> bytes | None:
    """The EXIF of a loaded image as TIFF bytes, or None; `own`: what its file says, where Pillow finds none.

    Damaged EXIF is kept if it begins as TIFF does, else dropped with a report for the picture `name`, as is
    EXIF that claims too much: it never stops a picture from being stored."""
    raw = image.info.get("exif") or own
    try:
        if raw is None:
            exif = image.getexif()  # TIFF tags, or tags set in memory
            if hasattr(image, "tag_v2"):
                exif = picture_tags(exif)
            raw = exif.tobytes() if len(exif) else b""
        elif isinstance(raw, Image.Exif):
            raw = raw.tobytes()
        raw = without_prefix(bytes(raw))
    except (LatentCodecError, MemoryError, Warning):
        raise
    except Exception as error:  # noqa: BLE001 - Pillow's EXIF parser raises almost anything on damaged data
        report(name, f"its EXIF is damaged ({error}) and is dropped")
        return None
    if raw and raw[:4] not in _BYTE_ORDERS:
        report(name, "its EXIF is damaged (no TIFF header) and is dropped")
        return None
    return sound_exif(raw or None, name)


def sound_exif(exif: bytes | None, name: str) -> bytes | None:
    """EXIF as it is; None, with a report for the picture `name`, where taking it apart would cost more time
    or memory than EXIF is worth. Damage that costs nothing is left alone."""
    problem = excess(io.BytesIO(exif)) if exif else ""
    if not problem:
        return exif
    report(name, f"its EXIF is dropped: {problem}")
    return None


def without_prefix(exif: bytes) -> bytes:
    """EXIF without the "Exif\\0\\0" in front, once or more often, that JPEG needs."""
    return _JPEG_PREFIX.sub(b"", exif)


def read_xmp(image: Image.Image, own: bytes | None = None) -> bytes | None:
    """The XMP packet that a file says itself, or of a loaded image; or None."""
    xmp = own or image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        return xmp.encode("utf-8")
    return xmp if isinstance(xmp, bytes) and xmp else None


def picture_tags(exif: Image.Exif) -> Image.Exif:
    """The tags that describe the picture, without those that say how a TIFF file holds its pixels.

    Raises whatever Pillow raises for damaged tags.
    """
    described = Image.Exif()
    for tag in exif:
        if tag in (EXIF_IFD, GPS_IFD):
            directory = described.get_ifd(tag)  # Pillow writes only directories that have been asked for
            # Not Interop, inside EXIF's: only its offset in the old file would be copied.
            directory.update((key, value) for key, value in exif.get_ifd(tag).items() if key != INTEROP_IFD)
            described[tag] = directory
        elif tag in DESCRIPTIVE:
            described[tag] = exif[tag]
    return described


def orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """1 (upright) to 8, as in EXIF's Orientation; EXIF goes before XMP, what makes no sense counts as 1."""
    value = orientation_of(exif) if exif else None
    if value is None:
        value = packets.orientation_of(xmp) if xmp else None
    return int(value) if value is not None and 1 <= value <= 8 and value == int(value) else 1
