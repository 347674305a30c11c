"""Symbols that are mostly zero, eight at a time (docs/model.md, "Groups").

    values, rows ─┬─ rows where 0 is likely, sorted by row ─► groups of 8 ─┬─► which are not 0: one pattern
                  │                                                        └─► the values that are not 0
                  └─ other rows, and what fills no group ─────────────────────► the values
                                                          each of the three is one segment of the rANS stream

Most symbols of a picture are almost surely zero: one by one they would cost more time than all the rest. A
pattern's probability follows from its row's own probability of zero, so the code length stays what it was.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from latentcodec.errors import InvalidArgument, MalformedFile
from latentcodec.kernel.groups import GROUP, CompiledGroups
from latentcodec.kernel.library import int32s, load
from latentcodec.rans.coder import Decoder, Encoder, check_integers
from latentcodec.rans.tables import MAX_VALUE, TOTAL, Ints, Longs, Tables

__all__ = ["GROUP", "GroupedTables", "NumpyGroups", "put", "take"]

LEAST_ZERO = TOTAL // 2  # a row is grouped if zero has at least this frequency
# Patterns by rising number of values that are not 0, then as numbers; bit i stands for symbol i of the group.
PATTERNS = np.array(sorted(range(1 << GROUP), key=int.bit_count), np.uint8)
_RANK: Longs = np.argsort(PATTERNS)

Integers = npt.NDArray[np.integer]
Array = npt.NDArray[Any]


class GroupedTables:
    """A model's tables with those of the groups appended: patterns first, then the values that are not zero.

    tables: what the coder gets. grouped: (rows,) bool, of the model's own rows. pattern_row, value_row:
    (rows,), the appended rows, valid where `grouped`. Raises InvalidWeights for tables that are not valid.
    """

    def __init__(self, tables: Tables) -> None:
        tables.validate()
        frequencies = [
            np.diff(cumulative[: size + 1].astype(np.int64))
            for cumulative, size in zip(tables.cumulative, tables.size.tolist(), strict=True)
        ]
        zero = [
            int(row[offset]) if 0 <= offset < len(row) - 1 else 0
            for row, offset in zip(frequencies, tables.offset.tolist(), strict=True)
        ]
        # A row of one entry is "surely zero", and has no symbols to group.
        self.grouped = np.array(
            [f >= LEAST_ZERO and len(row) > 1 for f, row in zip(zero, frequencies, strict=True)]
        )
        chosen = np.flatnonzero(self.grouped).tolist()
        place = np.cumsum(self.grouped) - 1
        self.pattern_row: Ints = (len(frequencies) + place).astype(np.int32)
        self.value_row: Ints = self.pattern_row + np.int32(len(chosen))
        patterns = [_pattern_frequencies(zero[row]) for row in chosen]
        values = [_without_zero(frequencies[row], int(tables.offset[row])) for row in chosen]
        rows = frequencies + patterns + values
        self.tables = Tables.from_frequencies(
            np.concatenate(rows),
            np.array([len(row) for row in rows]),
            [*tables.offset.tolist(), *[0] * len(chosen), *tables.offset[chosen].tolist()],
        )


class NumpyGroups:
    """What kernel/groups.py does, and what that is judged by: the same numbers, in int64."""

    def split(self, rows: Integers, grouped: npt.NDArray[np.bool_]) -> tuple[Longs, Longs, Longs]:
        """(groups (n, 8), their rows (n,), singles (m,)): the places of a block's symbols in coding order.

        grouped: (rows,), of the tables.
        """
        likely = grouped[rows]
        candidates = np.flatnonzero(likely)
        own = rows[candidates].astype(np.uint16)  # sorted by radix
        candidates = candidates[np.argsort(own, kind="stable")]
        count = np.bincount(own, minlength=len(grouped))
        first = np.cumsum(count) - count
        within = np.arange(len(candidates)) - np.repeat(first, count)
        groups = candidates[within < np.repeat(count // GROUP * GROUP, count)].reshape(-1, GROUP)
        likely[:] = True
        likely[groups] = False
        return groups, rows[groups[:, 0]].astype(np.int64), np.flatnonzero(likely)

    def patterns(self, values: Integers, groups: Longs, rows: Integers) -> tuple[Longs, Integers, Integers]:
        """(ranks (n,), values (k,), rows (k,)): the numbers of the patterns; what is not 0, and its rows.

        rows: (n,), which code the values of each group.
        """
        own = values[groups]
        nonzero = own != 0
        pattern = np.packbits(nonzero, axis=1, bitorder="little")[:, 0]
        return _RANK[pattern], own[nonzero], rows[np.nonzero(nonzero)[0]]

    def places(self, ranks: Integers, groups: Longs, rows: Integers) -> tuple[Longs, Integers]:
        """(places (k,), rows (k,)): where these patterns (n,) say that values are not 0, and their rows.

        rows: (n,), which code the values of each group.
        """
        bits = np.unpackbits(PATTERNS[ranks][:, None], axis=1, bitorder="little").astype(bool)
        return groups[bits], rows[np.nonzero(bits)[0]]

    def gather(self, array: Integers, places: Longs) -> Integers:
        """array[places]."""
        return array[places]

    def scatter(self, values: Integers, places: Longs, array: Integers) -> None:
        """array[places] = values."""
        array[places] = values


def _pattern_frequencies(zero: int) -> Longs:
    """Entry k codes pattern PATTERNS[k]; those that are less likely than 2^-16 are left to the escape.

    Exact: these are Python's integers.
    """
    by_count = [
        math.comb(GROUP, ones) * [zero ** (GROUP - ones) * (TOTAL - zero) ** ones * TOTAL // TOTAL**GROUP]
        for ones in range(GROUP + 1)
    ]
    return _complete(np.array([f for some in by_count for f in some if f] + [1], np.int64))


def _without_zero(frequency: Longs, zero: int) -> Longs:
    """The row's frequencies given that the value is not 0, whose own entry is left with the least, 1."""
    scaled = np.maximum(1, frequency * TOTAL // (TOTAL - frequency[zero]))
    scaled[zero] = 1
    return _complete(scaled)


def _complete(frequency: Longs) -> Longs:
    """Give the first of the most frequent entries what is missing to 65536, or take it from there."""
    frequency[frequency.argmax()] += TOTAL - frequency.sum()
    return frequency


class Groups(Protocol):
    """NumpyGroups, or CompiledGroups with the arrays that it gives."""

    def split(self, rows: Array, grouped: npt.NDArray[np.bool_]) -> tuple[Array, Array, Array]:
        """As NumpyGroups."""

    def patterns(self, values: Array, groups: Array, rows: Array) -> tuple[Array, Array, Array]:
        """As NumpyGroups."""

    def places(self, ranks: Array, groups: Array, rows: Array) -> tuple[Array, Array]:
        """As NumpyGroups."""

    def gather(self, array: Array, places: Array) -> Array:
        """As NumpyGroups."""

    def scatter(self, values: Array, places: Array, array: Array) -> None:
        """As NumpyGroups."""


@cache
def _compiled(library: ctypes.CDLL) -> CompiledGroups:
    return CompiledGroups(library, PATTERNS, _RANK)


@dataclass(frozen=True)
class Block:
    """A block's rows (n,), and how they are split: groups (g, 8), their rows (g,), singles (m,); by what."""

    by: Groups
    rows: Array
    groups: Array
    group_rows: Array
    singles: Array


def split(grouped: GroupedTables, rows: Integers) -> Block:
    """Split a block of symbols with these rows (n,) of the model's own.

    Raises InvalidArgument for rows that are not.
    """
    library = load()
    if library is not None:
        by = _compiled(library)
        try:
            own = int32s(rows)
            return Block(by, own, *by.split(own, grouped.grouped))
        except ValueError:
            pass  # said below
    checked = check_integers(rows, "rows", 0, len(grouped.grouped) - 1)
    return Block(NumpyGroups(), checked, *NumpyGroups().split(checked, grouped.grouped))


def put(encoder: Encoder, grouped: GroupedTables, values: Integers, rows: Integers) -> None:
    """Append one block: values (n,), each coded by the model's own table row of the same place (n,).

    Raises InvalidArgument as Encoder.put does.
    """
    if values.shape != rows.shape:
        raise InvalidArgument(f"{values.size} values, but {rows.size} rows: one row a value is needed")
    try:
        own: Integers = int32s(values)
    except ValueError:
        own = check_integers(values, "values", -MAX_VALUE, MAX_VALUE)
    block = split(grouped, rows)
    by = block.by
    ranks, found, found_rows = by.patterns(own, block.groups, grouped.value_row[block.group_rows])
    encoder.put(ranks, grouped.pattern_row[block.group_rows])
    encoder.put(found, found_rows)
    encoder.put(by.gather(own, block.singles), by.gather(block.rows, block.singles))


def take(decoder: Decoder, grouped: GroupedTables, rows: Integers) -> Ints:
    """The next block's values (n,) of symbols with these table rows (n,): the inverse of `put`.

    Raises MalformedFile where a group is not in its one form, and what Decoder.take raises.
    """
    block = split(grouped, rows)
    by, values = block.by, np.zeros(len(rows), np.int32)
    ranks = decoder.take(grouped.pattern_row[block.group_rows])
    if ranks.size and not (ranks.min() >= 0 and ranks.max() < len(PATTERNS)):
        raise MalformedFile(f"rANS group: pattern {ranks.max()} is outside 0..{len(PATTERNS) - 1}")
    places, found_rows = by.places(ranks, block.groups, grouped.value_row[block.group_rows])
    found = decoder.take(found_rows)
    if not decoder.exhausted and not found.all():
        raise MalformedFile("rANS group: a value that its pattern says is not 0 is 0")
    by.scatter(found, places, values)
    by.scatter(decoder.take(by.gather(block.rows, block.singles)), block.singles, values)
    return values
