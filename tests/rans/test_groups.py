from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentcodec.errors import FormatError, InvalidArgument, MalformedFile, TruncatedFile
from latentcodec.kernel.groups import CompiledGroups
from latentcodec.rans.coder import Decoder, Encoder
from latentcodec.rans.groups import GROUP, PATTERNS, GroupedTables, put, split, take
from latentcodec.rans.tables import Tables
from tests.fuzz.mutate import mutated
from tests.model_reference import group_tables
from tests.rans_cases import by_every_path

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
def test_round_trip(tables: Tables, grouped: GroupedTables, count: int, path: str) -> None:
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


def test_every_pattern_and_the_most_unlikely_one(grouped: GroupedTables, path: str) -> None:
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


def test_groups_are_of_one_row_and_cover_all_but_a_rest(
    tables: Tables, grouped: GroupedTables, path: str
) -> None:
    _, rows = draw(5000, 3, tables)
    block = split(grouped, rows)
    groups, singles = block.groups, block.singles
    assert isinstance(block.by, CompiledGroups) == (path == "compiled")
    assert np.array_equal(np.sort(np.append(groups.reshape(-1), singles)), np.arange(len(rows)))
    assert (rows[groups] == block.group_rows[:, None]).all()
    assert (np.diff(singles) > 0).all()
    for row in range(5):
        left = (rows[singles] == row).sum()
        assert left == ((rows == row).sum() % GROUP if row in (1, 2, 3) else (rows == row).sum())


@given(st.lists(st.integers(0, 4), max_size=200), st.randoms(use_true_random=False))
def test_both_kinds_of_groups_are_equal(rows: list[int], random: Random) -> None:
    """Splits, patterns and places by numpy and by the kernel."""
    tables = GroupedTables(make_tables(ROWS))
    own = np.array(rows, np.int32)
    values = np.array([random.choice((0, 0, 0, 1, -700)) for _ in rows], np.int32)

    def arrays() -> list[object]:
        block = split(tables, own)
        ranks, found, found_rows = block.by.patterns(values, block.groups, block.group_rows + 5)
        places, place_rows = block.by.places(ranks, block.groups, block.group_rows + 5)
        assert np.array_equal(values[places], found)
        made = (block.groups, block.group_rows, block.singles, ranks, found, found_rows, places, place_rows)
        return [array.tolist() for array in made]

    by_every_path(arrays)


def test_all_paths_tell_the_same_of_changed_streams(tables: Tables, grouped: GroupedTables) -> None:
    values, rows = draw(900, 5, tables)
    encoder = Encoder(grouped.tables)
    put(encoder, grouped, values, rows)
    stream = encoder.finish()

    def outcome(data: bytes, partial: bool) -> tuple[object, ...]:
        try:
            decoder = Decoder(data, grouped.tables, partial=partial)
            found = take(decoder, grouped, rows)
            decoder.finish()
        except FormatError as error:
            return type(error), str(error)
        return found.tolist(), decoder.exhausted, decoder.digest

    random, seen = Random(4), set()
    for number in range(300):
        data = mutated(random, stream) if number else stream
        for partial in (False, True):
            told = by_every_path(lambda data=data, partial=partial: outcome(data, partial))
            seen.add(told[0] if isinstance(told[0], type) else "read")
    assert seen == {"read", MalformedFile, TruncatedFile}


def test_a_cut_stream_gives_zeros_or_an_error(tables: Tables, grouped: GroupedTables, path: str) -> None:
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


def test_other_forms_are_refused(grouped: GroupedTables, path: str) -> None:
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


@pytest.mark.parametrize("row", [-1, 5, 1 << 40])
def test_rows_of_other_tables_are_refused(grouped: GroupedTables, row: int, path: str) -> None:
    rows = np.full(9, row)
    with pytest.raises(InvalidArgument, match=rf"rows: {row}\.\.{row} reaches past 0\.\.4"):
        put(Encoder(grouped.tables), grouped, np.zeros(9, np.int32), rows)
    with pytest.raises(InvalidArgument, match=r"reaches past 0\.\.4"):
        take(Decoder(Encoder(grouped.tables).finish(), grouped.tables), grouped, rows)


@pytest.mark.parametrize("value", [(1 << 20) + 1, 1 << 40])
def test_values_past_the_limit_are_refused(grouped: GroupedTables, value: int, path: str) -> None:
    values, rows = np.full(8, value), np.full(8, 2)
    with pytest.raises(InvalidArgument, match=f"values: {value}"):
        put(Encoder(grouped.tables), grouped, values, rows)
