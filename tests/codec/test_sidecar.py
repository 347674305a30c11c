"""Metadata payloads: back as they were, bounded, and never a traceback."""

from __future__ import annotations

import pytest
import zstandard

from latentcodec.codec.sidecar import pack_sidecar, text_bytes, unpack_sidecar, unpack_text
from latentcodec.errors import LimitExceeded, MalformedFile


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
