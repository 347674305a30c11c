"""EXIF's entries where they stand, read and patched in place: no other byte changes.

bytes of a TIFF structure ─► entries(exif, directory) ─► Entry: tag, type, count, where its values are
                          ─► turned: Orientation 1, width and height as the turned picture's, thumbnail turned

Maker notes hold absolute offsets, so EXIF is never written anew. A thumbnail is turned where it stands, and
left out where that cannot be done.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from latentcodec.picture.directories import EXIF_IFD, INTEROP_IFD
from latentcodec.picture.notices import report

__all__ = [
    "Entry",
    "entries",
    "is_adobe_rgb",
    "orientation_of",
    "resolution_of",
    "turned",
    "without_orientation",
]

_BYTE_ORDER = {b"II*\0": "<", b"MM\0*": ">"}  # TIFF 6.0, section 2
_FORMS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_MOST_ENTRIES = 4096  # directories.py drops EXIF that has more

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_COLOUR_SPACE, _INTEROP_INDEX = 0xA001, 0x0001
# Pairs that a quarter turn exchanges: width and height, and resolutions (Exif 2.32, 4.6.4 and 4.6.5).
_SIDES = ((0x0100, 0x0101), (_X_RESOLUTION, _Y_RESOLUTION))
_EXIF_SIDES = ((0xA002, 0xA003),)
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_LARGEST_THUMBNAIL = 1024  # pixels a side that are turned
_QUALITIES = (90, 80, 70, 55, 40)  # of a turned thumbnail, which must fit into its place
_INCH, _CENTIMETRE = 2, 3
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Entry:
    """An entry of a directory. place: of its values; record: of its own 12 bytes; form: struct's, of one
    value, "" where it is no number."""

    tag: int
    count: int
    place: int
    record: int
    form: str

    def number(self, exif: bytes | bytearray) -> float | None:
        """The first value; None where there is none, or no finite one."""
        if not self.form or not self.count:
            return None
        try:
            parts = struct.unpack_from(self.form, exif, self.place)
            value = parts[0] / parts[1] if len(parts) == 2 else parts[0]
        except (struct.error, ZeroDivisionError):
            return None
        return value if math.isfinite(value) else None


def first_directory(exif: bytes) -> int | None:
    """Where the first directory stands; None where there is no TIFF header."""
    order = _BYTE_ORDER.get(exif[:4])
    return None if order is None or len(exif) < 8 else int(struct.unpack_from(order + "I", exif, 4)[0])


def entries(exif: bytes | bytearray, directory: int | None) -> Iterator[Entry]:
    """The entries of the directory at a byte, as far as they are there."""
    order = _BYTE_ORDER.get(bytes(exif[:4]))
    if order is None or directory is None:
        return
    try:
        (count,) = struct.unpack_from(order + "H", exif, directory)
        for record in range(directory + 2, directory + 2 + 12 * min(count, _MOST_ENTRIES), 12):
            tag, kind, values, offset = struct.unpack_from(order + "HHII", exif, record)
            form = order + _FORMS[kind] if kind in _FORMS else ""
            size = struct.calcsize(form) if form else 1
            yield Entry(tag, values, record + 8 if values * size <= 4 else offset, record, form)
    except struct.error:  # the directory lies, wholly or in part, outside
        return


def _entry(exif: bytes | bytearray, directory: int | None, tag: int) -> Entry | None:
    return next((entry for entry in entries(exif, directory) if entry.tag == tag), None)


def _target(exif: bytes, directory: int | None, tag: int) -> int | None:
    """Where the directory stands that an entry points to."""
    entry = _entry(exif, directory, tag)
    value = entry.number(exif) if entry else None
    return int(value) if value is not None and 8 <= value < len(exif) else None


def orientation_of(exif: bytes) -> float | None:
    """The Orientation, of whatever type and count: the first value, as Pillow has it; None without one."""
    entry = _entry(exif, first_directory(exif), _ORIENTATION)
    return entry.number(exif) if entry else None


def is_adobe_rgb(exif: bytes | None) -> bool:
    """Whether it says that colours are those of Adobe RGB: R03 beside a colour space that is not sRGB."""
    if not exif:
        return False
    directory = _target(exif, first_directory(exif), EXIF_IFD)
    space = _entry(exif, directory, _COLOUR_SPACE)
    value = space.number(exif) if space else None
    interop = _entry(exif, _target(exif, directory, INTEROP_IFD), _INTEROP_INDEX)
    index = exif[interop.place : interop.place + 3] if interop and interop.count in (3, 4) else b""
    return (index == b"R03" and value in (None, 0xFFFF, 2)) or value == 2  # 2: as some cameras write


def resolution_of(exif: bytes | None) -> tuple[float, float] | None:
    """Dots per inch from left to right and from top to bottom, or None."""
    if not exif:
        return None
    first = first_directory(exif)
    values = []
    for tag in (_X_RESOLUTION, _Y_RESOLUTION, _UNIT):
        entry = _entry(exif, first, tag)
        values.append(entry.number(exif) if entry else None)
    across, down, unit = values
    if not across or not down or across < 0 or down < 0 or unit not in (None, _INCH, _CENTIMETRE):
        return None
    scale = 2.54 if unit == _CENTIMETRE else 1
    return across * scale, down * scale


def turned(exif: bytes | None, turn: int, name: str) -> bytes | None:
    """EXIF of the picture once it was turned upright from an orientation of 1 to 8.

    Its Orientation, where it has one, becomes 1; of a quarter turn width and height change places. The
    thumbnail is turned as the picture is; one that cannot be is unlinked, with a report.
    """
    if not exif:
        return exif
    patched, first = bytearray(exif), first_directory(exif)
    _set_upright(patched, first)
    if turn >= 5:
        for directory, sides in ((first, _SIDES), (_target(exif, first, EXIF_IFD), _EXIF_SIDES)):
            for pair in sides:
                _exchange(patched, directory, *pair)
    if turn > 1:
        _turn_thumbnail(patched, first, turn, name)
    return bytes(patched)


def without_orientation(exif: bytes) -> bytes:
    """EXIF without its Orientation: the entries behind it move up in their directory, and nothing else does.

    For writers that would make EXIF anew to take it out.
    """
    first = first_directory(exif)
    entry = _entry(exif, first, _ORIENTATION)
    if entry is None or first is None:
        return exif
    patched, order = bytearray(exif), _BYTE_ORDER[exif[:4]]
    (count,) = struct.unpack_from(order + "H", exif, first)
    end = first + 2 + 12 * count + 4  # with the offset of the next directory
    if end > len(exif):
        return exif
    patched[entry.record : end] = exif[entry.record + 12 : end] + bytes(12)
    struct.pack_into(order + "H", patched, first, count - 1)
    return bytes(patched)


def _set_upright(exif: bytearray, directory: int | None) -> None:
    entry = _entry(exif, directory, _ORIENTATION)
    if entry is None or not entry.form:
        return
    if entry.place != entry.record + 8 and entry.number(exif) not in range(2, 9):
        return  # values elsewhere that make no sense may be anything
    size = struct.calcsize(entry.form)
    one = (1,) * len(struct.unpack(entry.form, bytes(size)))
    room = (len(exif) - entry.place) // size
    for at in range(entry.place, entry.place + size * min(entry.count, room, 64), size):
        struct.pack_into(entry.form, exif, at, *one)


def _exchange(exif: bytearray, directory: int | None, one: int, other: int) -> None:
    """Exchange the tags of two entries and what stands in them: a directory's tags ascend, so the records
    stay where they are."""
    first, second = _entry(exif, directory, one), _entry(exif, directory, other)
    if first is None or second is None:
        return
    a, b = (bytes(exif[each.record + 2 : each.record + 12]) for each in (first, second))
    exif[first.record + 2 : first.record + 12], exif[second.record + 2 : second.record + 12] = b, a


def _turn_thumbnail(exif: bytearray, first: int | None, turn: int, name: str) -> None:
    order = _BYTE_ORDER.get(bytes(exif[:4]))
    if order is None or first is None:
        return
    try:
        (count,) = struct.unpack_from(order + "H", exif, first)
        link = first + 2 + 12 * count
        (second,) = struct.unpack_from(order + "I", exif, link)
        if not second:
            return
    except struct.error:
        return
    _set_upright(exif, second)
    place, size = _entry(exif, second, _THUMBNAIL), _entry(exif, second, _THUMBNAIL_BYTES)
    if place is not None and size is not None and place.count == size.count == 1:
        begin, length = place.number(exif), size.number(exif)
        if begin is not None and length is not None and 0 < begin < begin + length <= len(exif):
            begin, length = int(begin), int(length)
            data = _turned_jpeg(bytes(exif[begin : begin + length]), turn)
            if data is not None and len(data) <= length:
                exif[begin : begin + length] = data.ljust(length, b"\0")
                struct.pack_into(size.form, exif, size.place, len(data))
                for pair in _SIDES if turn >= 5 else ():
                    _exchange(exif, second, *pair)
                return
            exif[begin : begin + length] = bytes(length)
    struct.pack_into(order + "I", exif, link, 0)
    report(name, "the thumbnail in its EXIF cannot be turned with it, and is left out")


def _turned_jpeg(data: bytes, turn: int) -> bytes | None:
    """A small JPEG picture turned, in no more bytes; None where that cannot be done."""
    if b"Exif\0\0" in data or b"MPF\0" in data:  # which Pillow would take apart: guard.py has not seen them
        return None
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if max(image.size) > _LARGEST_THUMBNAIL:
                return None
            upright = image.transpose(_TURNS[turn])
    except Exception:  # noqa: BLE001 - Pillow raises almost anything on damaged data
        return None
    for quality in _QUALITIES:
        stream = io.BytesIO()
        upright.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= len(data):
            return stream.getvalue()
    return None
