"""Damaged rANS streams end in an error of the tree; cut ones, in partial mode, in what they still hold."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.errors import FormatError, MalformedFile, TruncatedFile
from latentcodec.rans.coder import MAX_VALUE, Decoder, Encoder, Tables
from tests.fuzz.mutate import mutated
from tests.rans_cases import (
    Array,
    Segments,
    by_every_path,
    decode,
    draw,
    encode,
    encode_with,
    history,
    make_tables,
    messages,
    mixtures,
)

# ---- damaged streams


def small_stream(lanes: int) -> tuple[bytes, Segments]:
    segments = [draw(60, 1, low=1), draw(40, 2)]
    return encode_with(encode(segments, mixtures())[0], lanes), segments


@pytest.mark.parametrize("lanes", [1, 3, 30])
def test_every_truncation_is_an_error(lanes: int, path: str) -> None:
    stream, segments = small_stream(lanes)
    for length in range(len(stream)):
        with pytest.raises(TruncatedFile):
            decode(stream[:length], [rows for _, rows in segments], mixtures())


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutations_give_errors_of_the_tree_or_values_in_range(data: st.DataObject) -> None:
    stream, segments = small_stream(data.draw(st.sampled_from([1, 3, 30])))
    changed = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    check_hostile(bytes(changed), [rows for _, rows in segments])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 40))
def test_noise_gives_errors_of_the_tree_or_values_in_range(noise: bytes, row: int) -> None:
    check_hostile(noise, [np.full(50, row), np.arange(41)])


def check_hostile(stream: bytes, rows: list[Array]) -> None:
    def outcome() -> str:
        try:
            taken = decode(stream, rows, mixtures())
        except FormatError as error:
            return str(error)
        assert all(np.abs(each).max() <= MAX_VALUE for each in taken)
        return str([each.tolist() for each in taken])

    by_every_path(outcome)
    for partial in (False, True):
        by_every_path(lambda partial=partial: history(stream, rows, mixtures(), partial=partial))


@settings(max_examples=200, deadline=None)
@given(messages(), st.integers(1, 25), st.data())
def test_all_paths_tell_the_same_of_a_changed_stream(
    message: tuple[Tables, Segments], lanes: int, data: st.DataObject
) -> None:
    """Of any tables: the values, errors, digests and ends, also after an error, whole and in part."""
    tables, segments = message
    stream = encode_with(encode(segments, tables)[0], lanes)
    changed = mutated(data.draw(st.randoms(use_true_random=False)), stream, [b"\xff" * 9, bytes(9)])
    rows = [rows for _, rows in segments]
    for each in (changed, stream[: len(changed) // 2], stream + b"\0\0"):
        for partial in (False, True):
            by_every_path(lambda each=each, partial=partial: history(each, rows, tables, partial=partial))


@settings(max_examples=100, deadline=None)
@given(messages(), st.integers(1, 20), st.binary(max_size=120), st.booleans())
def test_all_paths_tell_the_same_of_noise(
    message: tuple[Tables, Segments], lanes: int, noise: bytes, partial: bool
) -> None:
    """Behind a head that is right: with any states and words."""
    tables, segments = message
    random = np.random.default_rng(len(noise))
    states = random.integers(1 << 16, 1 << 32, lanes, dtype=np.uint32)
    stream = bytes([lanes]) + states.astype("<u4").tobytes() + noise
    by_every_path(lambda: history(stream, [rows for _, rows in segments] * 2, tables, partial=partial))


def test_memory_is_bounded_by_the_input() -> None:
    rows = np.full(1000, 30)
    mixtures().lookup.build_inverse(rows)
    for head in (b"\x01", b"\x80\x10", b"\xff\xff\xff\xff\x0f", b"\xff\x7f"):
        stream = head + b"\xff" * 100_000
        tracemalloc.start()
        with pytest.raises(FormatError):
            decode(stream, [rows], mixtures())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1_000_000


@pytest.mark.parametrize(
    ("stream", "error", "message"),
    [
        (b"", TruncatedFile, "rANS lanes"),
        (b"\x00", MalformedFile, "lanes: 0 is outside 1..2048"),
        (b"\x81\x10" + bytes(9000), MalformedFile, "lanes: 2049"),
        (b"\x81\x00" + bytes(8), MalformedFile, "shortest-form"),
        (b"\x02" + b"\0\0\1\0\0\0", TruncatedFile, "2 lanes need 9 bytes, the stream has 7"),
        (b"\x01" + b"\xff\xff\0\0", MalformedFile, "states: 65535 is below 65536"),
        (b"\x01" + b"\0\0\1\0" + b"\0", TruncatedFile, "odd number"),
        (b"\x01" + b"\0\0\1\0" + b"\0\0", MalformedFile, "1 of 1 words are left over"),
        (b"\x01" + b"\1\0\1\0", MalformedFile, "1 of 1 lanes end in a wrong state"),
    ],
)
def test_messages(stream: bytes, error: type[FormatError], message: str, path: str) -> None:
    with pytest.raises(error, match=message):
        decode(stream, [], mixtures())


def bytes_stream(symbols: list[list[int]]) -> bytes:
    """A stream with one lane: an escape of `ESCAPE_TABLES`, then these segments of bytes."""
    encoder = Encoder(ESCAPE_TABLES)
    lookup = ESCAPE_TABLES.lookup
    for entries in (lookup.escape[:1], *(np.array(each) + lookup.first[lookup.byte_row] for each in symbols)):
        encoder._append(entries.astype(np.int32), 0)
    return encode_with(encoder, 1)


ESCAPE_TABLES = make_tables([[65000, 536]], [0])


@pytest.mark.parametrize(
    ("escape", "message"),
    [
        ([0x80, 0x00], "shortest form"),
        ([0x80, 0x80, 0x80, 0x80], "outside"),
        ([0xFF, 0xFF, 0xFF, 0x7F], "outside"),
        ([0x80, 0x80, 0x80, 0x01], "outside"),
    ],
)
def test_malformed_escapes(escape: list[int], message: str, path: str) -> None:
    stream = bytes_stream([[byte] for byte in escape])
    with pytest.raises(MalformedFile, match=message):
        decode(stream, [np.array([0])], ESCAPE_TABLES)


# ---- partial streams


def take_partial(stream: bytes, rows: list[Array]) -> tuple[list[int], bool]:
    decoder = Decoder(stream, mixtures(), partial=True)
    values = np.concatenate([decoder.take(each) for each in rows])
    decoder.finish()
    return values.tolist(), decoder.exhausted


@pytest.mark.parametrize("lanes", [1, 4, 25])
def test_partial_streams_keep_what_is_there(lanes: int) -> None:
    values, rows = draw(300, 7, low=1)
    values = np.clip(values, -1, 1)  # no escapes
    segments = np.split(np.arange(300), [100, 101, 250])
    encoder, _ = encode([(values[s], rows[s]) for s in segments], mixtures())
    stream = encode_with(encoder, lanes)
    kept = []
    for length in range(len(stream) + 1):
        cut = stream[:length]
        outcome = by_every_path(lambda cut=cut: take_partial(cut, [rows[s] for s in segments]))
        taken, exhausted = outcome
        assert exhausted == (length < len(stream))
        wrong = np.flatnonzero(np.array(taken) != values)
        start = wrong[0] if wrong.size else 300
        assert not any(taken[start:])  # from the first wrong value on, all are 0
        kept.append(start)
    assert kept == sorted(kept)  # more bytes never give less
    assert kept[0] < 10
    assert kept[-1] == 300


def test_partial_stream_cut_among_escapes(path: str) -> None:
    rows = np.full(50, 1)
    values = np.where(np.arange(50) % 7 == 3, 1000, 0)
    _, stream = encode([(values, rows), (values, rows)], mixtures())
    for length in range(len(stream)):
        taken, exhausted = take_partial(stream[:length], [rows, rows])
        assert exhausted
        assert set(taken) <= {0, 1000}


def test_partial_still_finds_malformed_streams() -> None:
    with pytest.raises(MalformedFile):
        Decoder(b"\x00", mixtures(), partial=True)
    decoder = Decoder(small_stream(1)[0] + b"\0\0", mixtures(), partial=True)
    for _, rows in small_stream(1)[1]:
        decoder.take(rows)
    with pytest.raises(MalformedFile, match="1 of"):
        decoder.finish()


def test_after_the_end_strict_decoders_keep_raising(path: str) -> None:
    stream, segments = small_stream(3)
    decoder = Decoder(stream[:-10], mixtures())
    decoder.take(segments[0][1][:10])
    for _ in range(3):
        with pytest.raises(TruncatedFile):
            decoder.take(np.concatenate([rows for _, rows in segments]))
    with pytest.raises(MalformedFile, match="3 of 3 lanes end in a wrong state"):
        decoder.finish()
