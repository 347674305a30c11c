"""rANS: what goes in comes out, by either path, and the bytes never change."""

from __future__ import annotations

import math
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.errors import InvalidArgument
from latentcodec.rans.coder import MAX_LANES, MAX_VALUE, Decoder, Encoder, Tables
from tests.rans_cases import (
    Segments,
    by_every_path,
    decode,
    draw,
    encode,
    encode_with,
    make_tables,
    messages,
    mixtures,
    reference_decode,
)

# ---- known answers: these bytes may never change

FIXED_TABLES = make_tables(
    [[65536], [1000, 64000, 500, 36], [30000, 35535, 1], [32768, 32768]], [0, 1, -5, 0]
)
FIXED_SEGMENTS: Segments = [
    (np.array([0, 0, 1, -1, 0, 0, 0, 5, 6, 0]), np.array([1, 1, 1, 1, 0, 1, 1, 2, 2, 3])),
    (np.array([5, 5, -1000, 1 << 20, -1, 7]), np.array([2, 2, 2, 1, 3, 2])),
    (np.array([0, 0]), np.array([0, 0])),
    (np.array([1, 0, 0, 0]), np.array([1, 1, 1, 3])),
]
FIXED_STREAMS = {
    1: "0143f8f197cf10f7ff01d90ffc7f0016ffc0fe",
    3: "03b0a2c509686d100014fe0100e743ffff7fd9e801e8ff060f30fe",
}


@pytest.mark.parametrize("lanes", FIXED_STREAMS)
def test_known_answer(lanes: int, path: str) -> None:
    encoder, stream = encode(FIXED_SEGMENTS, FIXED_TABLES)
    assert encode_with(encoder, lanes).hex() == FIXED_STREAMS[lanes]
    assert stream.hex() == FIXED_STREAMS[1]
    decoder = Decoder(bytes.fromhex(FIXED_STREAMS[lanes]), FIXED_TABLES)
    for values, rows in FIXED_SEGMENTS:
        taken = decoder.take(rows)
        assert taken.dtype == np.int32
        assert taken.tolist() == values.tolist()
    decoder.finish()
    every = np.concatenate([values[rows > 0] for values, rows in FIXED_SEGMENTS])
    assert decoder.digest == encoder.digest == crc32(every.astype("<i4").tobytes())


@pytest.mark.parametrize("lanes", FIXED_STREAMS)
def test_known_answer_by_the_reference(lanes: int) -> None:
    rows = [rows.tolist() for _, rows in FIXED_SEGMENTS]
    values = reference_decode(bytes.fromhex(FIXED_STREAMS[lanes]), rows, FIXED_TABLES)
    assert values == [values.tolist() for values, _ in FIXED_SEGMENTS]


def test_the_format_text_shows_these_streams() -> None:
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    every = np.concatenate([values[rows > 0] for values, rows in FIXED_SEGMENTS])
    for shown in (*FIXED_STREAMS.values(), f"digest      {crc32(every.astype('<i4').tobytes()):08x}"):
        assert f" {shown}\n" in text


# ---- round trips


@settings(max_examples=150, deadline=None)
@given(messages(), st.integers(1, 50))
def test_round_trip(message: tuple[Tables, Segments], lanes: int) -> None:
    tables, segments = message
    encoder, stream = encode(segments, tables)
    values, rows = [v.tolist() for v, _ in segments], [r for _, r in segments]
    assert len(stream) * 8 <= encoder.ideal_bits() * 1.01 + 8 * 32
    chosen = encode_with(encoder, lanes)
    assert reference_decode(chosen, [r.tolist() for r in rows], tables) == values
    for each in (stream, chosen):
        taken = by_every_path(lambda each=each: [one.tolist() for one in decode(each, rows, tables)])
        assert taken == values


@pytest.mark.parametrize("lanes", [1, 2, 19, 300, MAX_LANES])
def test_all_paths_agree_on_long_streams(lanes: int, path: str) -> None:
    segments = [draw(count, seed) for seed, count in enumerate((5000, 1, 0, 2047, 4096))]
    encoder, _ = encode(segments, mixtures())
    taken = decode(encode_with(encoder, lanes), [rows for _, rows in segments], mixtures())
    for (values, _), each in zip(segments, taken, strict=True):
        np.testing.assert_array_equal(each, values)


def test_finish_changes_nothing() -> None:
    encoder, first = encode([draw(1000, 0)], mixtures())
    assert encoder.finish() == first
    encoder.put(*draw(10, 1))
    assert len(encoder.finish()) > len(first)


def test_nothing_coded() -> None:
    zeros = np.zeros(1000, np.int32)
    for segments in ([], [(zeros[:0], zeros[:0])], [(zeros, zeros)]):
        encoder, stream = encode(segments, mixtures())
        assert encoder.ideal_bits() == 0
        assert len(stream) == 5
        assert all(not taken.any() for taken in decode(stream, [rows for _, rows in segments], mixtures()))


def test_surely_zero_costs_nothing() -> None:
    values, rows = draw(500, 3, low=1)
    _, alone = encode([(values, rows)], mixtures())
    where = np.sort(np.random.default_rng(0).integers(0, 500, 5000))
    values, rows = np.insert(values, where, 0), np.insert(rows, where, 0)
    _, among = encode([(values, rows)], mixtures())
    assert alone == among
    np.testing.assert_array_equal(decode(among, [rows], mixtures())[0], values)


def test_escapes_cost_eight_bits_for_seven() -> None:
    tables = make_tables([[65000, 536]], [0])
    for value, count in ((1, 1), (64, 1), (65, 2), (8192, 2), (8193, 3), (MAX_VALUE, 3), (-64, 1), (-65, 2)):
        encoder, stream = encode([(np.array([value]), np.array([0]))], tables)
        assert encoder.ideal_bits() == pytest.approx(8 * count + math.log2(65536 / 536), abs=1e-4), value
        assert decode(stream, [np.array([0])], tables)[0].tolist() == [value]


@pytest.mark.parametrize("offset", [-MAX_VALUE, MAX_VALUE])
@pytest.mark.parametrize("value", [-MAX_VALUE, 0, MAX_VALUE])
def test_farthest_escapes(offset: int, value: int) -> None:
    tables = make_tables([[65000, 536]], [offset])
    _, stream = encode([(np.array([value]), np.array([0]))], tables)
    assert decode(stream, [np.array([0])], tables)[0].tolist() == [value]


# ---- arguments


@pytest.mark.parametrize(
    ("values", "rows", "message"),
    [
        ([0, 0], [1], "2 values, but 1 rows"),
        ([[0]], [[1]], "1-D array of integers is needed, not 2-D"),
        ([0.5], [1], "not 1-D float64"),
        ([0], [-1], "rows: -1..-1 reaches past 0..40"),
        ([0], [41], "rows: 41..41 reaches past 0..40"),
        ([0], [True], "not 1-D bool"),
        ([MAX_VALUE + 1], [1], "values: 1048577..1048577 reaches past -1048576..1048576"),
        ([-MAX_VALUE - 1], [1], "reaches past"),
        ([2**40], [1], "reaches past"),
        ([2**63], [1], "reaches past"),
        ([1], [0], "surely zero"),
    ],
)
def test_arguments(values: list[int], rows: list[int], message: str) -> None:
    encoder = Encoder(mixtures())
    with pytest.raises(InvalidArgument, match=message):
        encoder.put(values, rows)
    assert encoder.ideal_bits() == encoder.digest == 0
    if "rows: " in message:
        with pytest.raises(InvalidArgument, match=message):
            Decoder(encoder.finish(), mixtures()).take(rows)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64])
def test_any_integer_type(dtype: type[np.integer[npt.NBitBase]]) -> None:
    values, rows = draw(50, 5, low=1, high=10)
    _, stream = encode([(np.abs(values).astype(dtype), rows.astype(dtype))], mixtures())
    np.testing.assert_array_equal(decode(stream, [rows.astype(dtype)], mixtures())[0], np.abs(values))
