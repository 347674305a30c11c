"""Probability tables of the entropy coder (docs/format.md, "Probability tables").

    Tables (rows of cumulative frequencies, as a model ships them) ─► Lookup (flat arrays, for lanes.py)
                                                                         └─► CompiledTables, for the kernel

All integers: two machines that hold the same tables write and read the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from latentcodec.errors import InvalidWeights
from latentcodec.kernel.library import load
from latentcodec.kernel.rans import CompiledTables, Ints, Longs

__all__ = [
    "COST_UNIT",
    "MAX_ROWS",
    "MAX_VALUE",
    "PRECISION",
    "TOTAL",
    "Ints",
    "Longs",
    "Lookup",
    "Tables",
    "row_costs",
]

MAX_VALUE = 1 << 20  # of a symbol's magnitude; bounds an escape to four bytes
MAX_ROWS = 4096
PRECISION = 16
TOTAL = 1 << PRECISION
ESCAPE_BITS = 8  # that follow an escape, most often
COST_UNIT = 1 << 24  # code lengths are summed as integers: the same number of lanes on all machines


@dataclass(frozen=True, eq=False)
class Tables:
    """Probability tables, one a row, in units of 2^-16.

    cumulative: int32 (rows, width + 1). Entry k of row r has the slots from cumulative[r, k] to
        cumulative[r, k + 1] - 1; a row starts at 0, rises strictly to 65536 over its entries, and is padded
        with 65536. At most 4096 rows.
    size: int32 (rows,). The number of entries n_r of each row, 1..width.
    offset: int32 (rows,). Entry k codes the value k - offset[r], within -2^20..2^20; the last entry is the
        escape to all other values.

    A row of one entry says "surely zero": its value is 0 and nothing is coded.
    """

    cumulative: npt.NDArray[np.int32]
    size: npt.NDArray[np.int32]
    offset: npt.NDArray[np.int32]

    @classmethod
    def from_frequencies(
        cls, frequencies: npt.NDArray[np.integer], sizes: npt.NDArray[np.integer], offsets: npt.ArrayLike
    ) -> Tables:
        """Tables of the slots of each entry, row after row.

        frequencies: (sum of sizes,), each row's sum to 65536. sizes, offsets: (rows,), each row's entries and
        which of them codes 0. Raises InvalidWeights for what the class does not allow.
        """
        sizes = np.asarray(sizes, np.int64)
        if not sizes.size or sizes.min() < 1 or sizes.sum() != frequencies.size:
            raise InvalidWeights(
                f"tables: {sizes.size} rows of {sizes.min(initial=0)}..{sizes.max(initial=0)} entries, "
                f"{sizes.sum()} together, but {frequencies.size} frequencies"
            )
        cumulative = np.full((sizes.size, sizes.max() + 1), TOTAL, np.int32)
        for row, own in enumerate(np.split(frequencies.astype(np.int64), np.cumsum(sizes)[:-1])):
            # A sum past 65536 is refused by validate; it must not wrap until then.
            cumulative[row, : own.size + 1] = np.append(0, np.cumsum(own)).clip(max=TOTAL + 1)
        tables = cls(cumulative, sizes.astype(np.int32), np.asarray(offsets, np.int32))
        tables.validate()
        return tables

    def validate(self) -> None:
        """Raise InvalidWeights unless the arrays are as the class describes."""
        for name, dimensions in (("cumulative", 2), ("size", 1), ("offset", 1)):
            array = getattr(self, name)
            if array.dtype != np.int32 or array.ndim != dimensions:
                raise InvalidWeights(
                    f"tables.{name}: {dimensions}-D int32 is needed, not {array.ndim}-D {array.dtype}"
                )
        rows, width = self.cumulative.shape[0], self.cumulative.shape[1] - 1
        if not (1 <= rows <= MAX_ROWS and 1 <= width <= TOTAL):
            raise InvalidWeights(
                f"tables.cumulative: {rows} rows of {width} entries; 1..{MAX_ROWS} of 1..{TOTAL} are allowed"
            )
        if self.size.shape != (rows,) or self.offset.shape != (rows,):
            raise InvalidWeights(
                f"tables: {rows} rows, but {len(self.size)} sizes and {len(self.offset)} offsets"
            )
        if self.size.min() < 1 or self.size.max() > width:
            raise InvalidWeights(f"tables.size: {self.size.min()}..{self.size.max()} is outside 1..{width}")
        size, offset = self.size.astype(np.int64), self.offset.astype(np.int64)
        lowest, highest = (-offset).min(), (size - 2 - offset).max()
        if lowest < -MAX_VALUE or highest > MAX_VALUE:
            raise InvalidWeights(
                f"tables.offset: the values {lowest}..{highest} reach past {-MAX_VALUE}..{MAX_VALUE}"
            )
        # Compared, not subtracted: hostile values must not wrap.
        entry = np.arange(width + 1)
        rises = (self.cumulative[:, 1:] > self.cumulative[:, :-1]) | (entry[1:] > size[:, None])
        padded = (self.cumulative == TOTAL) | (entry < size[:, None])
        right = (self.cumulative[:, 0] == 0) & rises.all(1) & padded.all(1)
        if not right.all():
            raise InvalidWeights(
                f"tables.cumulative: row {right.argmin()} does not rise strictly from 0 to {TOTAL}"
            )

    @cached_property
    def lookup(self) -> Lookup:
        """Flat arrays for the coder, made at first use. Raises InvalidWeights."""
        self.validate()
        return Lookup(self)


class Lookup:
    """The tables as flat arrays over all entries, int64 unless said.

    One row is added, `byte_row`: 256 equal entries, no escape; the bytes of escapes are coded by it.

    first: (rows + 1,), the place of each row's first entry in the flat arrays.
    start, frequency, cost: (entries,), an entry's first slot, number of slots, and ideal bits * COST_UNIT.
    coded, escape, offset: (rows,), bool: has the row more than one entry; its last entry; its offset.
    inverse: uint16 (65536 * (rows + 1),), slot to entry of the row; there once `build_inverse` saw the row.
    """

    inverse: npt.NDArray[np.uint16]

    def __init__(self, tables: Tables) -> None:
        size = tables.size.astype(np.int64)
        used = np.arange(tables.cumulative.shape[1] - 1) < size[:, None]
        starts, frequencies = tables.cumulative[:, :-1][used], np.diff(tables.cumulative)[used]
        byte = TOTAL // 256
        self.byte_row = len(size)
        self.first: Longs = np.append(0, np.cumsum(size))
        self.start: Longs = np.append(starts, np.arange(256) * byte).astype(np.int64)
        self.frequency: Longs = np.append(frequencies, np.full(256, byte)).astype(np.int64)
        self.cost = np.rint((PRECISION - np.log2(self.frequency)) * COST_UNIT).astype(np.int64)
        self.coded = size > 1
        self.escape = size - 1
        self.offset = tables.offset.astype(np.int64)
        self._built = np.zeros(len(self.first), bool)
        self._scalar: dict[int, tuple[memoryview, list[int], list[int]]] = {}
        self._compiled: CompiledTables | None = None

    def compiled(self) -> CompiledTables | None:
        """The tables for the kernel, made at first use; None where there is no kernel.

        Safe from several threads: all make the same. They take 1 KiB a row, and need no `inverse`.
        """
        library, compiled = load(), self._compiled
        if library is None:
            return None
        if compiled is None or compiled.library is not library:
            compiled = self._compiled = CompiledTables(
                library,
                first=self.first,
                escape=np.append(self.escape, 255),
                offset=np.append(self.offset, 0),
                start=self.start,
                frequency=self.frequency,
                cost=self.cost,
            )
        return compiled

    def build_inverse(self, rows: Longs) -> None:
        """Fill `inverse` for these rows. Safe from several threads: all write the same, into one array."""
        if "inverse" not in self.__dict__:
            # 128 KiB a row; the system commits a row's memory only once the row is used. Of several threads'
            # arrays the first is kept.
            self.__dict__.setdefault("inverse", np.empty(len(self.first) * TOTAL, np.uint16))
        used = np.zeros_like(self._built)
        used[rows] = True
        for row in np.flatnonzero(used & ~self._built).tolist():
            frequency = self.frequency[self._entries_of(row)]
            self.inverse[row * TOTAL : (row + 1) * TOTAL] = np.repeat(np.arange(len(frequency)), frequency)
            self._built[row] = True

    def scalar(self, row: int) -> tuple[memoryview, list[int], list[int]]:
        """(inverse, 65536 - frequency, start) of a built row, in types that plain Python reads fast."""
        if row not in self._scalar:
            entries = self._entries_of(row)
            inverse = self.inverse[row * TOTAL : (row + 1) * TOTAL].data
            gap, start = TOTAL - self.frequency[entries], self.start[entries]
            self._scalar[row] = inverse, gap.tolist(), start.tolist()
        return self._scalar[row]

    def _entries_of(self, row: int) -> slice:
        return slice(self.first[row], self.first[row + 1] if row < self.byte_row else None)


def row_costs(tables: Tables) -> npt.NDArray[np.float64]:
    """Bits (rows, 2 reach + 1) of the values from -reach to reach; about right for escapes.

    reach is 1 more than the largest value that any row codes without. A row of one entry codes nothing.
    """
    reach = int(max(tables.offset.max(), (tables.size - 2 - tables.offset).max())) + 1
    bits = np.zeros((len(tables.size), 2 * reach + 1))
    for row, (size, offset) in enumerate(zip(tables.size.tolist(), tables.offset.tolist(), strict=True)):
        if size == 1:
            continue
        own = PRECISION - np.log2(np.diff(tables.cumulative[row])[:size])
        bits[row] = own[-1] + ESCAPE_BITS
        bits[row, reach - offset : reach - offset + size - 1] = own[:-1]
    return bits
