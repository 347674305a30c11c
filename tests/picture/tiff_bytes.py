"""TIFF structures made by hand: EXIF, files, and what they falsely claim."""

from __future__ import annotations

import struct
from collections.abc import Sequence

Entry = tuple[int, int, int, int]  # tag, type, count, value or offset

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
DIRECTORY = 8  # where the first one begins here


def directory(entries: Sequence[Entry], following: int = 0, order: str = "<") -> bytes:
    """One directory; values stand in their entries as 32 bits."""
    packed = b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    return struct.pack(order + "H", len(entries)) + packed + struct.pack(order + "I", following)


def tiff(*directories: Sequence[Entry], tail: bytes = b"", order: str = "<") -> bytes:
    """A header and directories, one after the other, then `tail`; only the first is pointed to."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", DIRECTORY)
    return head + b"".join(directory(entries, order=order) for entries in directories) + tail


def place(*directories: Sequence[Entry]) -> int:
    """Where what follows these directories begins in `tiff`."""
    return DIRECTORY + sum(6 + 12 * len(entries) for entries in directories)


def claiming(tags: Sequence[int], kind: int, size: int, before: Sequence[Entry] = ()) -> bytes:
    """A TIFF of a directory whose every tag names the same `size` bytes of zeros behind it."""
    blank: list[Entry] = [*before, *((tag, kind, 0, 0) for tag in tags)]
    start = place(blank)
    entries = [*before, *((tag, kind, size // SIZES[kind], start) for tag in tags)]
    return tiff(entries, tail=bytes(size))


# A TIFF file of one gray pixel, that at its first byte.
ONE_PIXEL: tuple[Entry, ...] = (
    *((256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)),
    *((273, 4, 1, 0), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 1)),
)


def many_pages(count: int) -> bytes:
    """A TIFF file of so many pictures of one pixel."""
    step = 6 + 12 * len(ONE_PIXEL)
    pages = (
        directory(ONE_PIXEL, DIRECTORY + (number + 1) * step if number + 1 < count else 0)
        for number in range(count)
    )
    return b"II*\0" + struct.pack("<I", DIRECTORY) + b"".join(pages)


def with_exif_segments(jpeg: bytes, exif: bytes, step: int = 65000) -> bytes:
    """A JPEG file whose JFIF segment is replaced by EXIF, in as many segments as it takes."""
    (jfif,) = struct.unpack(">H", jpeg[4:6])
    parts = (exif[start : start + step] for start in range(0, len(exif), step))
    segments = (b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts)
    return jpeg[:2] + b"".join(segments) + jpeg[4 + jfif :]
