"""Metadata payloads: back as they were, bounded, and never a traceback."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard

from latentcodec.codec.sidecar import (
    pack_metadata,
    pack_sidecar,
    text_bytes,
    unpack_cicp,
    unpack_dpi,
    unpack_record,
    unpack_sidecar,
    unpack_text,
)
from latentcodec.errors import LimitExceeded, MalformedFile, NotKept
from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.notices import strictly
from latentcodec.picture.picture import DroppedDataWarning, Picture


@pytest.mark.parametrize("data", [b"x", b"II*\0" + bytes(5000), bytes(range(256)) * 40])
def test_round_trip(data: bytes) -> None:
    packed = pack_sidecar(data)
    assert packed is not None
    assert len(packed) < len(data) + 20
    assert unpack_sidecar(packed, "exif", 1 << 20) == data
    assert unpack_sidecar(packed, "exif", len(data)) == data


def test_nothing_stays_nothing() -> None:
    assert pack_sidecar(None) is None
    assert pack_sidecar(b"") is None
    assert unpack_sidecar(None, "xmp", 10) is None


def test_limits_and_damage() -> None:
    packed = pack_sidecar(b"abc" * 100)
    assert packed is not None
    with pytest.raises(LimitExceeded, match="exif: 300 bytes decompressed, the limit is 299"):
        unpack_sidecar(packed, "exif", 299)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(b"abc" * 100)
    for bad in (b"", b"no", packed[:-1], packed + b"x", unsized, packed[:5] + bytes(len(packed) - 5)):
        with pytest.raises(MalformedFile, match="xmp"):
            unpack_sidecar(bad, "xmp", 1 << 20)


TEXT = (("parameters", "a cat\nSteps: 20"), ("prompt", "ねこ"), ("prompt", ""), ("k" * 255, "v" * 300))


def test_text_is_pairs_of_lengths_and_utf_8() -> None:
    assert text_bytes((("a", "é"), ("b", ""))) == b"\1a\2\xc3\xa9\1b\0"
    assert unpack_text(pack_sidecar(text_bytes(TEXT)), 1 << 20) == TEXT
    assert unpack_text(None, 10) == ()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\0\1v", "a key of 0 bytes; it has 1 to 255"),
        (b"\1\0\1v", "none of them 0"),
        (b"\x80\2" + b"k" * 256 + b"\0", "a key of 256 bytes"),
        (b"\1k", "length of value"),
        (b"\1k\5v", "value ends at byte 8 of the payload, which has 4"),
        (b"\1\xff\0", "pair 0 is not UTF-8"),
        (b"\1k\0" * 4097, "over 4096 pairs"),
    ],
)
def test_text_that_the_format_does_not_allow(raw: bytes, message: str) -> None:
    with pytest.raises(MalformedFile, match=f"text.*{message}"):
        unpack_text(pack_sidecar(raw), 1 << 20)


def test_text_is_limited() -> None:
    with pytest.raises(LimitExceeded, match="text: 300 bytes decompressed"):
        unpack_text(pack_sidecar(bytes(300)), 299)


# ---- numbers and the record

PIXELS = np.zeros((2, 3, 3), np.uint8)


def packed(**fields: object) -> dict[str, bytes | None]:
    return pack_metadata(Picture(PIXELS, **fields), False, 1 << 20)  # type: ignore[arg-type]


def test_code_points_and_resolution() -> None:
    stored = packed(cicp=Cicp(9, 16), dpi=(300, 72.0094))
    assert stored["cicp"] == bytes((9, 16, 0, 1))
    assert unpack_cicp(stored["cicp"]) == Cicp(9, 16)
    assert unpack_dpi(stored["dpi"]) == (300, 72.009)
    assert unpack_cicp(None) is unpack_dpi(None) is None
    assert packed()["dpi"] is packed()["cicp"] is packed()["left_out"] is None


@pytest.mark.parametrize("data", [b"", b"\1\2\0", bytes(5), bytes((9, 16, 1, 1)), bytes((9, 16, 0, 2))])
def test_code_points_that_the_format_does_not_allow(data: bytes) -> None:
    with pytest.raises(MalformedFile, match="code points"):
        unpack_cicp(data)


@pytest.mark.parametrize("data", [b"", b"\1", b"\0\1", b"\1\0", b"\1\1\1", b"\xff" * 9])
def test_a_resolution_that_the_format_does_not_allow(data: bytes) -> None:
    with pytest.raises(MalformedFile, match="resolution"):
        unpack_dpi(data)


def test_the_record_is_lines_and_bounded() -> None:
    left_out = ("a video (5 bytes)", "two\nlines", "é" * 500)
    assert unpack_record(packed(left_out=left_out)["left_out"]) == (left_out[0], "two lines", "é" * 200)
    many = packed(left_out=tuple(f"thing {number}" for number in range(2000)))["left_out"] or b""
    assert len(many) <= 4096
    assert unpack_record(many)[-1].startswith("and ")
    assert unpack_record(None) == ()
    for bad in (b"x" * 4097, b"\xff"):
        with pytest.raises(MalformedFile, match="what was left out"):
            unpack_record(bad)


def test_strip_keeps_the_colours_alone() -> None:
    picture = Picture(
        PIXELS,
        profile=b"p",
        cicp=Cicp(9, 16),
        exif=b"II*\0",
        xmp=b"<x/>",
        text=TEXT,
        iptc=b"\x1c",
        dpi=(9, 9),
        left_out=("a video",),
    )
    assert set(pack_metadata(picture, True, 1 << 20)) == {"profile", "cicp"}
    assert None not in pack_metadata(picture, False, 1 << 20).values()


def test_what_does_not_fit_is_in_the_record() -> None:
    picture = Picture(PIXELS, iptc=b"\x1c" + bytes(1000), left_out=("a video",))
    with pytest.warns(DroppedDataWarning, match="1001 bytes of IPTC are dropped"):
        stored = pack_metadata(picture, False, 1000)
    assert unpack_record(stored["left_out"]) == ("a video", "1001 bytes of IPTC are dropped")
    with strictly(), pytest.raises(NotKept, match=r"IPTC are dropped: .*; strict forbids it"):
        pack_metadata(picture, False, 1000)
