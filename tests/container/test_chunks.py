"""Chunks: exact round trips, and an error of its own for each way in which the outer layer can be wrong."""

from __future__ import annotations

from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.container.chunks import (
    PREAMBLE,
    SIGNATURE,
    Chunk,
    Fields,
    Limits,
    chunk_size,
    parse_chunk,
    read_chunks,
    read_varint,
    write_chunks,
    write_varint,
)
from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    InvalidArgument,
    LatentCodecError,
    LimitExceeded,
    MalformedFile,
    NotLatentCodecFile,
    TruncatedFile,
    UnsupportedVersion,
)

relaxed = settings(deadline=None)  # the machine may be busy
letters = st.sampled_from("ABCXYZabcxyz")
chunk_lists = st.lists(st.builds(Chunk, letters, st.binary(max_size=300)), max_size=5)


@relaxed
@given(st.integers(0, 2**32 - 1), st.binary(max_size=3))
def test_varint_round_trip(value: int, rest: bytes) -> None:
    packed = write_varint(value)
    assert len(packed) == max(1, -(-value.bit_length() // 7))
    assert read_varint(b"x" + packed + rest, 1, "n") == (value, 1 + len(packed))
    for length in range(len(packed)):
        with pytest.raises(TruncatedFile, match="n: the data end"):
            read_varint(packed[:length], 0, "n")


@pytest.mark.parametrize(
    "packed", ["8000", "ff00", "8080808010", "ffffffff1f", "ffffffffff01", "808080808000"]
)
def test_varints_have_one_form_and_32_bits(packed: str) -> None:
    with pytest.raises(MalformedFile, match="width: the number at byte 0"):
        read_varint(bytes.fromhex(packed), 0, "width")


@pytest.mark.parametrize("value", [-1, 2**32])
def test_varint_range(value: int) -> None:
    with pytest.raises(InvalidArgument, match=str(value)):
        write_varint(value)


@relaxed
@given(chunk_lists)
def test_round_trip(chunks: list[Chunk]) -> None:
    data = write_chunks(chunks)
    assert read_chunks(data) == chunks
    assert len(data) == len(PREAMBLE) + sum(map(chunk_size, chunks))
    assert read_chunks(bytearray(data)) == read_chunks(memoryview(data)) == chunks  # type: ignore[arg-type]


def test_known_answer() -> None:
    data = bytes.fromhex("8b4c43490d0a1a0a 01 48 03 616263 abd37176 65 00 1d8d5359")
    assert write_chunks([Chunk("H", b"abc"), Chunk("e", b"")]) == data
    assert read_chunks(data) == [Chunk("H", b"abc"), Chunk("e", b"")]
    assert crc32(b"H\x03abc") == 0x7671D3AB


@relaxed
@given(chunk_lists.filter(bool), st.data())
def test_every_changed_byte_is_noticed(chunks: list[Chunk], data: st.DataObject) -> None:
    changed = bytearray(write_chunks(chunks))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(FormatError):
        read_chunks(bytes(changed))


@relaxed
@given(chunk_lists.filter(bool))
def test_every_truncation_is_noticed_but_between_chunks(chunks: list[Chunk]) -> None:
    data = write_chunks(chunks)
    whole = {len(write_chunks(chunks[:count])) for count in range(len(chunks) + 1)}
    for length in range(1, len(data)):
        if length in whole:
            assert read_chunks(data[:length]) == chunks[: len(read_chunks(data[:length]))]
        else:
            with pytest.raises(TruncatedFile):
                read_chunks(data[:length])


@relaxed
@given(st.binary(max_size=100), st.booleans())
def test_noise(noise: bytes, signed: bool) -> None:
    try:
        read_chunks(PREAMBLE + noise if signed else noise)
    except LatentCodecError:
        return
    assert signed


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", NotLatentCodecFile, "starts with nothing"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), NotLatentCodecFile, "starts with 89 50 4e 47"),
        (b"Dear Sir", NotLatentCodecFile, "not a latentcodec file"),
        (PREAMBLE.replace(b"\r\n", b"\n"), NotLatentCodecFile, "text mode"),
        (PREAMBLE.replace(b"\n", b"\r\n"), NotLatentCodecFile, "text mode"),
        (b"\x0b" + PREAMBLE[1:], NotLatentCodecFile, "text mode"),
        (SIGNATURE[:5], TruncatedFile, "ends after 5 bytes"),
        (SIGNATURE, TruncatedFile, "before its version"),
        (SIGNATURE + b"\x02", UnsupportedVersion, "version 2, this release reads up to 1: upgrade"),
        (SIGNATURE + b"\x00", MalformedFile, "version 0"),
        (PREAMBLE + b"\x00", MalformedFile, "byte 9 is 0x00"),
        (PREAMBLE + b"\xc8", MalformedFile, "byte 9 is 0xc8"),
        (PREAMBLE + b"H", TruncatedFile, "length of chunk 'H'"),
        (PREAMBLE + b"H\x80\x00", MalformedFile, "length of chunk 'H'"),
        (PREAMBLE + b"H\x05abc", TruncatedFile, "chunk 'H' at byte 9 ends at byte 20, the data at 14"),
        (PREAMBLE + b"H\x03abc\0\0\0\0", ChecksumMismatch, "CRC 7671d3ab, stored is 00000000"),
    ],
)
def test_messages(data: bytes, error: type[FormatError], message: str) -> None:
    with pytest.raises(error, match=message):
        read_chunks(data)


def test_number_of_chunks_is_limited() -> None:
    data = write_chunks([Chunk("a", b"")] * 5)
    assert len(read_chunks(data, Limits(max_chunks=5))) == 5
    with pytest.raises(LimitExceeded, match="over 4 chunks"):
        read_chunks(data, Limits(max_chunks=4))
    most = (1 << 14) + 16
    assert len(read_chunks(write_chunks([Chunk("a", b"")] * most))) == most
    with pytest.raises(LimitExceeded, match="over 16400 chunks"):
        read_chunks(write_chunks([Chunk("a", b"")] * (most + 1)))


def test_a_chunk_beyond_its_limit() -> None:
    data = write_chunks([Chunk("a", b"abc")])
    assert parse_chunk(data, 9, len(data)) == (Chunk("a", b"abc"), len(data))
    for limit in range(len(data)):
        with pytest.raises(TruncatedFile):
            parse_chunk(data, 9, limit)


@pytest.mark.parametrize("letter", ["", "ab", "1", "é", "\x8b"])
def test_only_letters_are_types(letter: str) -> None:
    with pytest.raises(InvalidArgument, match="ASCII letter"):
        write_chunks([Chunk(letter, b"")])


def test_fields() -> None:
    fields = Fields(b"\x85\x01abcdef", "tile")
    assert fields.varint("number") == 133
    assert fields.take(2, "pair") == b"ab"
    with pytest.raises(MalformedFile, match="tile: 8 bytes of payload, its fields end at 4"):
        fields.finish()
    with pytest.raises(MalformedFile, match="tile: hash ends at byte 9 of the payload, which has 8"):
        fields.take(5, "hash")
    assert fields.rest() == b"cdef"
    fields.finish()
    with pytest.raises(MalformedFile, match="tile: number: the data end"):
        fields.varint("number")
