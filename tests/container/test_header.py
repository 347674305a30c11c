"""The header: what it allows, in which order it judges, and the grid of tiles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from latentcodec.container.chunks import Chunk, Limits, write_chunks
from latentcodec.container.header import (
    EXTERNAL_MODEL,
    PIXELS,
    Header,
    default_tile_size,
    read_header,
    too_thin,
)
from latentcodec.errors import (
    ChecksumMismatch,
    LatentCodecError,
    LimitExceeded,
    MalformedFile,
    TruncatedFile,
)

HEADER = Header(768, 512, 3, 8, 1, b"\x01\x02\x03\x04", b"\x05\x06\x07\x08", 2400, 0)
PACKED = "800680040308010102030405060708e01200"

relaxed = settings(deadline=None)  # the machine may be busy
sides = st.integers(1, 200) | st.integers(1, 1 << 24)


@st.composite
def headers(draw: st.DrawFn) -> Header:
    header = Header(
        width=draw(sides),
        height=draw(sides),
        channels=draw(st.integers(1, 4)),
        depth=8,
        model_number=draw(st.just(PIXELS) | st.integers(0, 2**32 - 1)),
        networks_hash=draw(st.binary(min_size=4, max_size=4)),
        synthesis_hash=draw(st.binary(min_size=4, max_size=4)),
        quality_level=draw(st.integers(0, 4000)),
        tile_size=draw(st.just(0) | st.integers(8, 40)) * 32,
    )
    padded = -(-header.width // 32) * -(-header.height // 32) << 10
    work, most = max(padded, header.tile_count << 16), max(3 * header.width * header.height, 1 << 18)
    assume(header.model_number == PIXELS or work <= most)
    try:
        header.validate()
    except LimitExceeded:
        assume(False)
    return header


@relaxed
@given(headers())
def test_round_trip(header: Header) -> None:
    assert Header.unpack(header.pack()) == header
    assert read_header(write_chunks([Chunk("H", header.pack())])) == header
    for length in range(len(header.pack())):
        with pytest.raises(MalformedFile, match="header: "):
            Header.unpack(header.pack()[:length])
    with pytest.raises(MalformedFile, match="fields end at"):
        Header.unpack(header.pack() + b"\0")


def test_known_answer() -> None:
    assert HEADER.pack().hex() == PACKED
    assert Header.unpack(bytes.fromhex(PACKED)) == HEADER


@relaxed
@given(st.binary(max_size=40))
def test_noise(noise: bytes) -> None:
    try:
        header = Header.unpack(noise)
    except LatentCodecError:
        return
    assert header.pack() == noise


@relaxed
@given(headers().filter(lambda header: header.width * header.height < 40_000))
def test_the_grid_covers_every_pixel_once(header: Header) -> None:
    seen = np.zeros((header.height, header.width), int)
    boxes = header.tile_grid()
    for box in boxes:
        seen[box.y0 : box.y1, box.x0 : box.x1] += 1
        assert box.x0 % (header.tile_size or 1) == box.y0 % (header.tile_size or 1) == 0
    assert (seen == 1).all()
    assert len(boxes) == header.tile_count
    assert boxes == sorted(boxes, key=lambda box: (box.y0, box.x0))
    assert [box.y0 for box in boxes[: header.tile_columns + 1]].count(0) == header.tile_columns


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width 0 is outside 1..16777216"),
        ({"width": (1 << 24) + 1}, "width 16777217"),
        ({"height": 0}, "height 0"),
        ({"channels": 0}, "channels 0 is outside 1..4"),
        ({"channels": 5}, "channels 5"),
        (
            {"depth": 16, "model_number": PIXELS, "width": 1 << 20, "height": 1, "tile_size": 1024},
            "1024 tiles of deep samples, 96 are allowed",
        ),
        ({"depth": 7}, "depth 7 is outside 8..16"),
        ({"depth": 17}, "depth 17 is outside 8..16"),
        ({"quality_level": 4001}, "quality level 4001 is outside 0..4000"),
        ({"tile_size": 40}, "tile size 40 is no multiple of 32"),
        ({"tile_size": 32}, "tile size 32 is below 256 pixels"),
        ({"tile_size": 224}, "tile size 224 is below 256 pixels"),
        ({"tile_size": 1 << 25}, "tile size 33554432 is outside"),
        ({"networks_hash": b"123"}, "networks hash has 3 bytes"),
        ({"synthesis_hash": b"12345"}, "synthesis hash has 5 bytes"),
    ],
)
def test_malformed(change: dict[str, int], message: str) -> None:
    with pytest.raises(MalformedFile, match=message):
        replace(HEADER, **change).validate()  # type: ignore[arg-type]
    if isinstance(next(iter(change.values())), int):
        with pytest.raises(MalformedFile, match=message):
            Header.unpack(replace(HEADER, **change).pack())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("width", "height", "tile_size", "message"),
    [
        (13_378, 13_378, 1024, "13378 x 13378 = 178970884 pixels, the limit is 178956970"),
        (1 << 24, 1 << 24, 1024, "pixels, the limit is 178956970"),
        (4096, 2049, 0, "a tile has 4096 x 2080 = 8519680 pixels, the limit of the format is 8388608"),
        (1 << 24, 1, 0, "a tile has 16777216 x 32"),
        (4096, 4096, 2912, "a tile has 2912 x 2912 = 8479744 pixels"),
        (1 << 24, 10, 256, "65536 tiles, the limit is 16400"),
    ],
)
def test_limits(width: int, height: int, tile_size: int, message: str) -> None:
    header = replace(HEADER, width=width, height=height, tile_size=tile_size)
    with pytest.raises(LimitExceeded, match=message):
        header.validate()
    with pytest.raises(LimitExceeded, match=message):
        Header.unpack(header.pack())


@pytest.mark.parametrize(
    ("width", "height", "tile_size"),
    [
        (1, 1, 0),
        (13_377, 13_377, 1024),
        (1 << 18, 1, 0),
        (1 << 24, 10, 1024),
        (13_377, 13_377, 256),
        (4096, 2048, 0),
        (64, 64, 256),
        (64, 64, 1 << 24),
    ],
)
def test_largest_that_the_limits_allow(width: int, height: int, tile_size: int) -> None:
    replace(HEADER, model_number=PIXELS, width=width, height=height, tile_size=tile_size).validate()


@pytest.mark.parametrize(
    ("width", "height", "thin"),
    [
        (1, 1, False),
        (8192, 1, False),
        (8193, 1, True),
        (32, 8193, False),
        (49_152, 11, False),  # one tile
        (49_153, 11, True),  # tiles of 1024, of which each costs what 65,536 pixels do
        (60_000, 21, True),
        (60_000, 22, False),
        (33, 1 << 20, False),
        (1, 1 << 24, True),
    ],
)
def test_a_picture_that_is_mostly_padding_is_kept_as_pixels(width: int, height: int, thin: bool) -> None:
    """2,097,152 x 1 pixels took the native model 60 times as long as as many in a square."""
    assert too_thin(width, height) == thin
    header = replace(HEADER, width=width, height=height, tile_size=default_tile_size(width, height))
    replace(header, model_number=PIXELS).validate()
    if thin:
        with pytest.raises(MalformedFile, match=f"{width} x {height} pixels in .* stored as pixels, model 2"):
            header.validate()
    else:
        header.validate()


@relaxed
@given(st.integers(1, 3000), st.integers(1, 1 << 17), st.booleans())
def test_what_is_not_too_thin_can_be_written(short: int, long: int, turned: bool) -> None:
    width, height = (short, long) if turned else (long, short)
    assume(width * height < 10_000_000)
    header = replace(HEADER, width=width, height=height, tile_size=default_tile_size(width, height))
    if too_thin(width, height):
        header = replace(header, model_number=PIXELS)
    header.validate()


def test_small_tiles_of_a_thin_picture() -> None:
    """44,544 x 11 pixels in tiles of 256 took five times as long as as many in a square."""
    header = replace(HEADER, width=44_544, height=11, tile_size=256)
    with pytest.raises(MalformedFile, match=r"44544 x 11 pixels in 174 tile\(s\) are 11403264 for networks"):
        header.validate()
    replace(header, model_number=PIXELS).validate()
    for width, height, tile_size in ((44_544, 11, 2048), (257, 257, 256), (300, 50, 256), (8192, 1, 4096)):
        replace(HEADER, width=width, height=height, tile_size=tile_size).validate()


def test_autoencoders_have_a_limit_of_their_own() -> None:
    header = replace(HEADER, width=8192, height=8193, tile_size=1024)
    header.validate()
    header = replace(header, model_number=EXTERNAL_MODEL)
    with pytest.raises(LimitExceeded, match="67117056 pixels, the limit for autoencoders is 67108864"):
        header.validate()
    header.validate(Limits(max_autoencoder_pixels=8192 * 8193))


def test_a_callers_limits() -> None:
    HEADER.validate(Limits(max_pixels=768 * 512))
    with pytest.raises(LimitExceeded, match=r"raise Limits\.max_pixels"):
        HEADER.validate(Limits(max_pixels=768 * 512 - 1))
    tiled = replace(HEADER, tile_size=256)
    tiled.validate(Limits(max_chunks=6))
    with pytest.raises(LimitExceeded, match="6 tiles, the limit is 5"):
        tiled.validate(Limits(max_chunks=5))


@pytest.mark.parametrize(
    ("width", "height", "tile_size"),
    [(1, 1, 0), (1536, 1024, 0), (1537, 1024, 1024), (1024, 1537, 1024), (49_152, 1, 0), (49_153, 1, 1024)],
)
def test_default_tile_size(width: int, height: int, tile_size: int) -> None:
    assert default_tile_size(width, height) == tile_size
    replace(HEADER, model_number=PIXELS, width=width, height=height, tile_size=tile_size).validate()


def test_reading_needs_the_first_64_bytes_only() -> None:
    largest = Header(*[1 << 21, 64, 4, 8, 2**32 - 1, b"abcd", b"efgh", 4000, 1 << 11])
    data = write_chunks([Chunk("H", largest.pack()), Chunk("T", bytes(1000))])
    assert read_header(data[:64]) == largest
    for length in range(1, 9 + 2 + len(largest.pack()) + 4):
        with pytest.raises(TruncatedFile):
            read_header(data[:length])


def test_the_header_comes_first() -> None:
    with pytest.raises(MalformedFile, match="first chunk is 'T', it must be the header"):
        read_header(write_chunks([Chunk("T", b"")]))
    data = bytearray(write_chunks([Chunk("H", HEADER.pack())]))
    data[15] ^= 1
    with pytest.raises(ChecksumMismatch, match="chunk 'H' at byte 9"):
        read_header(bytes(data))


def test_numbers_past_32_bits() -> None:
    with pytest.raises(MalformedFile, match="header: width: the number"):
        Header.unpack(b"\xff\xff\xff\xff\x7f" + bytes(20))
