"""Symbols that are mostly zero, eight at a time (docs/model.md, "Groups").

    values, rows ─┬─ rows where 0 is likely, sorted by row ─► groups of 8 ─┬─► which are not 0: one pattern
                  │                                                        └─► the values that are not 0
                  └─ other rows, and what fills no group ─────────────────────► the values
                                                          each of the three is one segment of the rANS stream

Most symbols of a picture are almost surely zero: one by one they would cost more time than all the rest. A
pattern's probability follows from its row's own probability of zero, so the code length stays what it was.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from latentcodec.errors import InvalidArgument, MalformedFile
from latentcodec.rans.coder import Decoder, Encoder
from latentcodec.rans.tables import TOTAL, Longs, Tables

__all__ = ["GROUP", "GroupedTables", "put", "take"]

GROUP = 8  # symbols a pattern
LEAST_ZERO = TOTAL // 2  # a row is grouped if zero has at least this frequency
# Patterns by rising number of values that are not 0, then as numbers; bit i stands for symbol i of the group.
PATTERNS = np.array(sorted(range(1 << GROUP), key=int.bit_count), np.uint8)
_RANK = np.argsort(PATTERNS)

Integers = npt.NDArray[np.integer]


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
        self.pattern_row: Longs = len(frequencies) + place
        self.value_row: Longs = self.pattern_row + len(chosen)
        patterns = [_pattern_frequencies(zero[row]) for row in chosen]
        values = [_without_zero(frequencies[row], int(tables.offset[row])) for row in chosen]
        rows = frequencies + patterns + values
        self.tables = Tables.from_frequencies(
            np.concatenate(rows),
            np.array([len(row) for row in rows]),
            [*tables.offset.tolist(), *[0] * len(chosen), *tables.offset[chosen].tolist()],
        )

    def split(self, rows: Integers) -> tuple[Longs, Longs]:
        """(groups (n, 8), singles (m,)): the places of a block's symbols in coding order."""
        likely = self.grouped[rows]
        candidates = np.flatnonzero(likely)
        own = rows[candidates].astype(np.uint16)  # sorted by radix
        candidates = candidates[np.argsort(own, kind="stable")]
        count = np.bincount(own, minlength=len(self.grouped))
        first = np.cumsum(count) - count
        within = np.arange(len(candidates)) - np.repeat(first, count)
        groups = candidates[within < np.repeat(count // GROUP * GROUP, count)].reshape(-1, GROUP)
        likely[:] = True
        likely[groups] = False
        return groups, np.flatnonzero(likely)


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


def put(encoder: Encoder, grouped: GroupedTables, values: Integers, rows: Integers) -> None:
    """Append one block: values (n,), each coded by the model's own table row of the same place (n,).

    Raises InvalidArgument as Encoder.put does.
    """
    if values.shape != rows.shape:
        raise InvalidArgument(f"{values.size} values, but {rows.size} rows: one row a value is needed")
    groups, singles = grouped.split(rows)
    nonzero = values[groups] != 0
    row = rows[groups[:, 0]]
    pattern = np.packbits(nonzero, axis=1, bitorder="little")[:, 0]
    encoder.put(_RANK[pattern], grouped.pattern_row[row])
    places = groups[nonzero]
    encoder.put(values[places], grouped.value_row[rows[places]])
    encoder.put(values[singles], rows[singles])


def take(decoder: Decoder, grouped: GroupedTables, rows: Integers) -> npt.NDArray[np.int32]:
    """The next block's values (n,) of symbols with these table rows (n,): the inverse of `put`.

    Raises MalformedFile where a group is not in its one form, and what Decoder.take raises.
    """
    groups, singles = grouped.split(rows)
    values = np.zeros(len(rows), np.int32)
    ranks = decoder.take(grouped.pattern_row[rows[groups[:, 0]]])
    if ranks.size and not (ranks.min() >= 0 and ranks.max() < len(PATTERNS)):
        raise MalformedFile(f"rANS group: pattern {ranks.max()} is outside 0..{len(PATTERNS) - 1}")
    bits = np.unpackbits(PATTERNS[ranks][:, None], axis=1, bitorder="little")
    places = groups[bits.astype(bool)]
    values[places] = decoder.take(grouped.value_row[rows[places]])
    if not decoder.exhausted and not values[places].all():
        raise MalformedFile("rANS group: a value that its pattern says is not 0 is 0")
    values[singles] = decoder.take(rows[singles])
    return values
