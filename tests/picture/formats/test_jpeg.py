"""JPEG: what stands beside its picture, and what lies behind it."""

from __future__ import annotations

import io
import struct
import time
import warnings

import numpy as np
import pytest
from PIL import Image

from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.formats.jpeg import read_jpeg
from latentcodec.picture.formats.xmp import split
from latentcodec.picture.notices import DroppedDataWarning
from latentcodec.picture.picture import Picture
from tests.picture.beside_files import IPTC, PIXELS, XMP, gain_map, jpeg, saved

VIDEO = struct.pack(">I", 16) + b"ftypmp42" + bytes(400)
MOTION = XMP % (
    b' xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:MotionPhoto="1"'
    b' GCamera:MotionPhotoPresentationTimestampUs="5" dc:title="kept"'
)
EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"


def xmp_segment(xmp: bytes) -> tuple[int, bytes]:
    return 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp


def opened(data: bytes) -> tuple[Picture, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = open_picture(io.BytesIO(data), name="a.jpg")
    return picture, [str(each.message) for each in caught]


def test_a_motion_photo_loses_its_video_and_what_announces_it() -> None:
    picture, told = opened(jpeg(xmp_segment(MOTION), behind=VIDEO))
    assert told == [f"a.jpg: the video behind the picture ({len(VIDEO)} bytes) is left out"]
    assert picture.xmp is not None
    assert b"MotionPhoto" not in picture.xmp
    assert b'dc:title="kept"' in picture.xmp
    assert picture.left_out == (told[0].removeprefix("a.jpg: "),)


def test_what_announces_nothing_that_is_there_goes_without_a_word() -> None:
    picture, told = opened(jpeg(xmp_segment(MOTION)))
    assert told == []
    assert b"MotionPhoto" not in (picture.xmp or b"")


def test_a_gain_map_and_a_video() -> None:
    picture, told = opened(gain_map() + VIDEO)
    assert [line.split(" (")[0] for line in told] == [
        "a.jpg: its gain map",
        "a.jpg: the video behind the picture",
    ]
    assert b"hdrgm:Version" not in (picture.xmp or b"")


def test_further_pictures_and_odd_bytes() -> None:
    plain = saved("JPEG")
    _, told = opened(plain + plain + plain + b"SEFT" * 5)
    assert told == [
        f"a.jpg: only its main picture is kept, not its secondary pictures ({2 * len(plain)} bytes)",
        "a.jpg: 20 bytes behind the end of the picture are left out",
    ]
    assert opened(plain + bytes(3000) + b"\r\n")[1] == []


def extended(xmp: bytes, *, spoil: bool = False) -> bytes:
    main, extension, name = split(xmp)
    parts = []
    for place in range(0, len(extension), 60_000):
        head = EXTENSION + name + struct.pack(">II", len(extension), place + spoil)
        parts.append((0xE1, head + extension[place : place + 60_000]))
    return jpeg(xmp_segment(main), *parts[::-1])  # in whatever order


def test_extended_xmp_is_joined_and_split_again() -> None:
    long = XMP % (b' xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="' + b"word " * 30_000 + b'"')
    picture, told = opened(extended(long))
    assert told == []
    assert picture.xmp is not None
    assert b'dc:title="' + b"word " * 30_000 in picture.xmp
    assert b"HasExtendedXMP" not in picture.xmp
    assert picture.xmp.count(b"<rdf:RDF") == 1
    stream = io.BytesIO()
    save_picture(picture, stream, "JPEG")
    again, told = opened(stream.getvalue())
    assert told == []
    assert b'dc:title="' + b"word " * 30_000 in (again.xmp or b"")


def test_extended_xmp_with_a_hole_is_left_out() -> None:
    picture, told = opened(extended(XMP % b' a="b"', spoil=True))
    assert len(told) == 1
    assert "extended XMP" in told[0]
    assert picture.xmp is not None


def test_iptc_comment_and_resolution_survive() -> None:
    picture = Picture(
        PIXELS, text=(("Comment", "a caption, ねこ"), ("Comment", "and another")), iptc=IPTC, dpi=(300, 300)
    )
    stream = io.BytesIO()
    save_picture(picture, stream, "JPEG")
    again, told = opened(stream.getvalue())
    assert told == []
    assert (again.text, again.iptc, again.dpi) == (picture.text, IPTC, (300, 300))
    with Image.open(stream) as image:
        assert image.info["dpi"] == (300, 300)
        assert image.info["photoshop"][0x0404] == IPTC
    long = Picture(PIXELS, text=(("Comment", "x" * 70_000),), iptc=IPTC * 4000)
    stream = io.BytesIO()
    with pytest.warns(
        DroppedDataWarning, match="70000 bytes of comment are left out, JPEG holds at most 65531"
    ):
        save_picture(long, stream, "JPEG")
    assert open_picture(stream).iptc == IPTC * 4000  # in several segments


@pytest.mark.parametrize(
    "tail",
    [
        b"\xff\xd8\xff" * 100_000,
        b"\xff\xd8\xff\xe0\0\2" * 100_000,
        b"\xff\xda\0\2" * 100_000,
        b"\0\0\0\x10ftyp" * 100_000,
        b"ftyp" * 100_000,
        b"\xff\xed\0\x10Photoshop 3.0\0" * 100_000,
        b"\xff\xfe\0\3c" * 100_000,
        np.random.default_rng(0).bytes(1 << 20),
    ],
)
def test_hostile_tails_take_no_longer(tail: bytes) -> None:
    for data in (saved("JPEG") + tail, saved("JPEG")[:2] + tail + saved("JPEG")[2:]):
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DroppedDataWarning)
            read_jpeg(data, "it")
        assert time.process_time() - start < 2
