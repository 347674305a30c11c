"""Metadata payloads: back as they were, bounded, and never a traceback."""

from __future__ import annotations

import pytest
import zstandard

from latentcodec.codec.sidecar import pack_sidecar, unpack_sidecar
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
