"""What a WebP file holds beside its picture that Pillow passes over: chunks of other kinds (RFC 9649)."""

from __future__ import annotations

from typing import BinaryIO

from latentcodec.picture.formats.beside import Beside, report_behind
from latentcodec.picture.notices import report

__all__ = ["is_webp", "read_webp"]

_READ = frozenset((b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "))
_MOST_CHUNKS = 4096


def is_webp(head: bytes) -> bool:
    """Whether a file that begins so is WebP."""
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def read_webp(file: BinaryIO, name: str) -> Beside:
    """Nothing that Pillow does not have; chunks that are not kept are reported."""
    file.seek(4)
    size = int.from_bytes(file.read(4), "little")
    end, place, unknown = min(file.seek(0, 2), 8 + size + size % 2), 12, dict[str, None]()
    for _ in range(_MOST_CHUNKS):
        if place + 8 > end:
            break
        file.seek(place)
        head = file.read(8)
        if head[:4] not in _READ and head[:4].isalnum():
            unknown[head[:4].decode("latin-1")] = None
        place += 8 + int.from_bytes(head[4:], "little") + head[4] % 2
    if unknown:
        report(name, f"its WebP chunks {', '.join(list(unknown)[:8])} are left out")
    report_behind(file, end, name)
    return Beside()
