"""Probability tables: what they accept, refuse and derive."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from latentcodec.errors import InvalidWeights
from latentcodec.rans.coder import Decoder, Encoder
from latentcodec.rans.tables import COST_UNIT, MAX_ROWS, MAX_VALUE, Tables

GOOD = Tables(
    cumulative=np.array([[0, 30000, 65000, 65536], [0, 65536, 65536, 65536]], np.int32),
    size=np.array([3, 1], np.int32),
    offset=np.array([1, 0], np.int32),
)


def broken_tables() -> Iterator[tuple[Tables, str]]:
    c, s, o = GOOD.cumulative, GOOD.size, GOOD.offset

    def changed(row: int, place: int, value: int) -> Tables:
        cumulative = c.copy()
        cumulative[row, place] = value
        return Tables(cumulative, s, o)

    yield Tables(c.astype(np.int64), s, o), "cumulative: 2-D int32 is needed, not 2-D int64"
    yield Tables(c[0], s, o), "not 1-D"
    yield Tables(c, s[:, None], o), "size: 1-D int32 is needed, not 2-D"
    yield Tables(c, s, o.astype(np.float32)), "offset: 1-D int32 is needed, not 1-D float32"
    yield Tables(c, s[:1], o), "2 rows, but 1 sizes and 2 offsets"
    yield Tables(c[:0], s[:0], o[:0]), "0 rows"
    yield Tables(np.zeros((2, 0), np.int32), s, o), "2 rows of -1 entries"
    yield Tables(np.zeros((4097, 2), np.int32), s, o), "4097 rows"
    yield Tables(c, s - 1, o), "size: 0..2 is outside 1..3"
    yield Tables(c, s + 1, o), "size: 2..4"
    yield Tables(c, s, o + MAX_VALUE), "values -1048577"
    yield Tables(c, s, o - MAX_VALUE - 1), "values .* reach past"
    yield changed(0, 0, 1), "row 0 does not rise"
    yield changed(0, 1, 65000), "row 0 does not rise"
    yield changed(0, 1, -(2**31)), "row 0 does not rise"
    yield changed(0, 2, 2**31 - 1), "row 0 does not rise"
    yield changed(0, 3, 65535), "row 0 does not rise"
    yield changed(1, 1, 65535), "row 1 does not rise"
    yield changed(1, 2, 65535), "row 1 does not rise"
    yield changed(1, 3, 0), "row 1 does not rise"


@pytest.mark.parametrize(("tables", "message"), list(broken_tables()))
def test_broken_tables(tables: Tables, message: str) -> None:
    with pytest.raises(InvalidWeights, match=message):
        tables.validate()
    with pytest.raises(InvalidWeights):
        Encoder(tables)
    with pytest.raises(InvalidWeights):
        Decoder(b"\x01\0\0\1\0", tables)


def test_tables_of_frequencies() -> None:
    tables = Tables.from_frequencies(np.array([30000, 35000, 536, 65536]), np.array([3, 1]), [1, 0])
    for name in ("cumulative", "size", "offset"):
        built, wanted = getattr(tables, name), getattr(GOOD, name)
        assert built.dtype == wanted.dtype
        np.testing.assert_array_equal(built, wanted)


@pytest.mark.parametrize(
    ("frequencies", "sizes", "message"),
    [
        ([], [], "0 rows of 0..0 entries, 0 together, but 0 frequencies"),
        ([30000, 35536], [3], "3 together, but 2 frequencies"),
        ([65536], [1, 0], "2 rows of 0..1 entries"),
        ([65536, 1], [-1, 3], "rows of -1..3 entries"),
        ([30000, 35535], [2], "row 0 does not rise"),
        ([30000, 35537], [2], "row 0 does not rise"),
        ([30000, 2**40, 5], [3], "row 0 does not rise"),
        ([0, 65536], [2], "row 0 does not rise"),
        ([65536], [1] * (MAX_ROWS + 1), "together, but 1 frequencies"),
        ([65536] * (MAX_ROWS + 1), [1] * (MAX_ROWS + 1), f"{MAX_ROWS + 1} rows of 1 entries"),
    ],
)
def test_frequencies_of_no_tables(frequencies: list[int], sizes: list[int], message: str) -> None:
    with pytest.raises(InvalidWeights, match=message):
        Tables.from_frequencies(np.array(frequencies), np.array(sizes), [0] * len(sizes))


def test_lookup() -> None:
    GOOD.validate()
    lookup = GOOD.lookup
    assert lookup is GOOD.lookup
    assert lookup.first.tolist() == [0, 3, 4]
    assert lookup.start[:4].tolist() == [0, 30000, 65000, 0]
    assert lookup.frequency[:4].tolist() == [30000, 35000, 536, 65536]
    assert lookup.start[4:].tolist() == list(range(0, 65536, 256))
    assert set(lookup.frequency[4:].tolist()) == {256}
    assert lookup.coded.tolist() == [True, False]
    assert lookup.cost[3] == 0
    assert lookup.cost[4] == 8 * COST_UNIT


def test_inverse() -> None:
    lookup = Tables(GOOD.cumulative, GOOD.size, GOOD.offset).lookup
    assert not hasattr(lookup, "inverse")  # 128 KiB a row, made where it is used
    lookup.build_inverse(np.array([0, lookup.byte_row, 0]))
    slots = np.arange(65536)
    found = lookup.inverse.reshape(-1, 65536)
    np.testing.assert_array_equal(found[0], np.searchsorted(GOOD.cumulative[0, 1:], slots, "right"))
    np.testing.assert_array_equal(found[lookup.byte_row], slots // 256)
    inverse, gap, start = lookup.scalar(0)
    assert [inverse[slot] for slot in (0, 29999, 30000, 64999, 65000, 65535)] == [0, 0, 1, 1, 2, 2]
    assert (gap, start) == ([35536, 30536, 65000], [0, 30000, 65000])


def test_widest_row(path: str) -> None:
    tables = Tables(
        np.arange(65537, dtype=np.int32)[None], np.array([65536], np.int32), np.array([32768], np.int32)
    )
    values = np.array([-32768, 0, 32766, 32767, -32769, 5])
    rows = np.zeros(6, np.int64)
    encoder = Encoder(tables)
    encoder.put(values, rows)
    assert encoder.ideal_bits() == 16 * 6 + 8 * 2
    assert Decoder(encoder.finish(), tables).take(rows).tolist() == values.tolist()
