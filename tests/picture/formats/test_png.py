"""PNG chunks, whatever limits Pillow has: checked, bounded, and told where they are not kept."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.formats.png import read_png
from latentcodec.picture.notices import DroppedDataWarning
from latentcodec.picture.picture import Picture
from tests.picture.beside_files import EXIF, IPTC, PACKET, PIXELS, PROFILE, png, raw_profile

BIG = b"x" * (3 << 20)


def opened(data: bytes) -> tuple[Picture, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = open_picture(io.BytesIO(data), name="a.png")
    return picture, [str(each.message) for each in caught]


def test_text_and_profiles_beyond_pillows_limit() -> None:
    profile = PROFILE[:4] + PROFILE[4:] + bytes(2 << 20)
    data = png(
        (b"iCCP", b"x\0\0" + zlib.compress(profile)),
        (b"zTXt", b"big\0\0" + zlib.compress(BIG)),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(PACKET + BIG)),
    )
    picture, told = opened(data)
    assert told == []
    assert (picture.profile, picture.text) == (profile, (("big", BIG.decode()),))
    assert picture.xmp == PACKET + BIG
    assert np.array_equal(picture.pixels, PIXELS)


def test_text_of_every_kind() -> None:
    data = png(
        (b"tEXt", b"a\0\xe9"),
        (b"zTXt", b"b\0\0" + zlib.compress(b"\xe9")),
        (b"iTXt", b"c\0\0\0\0\0" + "ねこ".encode()),
        (b"iTXt", b"d\0\1\0\0\0" + zlib.compress("ねこ".encode())),
        (b"tEXt", b"a\0again"),
        (b"tEXt", b"alone"),
    )
    picture, told = opened(data)
    assert told == []
    assert picture.text == (
        ("a", "é"),
        ("b", "é"),
        ("c", "ねこ"),
        ("d", "ねこ"),
        ("a", "again"),
        ("alone", ""),
    )


def test_raw_profiles() -> None:
    data = png(
        raw_profile("exif", b"Exif\0\0" + EXIF),
        raw_profile("xmp", PACKET),
        raw_profile("icc", PROFILE),
        raw_profile("iptc", IPTC),
    )
    picture, told = opened(data)
    assert told == []
    assert (picture.exif, picture.xmp, picture.profile, picture.iptc) == (EXIF, PACKET, PROFILE, IPTC)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        ((b"zTXt", b"a\0\0no zlib"), "its text 'a' is damaged"),
        ((b"iCCP", b"x\0\0no zlib"), "its ICC profile is damaged"),
        ((b"iTXt", b"a\0\0\0fr\0titre\0b"), "the language of its text 'a' is left out"),
        ((b"tEXt", b"\0value"), "text under a key of 0 bytes"),
        ((b"tEXt", b"k" * 300 + b"\0value"), "text under a key of 300 bytes"),
        ((b"tEXt", b"Raw profile type exif\0\nexif\n 2\nzz\n"), "its 'Raw profile type exif' is damaged"),
        ((b"tEXt", b"Raw profile type exif\0\nexif\n"), "its 'Raw profile type exif' is damaged"),
        ((b"tEXt", b"Raw profile type odd\0\nodd\n 2\n0011\n"), "its 'Raw profile type odd' is left out"),
        ((b"gAMA", bytes(4)), "make no colour space .the gamma would be 0."),
        ((b"cHRM", bytes(32)), "make no colour space"),
        ((b"cICP", b"\x09\x10"), "its cICP chunk has 2 bytes, not 4: left out"),
        (raw_profile("8bim", b"8BIM\4\4\0\0\0\0\0\x40abcd"), "16 bytes of Photoshop's resources are damaged"),
        ((b"mDCV", bytes(24)), "its PNG chunks mDCV are left out"),
        ((b"zTXt", b"a\0\0" + zlib.compress(bytes(17 << 20))), "its text 'a' is left out: .* over 16777216"),
    ],
)
def test_what_is_wrong_is_told_and_the_rest_kept(chunk: tuple[bytes, bytes], message: str) -> None:
    with pytest.warns(DroppedDataWarning, match=message):
        picture = open_picture(io.BytesIO(png(chunk, (b"tEXt", b"k\0v"))))
    assert ("k", "v") in picture.text
    assert np.array_equal(picture.pixels, PIXELS)


def test_a_damaged_chunk_of_text_costs_itself() -> None:
    data = bytearray(png((b"tEXt", b"k\0value")))
    data[data.index(b"value")] ^= 1
    picture, told = opened(bytes(data))
    assert (picture.text, told) == ((), ["a.png: its tEXt chunk is damaged and left out"])


def test_many_pieces_of_text() -> None:
    picture, told = opened(png(*[(b"tEXt", b"k\0%d" % number) for number in range(5000)]))
    assert len(picture.text) == 4096
    assert told == ["a.png: it has 5000 pieces of text: only the first 4096 are kept"]


@pytest.mark.parametrize("key", ["ねこ", "k" * 80])
def test_a_key_that_is_no_keyword_of_png(key: str) -> None:
    stream = io.BytesIO()
    with pytest.warns(
        DroppedDataWarning, match="is left out: PNG's keywords have at most 79 letters of Latin-1"
    ):
        save_picture(Picture(PIXELS, text=((key, "v"), ("k", "w"))), stream, "PNG")
    assert open_picture(stream).text == (("k", "w"),)


def test_gray_gets_a_gray_profile() -> None:
    stream = io.BytesIO()
    Image.fromarray(PIXELS[..., 0]).save(stream, "PNG")
    plain, chunk = stream.getvalue(), b"gAMA" + struct.pack(">I", 100_000)
    data = plain[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
    picture = open_picture(io.BytesIO(data))
    assert picture.gray
    assert (picture.profile or b"")[16:20] == b"GRAY"


@pytest.mark.parametrize(("gama", "chrm"), [(45455, None), (45455, True), (None, True), (45454, None)])
def test_what_goes_with_srgb_is_srgb(gama: int | None, chrm: bool | None) -> None:
    chunks = []
    if gama is not None:
        chunks.append((b"gAMA", struct.pack(">I", gama)))
    if chrm:
        chunks.append((b"cHRM", struct.pack(">8i", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)))
    picture, told = opened(png(*chunks))
    assert (picture.profile, told) == (None, [])
    with_another = opened(png(*chunks, (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100_000))))[0]
    assert with_another.profile is None  # sRGB goes before


def test_many_chunks_take_no_longer() -> None:
    data = png(*[(b"tEXt", b"k\0v")] * 50_000, *[(b"abcd", b"")] * 50_000)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DroppedDataWarning)
        read_png(io.BytesIO(data), "it")
    assert time.process_time() - start < 3


def test_texts_too_large_to_be_kept_take_no_longer() -> None:
    large = b"k\0\0" + zlib.compress(bytes(17 << 20))
    broken = large[:-4] + b"????"
    for each in (large, broken):
        start = time.process_time()
        picture, told = opened(png(*[(b"zTXt", each)] * 200))
        assert (picture.text, len(told)) == ((), 200)
        assert "all before it decompresses to 67108864 bytes or more" in told[-1]
        assert time.process_time() - start < 4  # all of them: 15 s
