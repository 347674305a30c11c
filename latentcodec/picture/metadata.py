"""What comes beside the pixels: EXIF and XMP, and the orientation that they give.

    Pillow image ─► read_exif, read_xmp ─► bytes in one form, whatever the file format
                          │
                          ├─► orientation ─► 1 ... 8: what to do with the pixels
                          └─► upright_exif, upright_xmp ─► the same bytes, the orientation patched to 1

EXIF is kept as the bytes of its TIFF structure ("II*\\0..." or "MM\\0*..."), without the "Exif\\0\\0" in
front that JPEG needs. It is patched in place and never written anew: maker notes and thumbnails hold absolute
offsets. What would cost too much to take apart (directories.py) is dropped, wherever it comes from.
"""

from __future__ import annotations

import io
import re
import struct
import warnings

from PIL import Image

from latentcodec.errors import LatentCodecError
from latentcodec.picture.directories import EXIF_IFD, GPS_IFD, INTEROP_IFD, excess

__all__ = [
    "DroppedDataWarning",
    "orientation",
    "picture_tags",
    "read_exif",
    "read_xmp",
    "sound_exif",
    "upright_exif",
    "upright_xmp",
    "without_prefix",
]

_JPEG_PREFIX = re.compile(rb"^(?:Exif\0\0)+")
_BYTE_ORDER = {b"II*\0": "<", b"MM\0*": ">"}  # TIFF 6.0, section 2
_ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "I"}  # BYTE, SHORT (the standard's), LONG
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])(?=\s*[\"'<])")

# TIFF tags that describe the picture and not how its pixels lie in the file (TIFF 6.0, Exif 2.32, XP* by
# Microsoft).
_DESCRIPTIVE = frozenset(
    {
        *(0x010E, 0x010F, 0x0110),  # ImageDescription, Make, Model
        *(0x011A, 0x011B, 0x0128),  # XResolution, YResolution, ResolutionUnit
        *(0x0131, 0x0132, 0x013B, 0x013C),  # Software, DateTime, Artist, HostComputer
        *(0x4746, 0x4749, 0x8298),  # Rating, RatingPercent, Copyright
        *(0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),  # XPTitle, XPComment, XPAuthor, XPKeywords, XPSubject
        *(EXIF_IFD, GPS_IFD),
    }
)


class DroppedDataWarning(UserWarning):
    """Something beside the pixels could not be kept; the picture itself is whole."""


def read_exif(image: Image.Image, name: str) -> bytes | None:
    """The EXIF of a loaded image as TIFF bytes, or None. Damaged EXIF is kept if it begins as TIFF does, else
    dropped with a DroppedDataWarning that names `name`, as is EXIF that claims too much: it never stops a
    picture from being stored."""
    raw, text = image.info.get("exif"), image.info.get("Raw profile type exif")
    try:
        if raw is None and isinstance(text, str):  # of a PNG by ImageMagick: a name, a length, hexadecimal
            raw = bytes.fromhex("".join(text.split("\n")[3:]))
        elif raw is None:
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
        warnings.warn(
            f"{name}: its EXIF is damaged ({error}) and is dropped", DroppedDataWarning, stacklevel=3
        )
        return None
    if raw and raw[:4] not in _BYTE_ORDER:
        warnings.warn(f"{name}: its EXIF is damaged (no TIFF header) and is dropped", DroppedDataWarning, 3)
        return None
    return sound_exif(raw or None, name)


def sound_exif(exif: bytes | None, name: str) -> bytes | None:
    """EXIF as it is; None, with a DroppedDataWarning that names `name`, where taking it apart would cost more
    time or memory than EXIF is worth. Damage that costs nothing is left alone."""
    problem = excess(io.BytesIO(exif)) if exif else ""
    if not problem:
        return exif
    warnings.warn(f"{name}: its EXIF is dropped: {problem}", DroppedDataWarning, stacklevel=4)
    return None


def without_prefix(exif: bytes) -> bytes:
    """EXIF without the "Exif\\0\\0" in front, once or more often, that JPEG needs."""
    return _JPEG_PREFIX.sub(b"", exif)


def read_xmp(image: Image.Image) -> bytes | None:
    """The XMP packet of a loaded image, or None."""
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
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
        elif tag in _DESCRIPTIVE:
            described[tag] = exif[tag]
    return described


def orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """1 (upright) to 8, as in EXIF's Orientation; EXIF goes before XMP, what makes no sense counts as 1."""
    entry = _orientation_entry(exif) if exif else None
    if exif and entry:
        return value if 1 <= (value := struct.unpack_from(entry[1], exif, entry[0])[0]) <= 8 else 1
    match = _XMP_ORIENTATION.search(xmp) if xmp else None
    return int(match[2]) if match else 1


def upright_exif(exif: bytes | None) -> bytes | None:
    """The EXIF with its Orientation, where it has one, set to 1; no other byte changes."""
    entry = _orientation_entry(exif) if exif else None
    if not exif or not entry:
        return exif
    patched = bytearray(exif)
    struct.pack_into(entry[1], patched, entry[0], 1)
    return bytes(patched)


def upright_xmp(xmp: bytes | None) -> bytes | None:
    """The XMP with every tiff:Orientation set to 1; no other byte changes."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp) if xmp else xmp


def _orientation_entry(exif: bytes) -> tuple[int, str] | None:
    """Where the first directory's Orientation value stands, and its struct format; None if not to be had."""
    order = _BYTE_ORDER.get(exif[:4])
    if order is None:
        return None
    try:
        (directory,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, directory)
        for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind, count, _ = struct.unpack_from(order + "HHII", exif, entry)
            if tag == _ORIENTATION:
                return (entry + 8, order + _INTEGERS[kind]) if count == 1 and kind in _INTEGERS else None
    except struct.error:  # the directory lies, wholly or in part, outside
        return None
    return None
