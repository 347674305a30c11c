"""What directories of TIFF may claim; and that what they may claim is cheap for Pillow."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image

from latentcodec.errors import LimitExceeded, UnreadableImage
from latentcodec.picture.directories import (
    EXIF_IFD,
    GPS_IFD,
    INTEROP_IFD,
    MAX_DIRECTORIES,
    MAX_ENTRIES,
    MAX_LAYOUT_NUMBERS,
    MAX_NUMBERS,
    check_directories,
    excess,
    page_kinds,
)
from tests.bounded import run_bounded
from tests.picture.tiff_bytes import Entry, claiming, directory, many_pages, place, tiff

BYTES, TEXT, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7
MAKER, MAKER_NOTE = 0x010F, 0x927C


def check(data: bytes) -> None:
    check_directories(io.BytesIO(data))


def camera() -> bytes:
    tags = Image.Exif()
    tags[0x010F], tags[0x0112], tags[0x011A] = "maker", 1, 72.0
    tags.get_ifd(EXIF_IFD).update({0x9003: "2026:01:02 03:04:05", MAKER_NOTE: bytes(30_000)})
    tags.get_ifd(GPS_IFD).update({1: "N", 2: (10.0, 20.0, 30.0)})
    return tags.tobytes()[6:]


@pytest.mark.parametrize("order", ["<", ">"])
def test_honest_directories_pass(order: str) -> None:
    check(camera())
    check(tiff([(MAKER, TEXT, 4, 0x61626300)], order=order))
    check(tiff([], order=order))
    full = MAX_NUMBERS * 2
    check(claiming([0x9000], SHORT, full))
    check(claiming([0x0111], SHORT, MAX_LAYOUT_NUMBERS * 2))
    check(tiff([(tag, SHORT, 1, 1) for tag in range(MAX_ENTRIES)]))


def test_big_tiff() -> None:
    def big(entries: int, count: int, offset: int) -> bytes:
        entry = struct.pack("<HHQQ", 0x9000, UNDEFINED, count, offset)
        head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16)
        return head + struct.pack("<Q", entries) + entry * min(entries, 9) + struct.pack("<Q", 0) + bytes(100)

    check(big(1, 100, 16))
    with pytest.raises(UnreadableImage, match="no whole BigTIFF"):
        check(big(1, 100, 16)[:12])
    with pytest.raises(LimitExceeded, match="overlap"):
        check(big(9, 300, 0))
    with pytest.raises(LimitExceeded, match=f"{1 << 60} entries"):
        check(big(1 << 60, 1, 0))
    with pytest.raises(UnreadableImage, match="tag 0x9000 ends"):
        check(big(1, 1 << 62, 1 << 63))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (claiming(range(0x9000, 0x9002), UNDEFINED, 1000), "overlap"),
        (claiming([0x9000] * 3, TEXT, 1000), "overlap"),  # one tag, again and again
        (claiming([0x9000], SHORT, MAX_NUMBERS * 2 + 2), f"{MAX_NUMBERS + 1} numbers"),
        (claiming([0x9000], RATIONAL, MAX_NUMBERS * 8 + 8), f"{MAX_NUMBERS + 1} numbers"),
        (claiming([0x0111], RATIONAL, MAX_NUMBERS * 8 + 8), f"{MAX_NUMBERS + 1} numbers"),
        (claiming([0x0111], LONG, MAX_LAYOUT_NUMBERS * 4 + 4), f"{MAX_LAYOUT_NUMBERS + 1} numbers"),
        (tiff([(tag, SHORT, 1, 1) for tag in range(MAX_ENTRIES + 1)]), f"{MAX_ENTRIES + 1} entries"),
        (b"II*\0\x08\0\0\0\xff\xff", "65535 entries"),
    ],
)
def test_what_claims_too_much(data: bytes, complaint: str) -> None:
    with pytest.raises(LimitExceeded, match=complaint):
        check(data)
    assert complaint in excess(io.BytesIO(data))


@pytest.mark.parametrize("pointer", [EXIF_IFD, GPS_IFD, INTEROP_IFD])
@pytest.mark.parametrize("kind", [SHORT, LONG, 8, 9, 13])
def test_directories_that_are_pointed_to_count(pointer: int, kind: int) -> None:
    first: list[Entry] = [(pointer, kind, 1, 0)]
    inner = place(first)
    start = inner + 6 + 12 * 2
    second: list[Entry] = [(tag, UNDEFINED, 1000, start) for tag in (0x9000, 0x9001)]
    with pytest.raises(LimitExceeded, match="overlap"):
        check(tiff([(pointer, kind, 1, inner)], second, tail=bytes(1000)))


def test_a_pointer_that_is_no_entry_of_its_own_is_followed() -> None:
    """Two offsets stand behind the directory: Pillow takes the first."""
    first: list[Entry] = [(EXIF_IFD, LONG, 2, 0)]
    inner = place(first)
    second: list[Entry] = [(tag, UNDEFINED, 500, 0) for tag in (1, 2, 3)]
    behind = place(first, second)
    data = tiff([(EXIF_IFD, LONG, 2, behind)], second, tail=struct.pack("<II", inner, 0) + bytes(600))
    with pytest.raises(LimitExceeded, match="overlap"):
        check(data)


def test_limits_hold_for_all_directories_together() -> None:
    step = 6 + 12
    chain = [[(EXIF_IFD, LONG, 1, place() + (number + 1) * step)] for number in range(MAX_DIRECTORIES - 1)]
    check(tiff(*chain, []))
    with pytest.raises(LimitExceeded, match=f"over {MAX_DIRECTORIES} directories"):
        check(tiff(*chain, [(EXIF_IFD, LONG, 1, place() + MAX_DIRECTORIES * step)], []))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "no TIFF header"),
        (b"II*\0\x08\0\0", "no TIFF header"),
        (b"Exif", "no TIFF header"),
        (b"II*\0\xff\xff\xff\xff", "would begin at byte 4294967295"),
        (tiff([(MAKER, TEXT, 100, 8)]), "tag 0x010f ends at byte 108"),
        (tiff([(MAKER, TEXT, 9, 0xFFFFFFFF)]), "tag 0x010f ends at byte 4294967304"),
        (tiff([(MAKER, TEXT, 4, 0)])[:-1], "ends after"),
        (tiff([(MAKER, TEXT, 4, 0)])[:-9], "ends after"),
        (tiff([(EXIF_IFD, LONG, 1, 8)]), "named twice"),
        (tiff([(EXIF_IFD, LONG, 1, 900)]), "would begin at byte 900"),
    ],
)
def test_damage_costs_nothing_and_is_told(data: bytes, complaint: str) -> None:
    with pytest.raises(UnreadableImage, match=complaint):
        check(data)
    assert excess(io.BytesIO(data)) == ""


def test_what_follows_damage_is_checked() -> None:
    lost = (MAKER, TEXT, 1 << 31, 8)
    with pytest.raises(LimitExceeded, match="overlap"):
        check(claiming([0x9000, 0x9001], UNDEFINED, 1000, before=[lost]))


def test_counting_pages() -> None:
    for count in (1, 2, 30):
        assert page_kinds(io.BytesIO(many_pages(count)), 100) == count * [True]
    assert page_kinds(io.BytesIO(many_pages(30)), 7) == 7 * [True]
    ring = b"II*\0" + struct.pack("<I", 8) + directory([], 8)
    assert page_kinds(io.BytesIO(ring), 100) == [True]
    assert page_kinds(io.BytesIO(b"II*\0\x08\0\0\0\xff\xff"), 100) == []
    assert page_kinds(io.BytesIO(b"none"), 100) == []


def test_what_passes_is_cheap_for_pillow() -> None:
    """The most that is let through, read and written as a TIFF's tags are: 65,536 fractions, 16 MB in all."""
    setting = (
        "import io, sys\nfrom PIL import Image\n"
        "from latentcodec.picture.directories import check_directories\n"
        "from latentcodec.picture.metadata import picture_tags\n"
        "from tests.picture.tiff_bytes import claiming, place\n"
        "many = [(0x9C9B + n % 5, 7, 4, 0) for n in range(4090)]\n"
        "exif = claiming([0x0102], 5, 65536 * 8, many) + bytes(15 << 20)\n"
    )
    code = (
        "check_directories(io.BytesIO(exif))\ntags = Image.Exif()\ntags.load(exif)\n"
        "print(len(picture_tags(tags).tobytes()) > 0, len(str(tags[0x0102])) > 65536)\n"
    )
    assert run_bounded(setting, code, memory=256 << 20, seconds=4) == "True True\n"
