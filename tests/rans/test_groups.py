from __future__ import annotations

import numpy as np
import pytest

from latentcodec.errors import InvalidArgument, MalformedFile, TruncatedFile
from latentcodec.rans.coder import Decoder, Encoder
from latentcodec.rans.groups import GROUP, PATTERNS, GroupedTables, put, take
from latentcodec.rans.tables import Tables
from tests.model_reference import group_tables

TOTAL = 1 << 16


def make_tables(rows: list[list[int]]) -> Tables:
    """Rows of slots: of the values -n..n and the escape, an odd number and one."""
    size = np.array([len(own) for own in rows])
    return Tables.from_frequencies(np.concatenate(rows), size, (size - 1) // 2)


ROWS = [
    [TOTAL],  # surely zero
    [60, TOTAL - 128, 60, 8],
    [3000, TOTAL - 6500, 3000, 500],
    [6000, 10000, 32768, 10000, 6000, 768],
    [12000, 12000, 15000, 13000, 13000, 536],  # 0 is not likely: not grouped
]


@pytest.fixture(scope="module")
def tables() -> Tables:
    return make_tables(ROWS)


@pytest.fixture(scope="module")
def grouped(tables: Tables) -> GroupedTables:
    return GroupedTables(tables)


def draw(count: int, seed: int, tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Values as their rows say, some far outside of them."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, len(tables.size), count, dtype=np.int32)
    slot = random.integers(0, TOTAL, count)
    entry = np.array(
        [np.searchsorted(tables.cumulative[r], s, "right") - 1 for r, s in zip(rows, slot, strict=True)]
    )
    values = (entry - tables.offset[rows]).astype(np.int32)
    far = (entry == tables.size[rows] - 1) & (rows > 0)
    values[far] = random.integers(3, 500, far.sum()) * random.choice([-1, 1], far.sum())
    return values, rows


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 64, 1000, 30000])
def test_round_trip(tables: Tables, grouped: GroupedTables, count: int) -> None:
    encoder = Encoder(grouped.tables)
    blocks = [draw(count, seed, tables) for seed in range(3)]
    for values, rows in blocks:
        put(encoder, grouped, values, rows)
    decoder = Decoder(encoder.finish(), grouped.tables)
    for values, rows in blocks:
        found = take(decoder, grouped, rows)
        assert found.dtype == np.int32
        assert np.array_equal(found, values)
    decoder.finish()
    assert decoder.digest == encoder.digest


def test_it_costs_what_single_symbols_cost_and_fewer_of_them(tables: Tables, grouped: GroupedTables) -> None:
    values, rows = draw(200_000, 1, tables)
    plain, eights = Encoder(tables), Encoder(grouped.tables)
    plain.put(values, rows)
    put(eights, grouped, values, rows)
    assert eights.ideal_bits() <= 1.001 * plain.ideal_bits()
    likely = (rows > 0) & (rows < 4)
    others, nonzero, patterns = (rows == 4).sum(), (values[likely] != 0).sum(), likely.sum() / GROUP
    assert sum(map(len, eights._segments)) < 1.05 * (others + nonzero + patterns)  # and bytes of escapes


def test_every_pattern_and_the_most_unlikely_one(grouped: GroupedTables) -> None:
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    for row in (1, 2, 3):
        values = bits.reshape(-1).astype(np.int32)
        rows = np.full(values.size, row, np.int32)
        encoder = Encoder(grouped.tables)
        put(encoder, grouped, values, rows)
        decoder = Decoder(encoder.finish(), grouped.tables)
        assert np.array_equal(take(decoder, grouped, rows), values)
        decoder.finish()


def test_tables_are_those_of_the_specification(tables: Tables, grouped: GroupedTables) -> None:
    patterns, values, extended = group_tables(tables)
    assert list(patterns) == list(values) == np.flatnonzero(grouped.grouped).tolist() == [1, 2, 3]
    assert [grouped.pattern_row[r] for r in patterns] == list(patterns.values())
    assert [grouped.value_row[r] for r in values] == list(values.values())
    assert np.array_equal(extended.size, grouped.tables.size)
    assert np.array_equal(extended.offset, grouped.tables.offset)
    assert np.array_equal(extended.cumulative, grouped.tables.cumulative)
    assert sorted(PATTERNS.tolist()) == list(range(256))
    assert np.all(np.diff([int(pattern).bit_count() for pattern in PATTERNS]) >= 0)


def test_groups_are_of_one_row_and_cover_all_but_a_rest(tables: Tables, grouped: GroupedTables) -> None:
    _, rows = draw(5000, 3, tables)
    groups, singles = grouped.split(rows)
    assert np.array_equal(np.sort(np.append(groups.reshape(-1), singles)), np.arange(len(rows)))
    assert (rows[groups] == rows[groups[:, :1]]).all()
    assert (np.diff(singles) > 0).all()
    for row in range(5):
        left = (rows[singles] == row).sum()
        assert left == ((rows == row).sum() % GROUP if row in (1, 2, 3) else (rows == row).sum())


def test_a_cut_stream_gives_zeros_or_an_error(tables: Tables, grouped: GroupedTables) -> None:
    values, rows = draw(4000, 5, tables)
    encoder = Encoder(grouped.tables)
    put(encoder, grouped, values, rows)
    stream = encoder.finish()
    for cut in range(0, len(stream), 97):
        decoder = Decoder(stream[:cut], grouped.tables, partial=True)
        found = take(decoder, grouped, rows)
        assert ((found == 0) | (found == values)).all()
        with pytest.raises((TruncatedFile, MalformedFile)):
            take(Decoder(stream[:cut], grouped.tables), grouped, rows)


def test_other_forms_are_refused(grouped: GroupedTables) -> None:
    rows = np.full(8, 2, np.int32)
    encoder = Encoder(grouped.tables)
    encoder.put([256], [int(grouped.pattern_row[2])])
    with pytest.raises(MalformedFile, match=r"pattern 256 is outside 0\.\.255"):
        take(Decoder(encoder.finish(), grouped.tables), grouped, rows)
    encoder = Encoder(grouped.tables)
    encoder.put([1], [int(grouped.pattern_row[2])])
    encoder.put([0], [int(grouped.value_row[2])])
    with pytest.raises(MalformedFile, match="says is not 0 is 0"):
        take(Decoder(encoder.finish(), grouped.tables), grouped, rows)
    with pytest.raises(InvalidArgument, match="8 values, but 7 rows"):
        put(Encoder(grouped.tables), grouped, np.zeros(8, np.int32), rows[:7])
