"""Directories of TIFF, in TIFF files, EXIF and JPEG's MP index: what they claim, before Pillow believes it.

    stream ─► header ─► first directory: entries of (tag, type, count, value or its offset)
                            └─► the EXIF, GPS and Interop directories that entries point to

Nothing is read but headers and entries, and of those no more than the limits allow. An honest file's values
do not overlap: together they claim no more bytes than there are. A directory of 300 entries that all name the
same 12 MB takes 800 bytes in an .lci file, and cost Pillow 11.3 12 s and 3.7 GB; one entry of 1.5 million
fractions takes 450 bytes, and costs every Pillow 7 s. What Pillow does not read on its own, maker notes and
the directories of further pictures and thumbnails, is not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from latentcodec.errors import LimitExceeded, UnreadableImage

__all__ = ["EXIF_IFD", "GPS_IFD", "INTEROP_IFD", "check_directories", "excess", "page_kinds"]

EXIF_IFD, GPS_IFD, INTEROP_IFD = (
    0x8769,
    0x8825,
    0xA005,
)  # tags whose value is a directory's offset (Exif 2.32)
_POINTERS = frozenset({EXIF_IFD, GPS_IFD, INTEROP_IFD})

# Limits. EXIF of cameras has some hundred entries in up to four directories; of its values few are numbers,
# since maker notes count as bytes. To Pillow every number is an object of Python.
MAX_DIRECTORIES = 8
MAX_ENTRIES = 4096
MAX_NUMBERS = 1 << 16
# The numbers of tags that hold one for each strip, tile or colour of a TIFF file: the tiles of 16 x 16 pixels
# of the largest picture that is read by default are 700,000.
MAX_LAYOUT_NUMBERS = 1 << 20
_LAYOUT = frozenset(
    {0x0111, 0x0117, 0x0144, 0x0145, 0x0140, 0x012D}
)  # strips, tiles, ColorMap, TransferFunction

# What says that a directory is a reduced copy (bit 0) or a mask (bit 2), and its older form (TIFF 6.0, 8).
_NEW_SUBFILE, _NO_PAGE = 0x00FE, 0b101
_SUBFILE, _OLD_REDUCED = 0x00FF, 2
_KIND_ENTRIES = 4  # they are the lowest tags of images

# Bytes of a value of each type (TIFF 6.0, section 2; IFD, and BigTIFF's LONG8). Pillow
# ignores entries of others.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_BYTES = frozenset({1, 2, 7})  # BYTE, ASCII, UNDEFINED: one object, however many there are
_WHOLE = {3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q"}  # which all serve Pillow as offsets
_ORDERS = {b"II": "<", b"MM": ">"}


@dataclass(frozen=True)
class _Layout:
    """How numbers stand in a TIFF, as formats of struct, and the bytes that a value may have in its entry."""

    first: int  # where the first directory is
    order: str
    count: str
    entry: str
    offset: str
    inline: int


def check_directories(stream: IO[bytes], page: int = 0) -> None:
    """Check what the first directory of a seekable stream, or a later page's, claims, with all that it leads
    to.

    Raises LimitExceeded for more than the stream or the limits hold: reading it would cost more than it is
    worth. Raises UnreadableImage for mere damage: no TIFF header, a directory or a value that lies outside,
    or a directory twice. What follows such damage is checked as well, so LimitExceeded goes first.
    """
    walk = _Walk(stream)
    walk.run(page)
    if walk.damage:
        raise UnreadableImage(walk.damage[0])


def excess(stream: IO[bytes], page: int = 0) -> str:
    """What the directories of a stream claim too much of, in words; empty where they do not.

    page: which of those that follow each other is looked at, with all that it leads to.
    """
    try:
        check_directories(stream, page)
    except LimitExceeded as error:
        return str(error)
    except UnreadableImage:
        pass
    return ""


def page_kinds(stream: IO[bytes], most: int) -> list[bool]:
    """Of the directories that follow each other in a TIFF, at most `most`: whether each is a page of its own,
    and no reduced copy and no mask of another; those that are cut do not count."""
    walk = _Walk(stream)
    position, kinds = walk.layout.first if walk.layout else 0, dict[int, bool]()
    while walk.layout and position and position not in kinds and len(kinds) < most:
        chain = walk.next_of(position)
        if chain is None:
            break
        kinds[position] = walk.is_page(walk.layout, position)
        position = chain
    return list(kinds.values())


@dataclass
class _Walk:
    """What was seen so far of a stream's directories."""

    stream: IO[bytes]
    damage: list[str] = field(default_factory=list)
    directories: set[int] = field(default_factory=set)
    entries: int = 0
    claimed: int = 0  # bytes
    numbers: int = 0
    layout_numbers: int = 0

    def __post_init__(self) -> None:
        self.length = self.stream.seek(0, 2)
        self.layout = self._read_header()

    def _read_header(self) -> _Layout | None:
        head = self._read(0, 16)
        order = _ORDERS.get(head[:2])
        if order is None or len(head) < 8:
            self.damage.append("it has no TIFF header")
            return None
        if head[2] != 43:  # as Pillow recognises BigTIFF
            return _Layout(
                struct.unpack(order + "I", head[4:8])[0], order, order + "H", order + "HHI4s", order + "I", 4
            )
        if len(head) < 16:
            self.damage.append("it has no whole BigTIFF header")
            return None
        return _Layout(
            struct.unpack(order + "Q", head[8:])[0], order, order + "Q", order + "HHQ8s", order + "Q", 8
        )

    def _read(self, position: int, size: int) -> bytes:
        if position >= self.length:  # may be beyond what seek takes
            return b""
        self.stream.seek(position)
        return self.stream.read(size)

    def _number(self, form: str, position: int) -> int | None:
        data = self._read(position, struct.calcsize(form))
        return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else None

    def next_of(self, position: int) -> int | None:
        """Where the directory after the one at `position` is, 0 for none; None if this one is cut."""
        if self.layout is None or (count := self._number(self.layout.count, position)) is None:
            return None
        after = position + struct.calcsize(self.layout.count) + count * struct.calcsize(self.layout.entry)
        return self._number(self.layout.offset, after)

    def is_page(self, layout: _Layout, position: int) -> bool:
        """Whether the directory there says nothing else; its tags are sorted, so that the first ones tell."""
        size = struct.calcsize(layout.entry)
        data = self._read(position + struct.calcsize(layout.count), _KIND_ENTRIES * size)
        for tag, kind, _, value in struct.iter_unpack(layout.entry, data[: len(data) // size * size]):
            if kind not in _WHOLE or tag not in (_NEW_SUBFILE, _SUBFILE):
                continue
            (stated,) = struct.unpack_from(layout.order + _WHOLE[kind], value)
            if stated & _NO_PAGE if tag == _NEW_SUBFILE else stated == _OLD_REDUCED:
                return False
        return True

    def run(self, page: int) -> None:
        """Walk through all directories of a page. Raises LimitExceeded."""
        if self.layout is None:
            return
        start = self.layout.first
        for _ in range(page):
            start = self.next_of(start) or 0
        waiting = [start]
        while waiting:
            position = waiting.pop()
            if position in self.directories:
                self.damage.append(f"the directory at byte {position} is named twice")
                continue
            if len(self.directories) == MAX_DIRECTORIES:
                raise LimitExceeded(f"it has over {MAX_DIRECTORIES} directories")
            self.directories.add(position)
            waiting += self._directory(self.layout, position)

    def _directory(self, layout: _Layout, position: int) -> Iterator[int]:
        """Check the entries of a directory; the offsets of the directories that they point to."""
        first = len(self.directories) == 1
        count = self._number(layout.count, position)
        if count is None:
            self.damage.append(f"a directory would begin at byte {position}, there are {self.length}")
            return
        self.entries += count
        if self.entries > MAX_ENTRIES:
            raise LimitExceeded(f"its directories claim {self.entries} entries, the limit is {MAX_ENTRIES}")
        begin, size = position + struct.calcsize(layout.count), struct.calcsize(layout.entry)
        data = self._read(begin, count * size)
        for tag, kind, values, value in struct.iter_unpack(layout.entry, data[: len(data) // size * size]):
            if kind not in _SIZES:
                continue
            if values * _SIZES[kind] > layout.inline:
                (offset,) = struct.unpack(layout.offset, value)
                values = self._claim(tag, offset, values, _SIZES[kind])
                value = self._read(offset, _SIZES[kind])
            if kind not in _BYTES:
                self._count(values, layout=first and tag in _LAYOUT and kind in _WHOLE)
            if tag in _POINTERS and kind in _WHOLE and values:
                (target,) = struct.unpack_from(layout.order + _WHOLE[kind], value)
                if target >= 0:
                    yield target
        if self._number(layout.offset, begin + count * size) is None:
            self.damage.append(
                f"the directory at byte {position} ends after the {self.length} bytes there are"
            )

    def _claim(self, tag: int, offset: int, values: int, size: int) -> int:
        """Note the bytes of an entry's values, `size` each, at `offset`; how many of them are there."""
        end = offset + values * size
        if end > self.length:
            self.damage.append(f"tag {tag:#06x} ends at byte {end}, there are {self.length}")
            values = max(0, self.length - offset) // size
        self.claimed += values * size
        if self.claimed > self.length:
            raise LimitExceeded(f"its tags claim {self.claimed} bytes, there are {self.length}: they overlap")
        return values

    def _count(self, values: int, *, layout: bool) -> None:
        """Note an entry's numbers; `layout`: those of strips, tiles and colours."""
        if layout:
            self.layout_numbers += values
        else:
            self.numbers += values
        for number, limit in (
            (self.numbers, MAX_NUMBERS),
            (self.layout_numbers, MAX_LAYOUT_NUMBERS),
        ):
            if number > limit:
                raise LimitExceeded(f"its tags claim {number} numbers, the limit is {limit}")
