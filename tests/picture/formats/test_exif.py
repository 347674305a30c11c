"""EXIF after a turn: true of the upright picture, and otherwise as it was."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.formats.exif import is_adobe_rgb, resolution_of, turned, without_orientation
from latentcodec.picture.notices import DroppedDataWarning
from latentcodec.picture.picture import Picture
from tests.picture.tiff_bytes import place, tiff


def thumbnail(width: int = 32, height: int = 20) -> bytes:
    stream = io.BytesIO()
    shades = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    Image.fromarray(shades).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def camera(turn: int, small: bytes = b"", width: int = 400, height: int = 300) -> bytes:
    """EXIF of a picture of this size as its camera wrote it, with a thumbnail."""
    first = [(0x0100, 4, 1, width), (0x0101, 4, 1, height), (0x0112, 3, 1, turn), (0x8769, 4, 1, 0)]
    inner = [(0xA002, 4, 1, width), (0xA003, 3, 1, height)]
    second = [(0x0112, 3, 1, turn), (0x0201, 4, 1, 0), (0x0202, 4, 1, len(small))]
    first[3] = (0x8769, 4, 1, place(first))
    second[1] = (0x0201, 4, 1, place(first, inner, second))
    whole = bytearray(tiff(first, inner, second, tail=small))
    if small:
        link = place(first) - 4
        whole[link : link + 4] = place(first, inner).to_bytes(4, "little")
    return bytes(whole)


def tags(exif: bytes) -> Image.Exif:
    read = Image.Exif()
    read.load(b"Exif\0\0" + exif)
    return read


@pytest.mark.parametrize("turn", range(1, 9))
def test_sizes_are_those_of_the_upright_picture(turn: int) -> None:
    after = tags(turned(camera(turn), turn, "it") or b"")
    size = (300, 400) if turn >= 5 else (400, 300)
    assert (after[0x0100], after[0x0101], after[0x0112]) == (*size, 1)
    inner = after.get_ifd(0x8769)
    assert (inner[0xA002], inner[0xA003]) == size


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_thumbnail_is_turned_in_its_place(turn: int) -> None:
    small = thumbnail()
    before = camera(turn, small)
    after = turned(before, turn, "it") or b""
    assert len(after) == len(before)
    directory = tags(after).get_ifd(ExifTags.IFD.IFD1)
    begin, length = directory[0x0201], directory[0x0202]
    assert directory.get(0x0112, 1) == 1
    with Image.open(io.BytesIO(small)) as image, Image.open(io.BytesIO(after[begin : begin + length])) as got:
        image.getexif()[0x0112] = turn
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
        assert np.abs(np.asarray(got.convert("RGB")) - expected).mean() < 4


@pytest.mark.parametrize(
    "small", [b"no JPEG", b"\xff\xd8\xff", thumbnail(1200, 8), thumbnail()[:2] + b"\xff\xe1\0\x08Exif\0\0"]
)
def test_a_thumbnail_that_cannot_be_turned_is_unlinked(small: bytes) -> None:
    with pytest.warns(DroppedDataWarning, match="it: the thumbnail in its EXIF cannot be turned"):
        after = turned(camera(6, small), 6, "it") or b""
    assert tags(after).get_ifd(ExifTags.IFD.IFD1) == {}
    assert small not in after
    assert turned(camera(1, small), 1, "it") == camera(1, small)  # it lies as it did


def test_an_orientation_goes_alone() -> None:
    before = camera(6, thumbnail())
    after = without_orientation(before)
    assert len(after) == len(before)
    assert {tag for tag in tags(before) if tag not in tags(after)} == {0x0112}
    assert tags(after).get_ifd(ExifTags.IFD.IFD1) == tags(before).get_ifd(ExifTags.IFD.IFD1)
    assert without_orientation(after) == after
    for end in range(0, len(before), 5):
        assert len(without_orientation(before[:end])) == end


def test_avif_gets_exif_as_it_is() -> None:
    exif = turned(camera(6, thumbnail()), 6, "it")
    stream = io.BytesIO()
    save_picture(Picture(np.zeros((9, 8, 3), np.uint8), exif=exif), stream, "AVIF")
    assert open_picture(stream).exif == without_orientation(exif or b"")


def test_tags_that_a_tiff_has_no_place_for_are_told() -> None:
    exif = tiff([(0x010F, 2, 4, 0x00626162), (0xC4A5, 7, 4, 5)])
    with pytest.warns(DroppedDataWarning, match=r"the EXIF's tags 50341 \(\w+\) are left out in a TIFF"):
        save_picture(Picture(np.zeros((9, 8, 3), np.uint8), exif=exif), io.BytesIO(), "TIFF")


def test_adobe_rgb() -> None:
    def exif(space: int, index: bytes) -> bytes:
        first = [(0x8769, 4, 1, 0)]
        inner = [(0xA001, 3, 1, space), (0xA005, 4, 1, 0)]
        first[0] = (0x8769, 4, 1, place(first))
        inner[1] = (0xA005, 4, 1, place(first, inner))
        return tiff(first, inner, [(1, 2, 4, int.from_bytes(index, "little"))])

    assert is_adobe_rgb(exif(0xFFFF, b"R03\0"))
    assert not is_adobe_rgb(exif(1, b"R03\0"))
    assert not is_adobe_rgb(exif(0xFFFF, b"R98\0"))
    assert is_adobe_rgb(exif(2, b"R98\0"))
    assert not is_adobe_rgb(None)
    assert not is_adobe_rgb(b"II*\0\xff\xff\xff\xff")


def test_resolution() -> None:
    def exif(unit: int, across: bytes) -> bytes:
        entries = [(0x011A, 5, 1, 0), (0x011B, 5, 1, 0), (0x0128, 3, 1, unit)]
        at = place(entries)
        entries[:2] = [(0x011A, 5, 1, at), (0x011B, 5, 1, at + 8)]
        return tiff(entries, tail=across + b"\x2c\1\0\0\1\0\0\0")

    whole = b"\x64\0\0\0\1\0\0\0"
    assert resolution_of(exif(2, whole)) == (100, 300)
    assert resolution_of(exif(3, whole)) == pytest.approx((254, 762))
    assert resolution_of(exif(1, whole)) is None
    assert resolution_of(exif(2, b"\1\0\0\0" + bytes(4))) is None
    assert resolution_of(None) is None


def test_damage_never_raises() -> None:
    whole = camera(6, thumbnail())
    for end in range(0, len(whole), 7):
        for exif in (whole[:end], whole[:end] + b"\xff" * (len(whole) - end)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DroppedDataWarning)
                after = turned(exif, 6, "it") or b""
            assert len(after) == len(exif)
            is_adobe_rgb(exif)
            resolution_of(exif)
