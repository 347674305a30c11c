"""Photoshop's image resources: "8BIM" blocks in JPEG, TIFF, PSD and PNG text; of them IPTC is kept.

blocks ─► resources ─► (number, data) ...        IPTC ─► as_resources ─► a block, for JPEG
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

__all__ = ["IPTC", "as_resources", "damaged_bytes", "iptc_of", "left_out", "resources"]

IPTC = 0x0404  # Adobe Photoshop File Formats Specification, "Image Resource IDs"
_SIGNATURE = b"8BIM"
_MOST = 1024  # blocks of a file that are looked at
# What has a place of its own elsewhere, follows from the picture, or says nothing once IPTC is kept:
# resolution, thumbnails, profile, EXIF, XMP, digest of IPTC.
_NOTHING_LOST = frozenset({IPTC, 0x03ED, 0x0409, 0x040C, 0x040F, 0x0422, 0x0423, 0x0424, 0x0425})


def resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and data of each block, as far as they are whole."""
    return ((number, data[begin:end]) for number, begin, end in _places(data))


def damaged_bytes(data: bytes) -> int:
    """How many bytes behind the last whole block are none, padding and records of IPTC apart."""
    rest = data[max((end + (end - begin) % 2 for _, begin, end in _places(data)), default=0) :]
    return 0 if rest.startswith(b"\x1c") or not rest.strip(b"\0 ") else len(rest)


def _places(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Number, and begin and end of the data, of each block."""
    place = 0
    for _ in range(_MOST):
        if data[place : place + 4] != _SIGNATURE or place + 12 > len(data):
            return
        number = int.from_bytes(data[place + 4 : place + 6], "big")
        place += 6 + (data[place + 6] + 2) // 2 * 2  # a name, with its length an even number of bytes
        size = int.from_bytes(data[place : place + 4], "big")
        if place + 4 + size > len(data):
            return
        yield number, place + 4, place + 4 + size
        place += 4 + size + size % 2


def iptc_of(data: bytes) -> bytes | None:
    """The records of IPTC (IIM, each beginning with 1c) in blocks, or themselves; None if there are none."""
    if data.startswith(_SIGNATURE):
        data = next((block for number, block in resources(data) if number == IPTC), b"")
    return data if data.startswith(b"\x1c") else None


def as_resources(iptc: bytes) -> bytes:
    """A block of IPTC records."""
    head = _SIGNATURE + IPTC.to_bytes(2, "big") + bytes(2) + len(iptc).to_bytes(4, "big")
    return head + iptc + bytes(len(iptc) % 2)


def left_out(blocks: bytes | Iterable[tuple[int, bytes]]) -> str:
    """What blocks hold that is not kept, in words; empty for nothing."""
    numbered = resources(blocks) if isinstance(blocks, bytes) else blocks
    lost = [(number, len(block)) for number, block in numbered if number not in _NOTHING_LOST]
    size = sum(length for _, length in lost)
    return f"{len(lost)} of Photoshop's resources ({size} bytes) are left out" if lost else ""
