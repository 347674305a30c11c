"""Symbols in groups of eight by the kernel: groups.c as functions of numpy arrays.

    rows ─► split ─► groups, singles     values ─► patterns ─► ranks, what is not 0     ranks ─► places

rans/groups.py has the same class in numpy, NumpyGroups. All arrays are int32 unless said, in C's order.
"""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_void_p

import numpy as np
import numpy.typing as npt

from latentcodec.kernel.library import pointer

__all__ = ["GROUP", "CompiledGroups"]

GROUP = 8  #: symbols a pattern
Ints = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]


class CompiledGroups:
    """The kernel's functions, with the patterns that they number.

    patterns: (256,), of all numbers; ranks: (256,), the number of each pattern.
    """

    def __init__(self, library: ctypes.CDLL, patterns: Bytes, ranks: npt.NDArray[np.integer]) -> None:
        self._numbers, self._ranks = patterns.astype(np.uint8), ranks.astype(np.int32)
        self._split, self._patterns = library.lc_groups_split, library.lc_groups_patterns
        self._places, self._gather = library.lc_groups_places, library.lc_gather
        self._scatter = library.lc_scatter
        array, number = c_void_p, c_int64
        self._split.argtypes = (array, number, array, number, array, array, array)
        self._patterns.argtypes = (array, number, array, array, number, array, array, array, array)
        self._places.argtypes = (array, array, array, number, array, array, array)
        self._gather.argtypes = (array, number, array, number, array)
        self._scatter.argtypes = (array, array, number, array, number)
        for function in (self._split, self._patterns, self._places):
            function.restype = number
        for function in (self._gather, self._scatter):
            function.restype = c_int32

    def split(self, rows: Ints, grouped: npt.NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
        """(groups (n, 8), their rows (n,), singles (m,)): the places of a block's symbols in coding order.

        grouped: (rows,), of the tables. Raises ValueError for a row that they have not.
        """
        count, tables = len(rows), len(grouped)
        order, own = np.empty(count, np.int32), np.empty(count // GROUP, np.int32)
        scratch = np.empty(3 * tables, np.uint32)
        made = (pointer(order), pointer(own), pointer(scratch))
        groups = self._split(pointer(rows), count, pointer(grouped.view(np.uint8)), tables, *made)
        _check(groups)
        return order[: GROUP * groups].reshape(-1, GROUP), own[:groups], order[GROUP * groups :]

    def patterns(self, values: Ints, groups: Ints, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """(ranks (n,), values (k,), rows (k,)): the numbers of the patterns; what is not 0, and its rows.

        rows: (n,), which code the values of each group. Raises ValueError for a place outside the values.
        """
        ranks, count = np.empty(len(groups), np.int32), min(len(groups), len(rows))
        found, found_rows = np.empty(groups.size, np.int32), np.empty(groups.size, np.int32)
        arrays = (pointer(values), len(values), pointer(groups), pointer(rows), count, pointer(self._ranks))
        nonzero = self._patterns(*arrays, pointer(ranks), pointer(found), pointer(found_rows))
        _check(nonzero)
        return ranks, found[:nonzero], found_rows[:nonzero]

    def places(self, ranks: Ints, groups: Ints, rows: Ints) -> tuple[Ints, Ints]:
        """(places (k,), rows (k,)): where these patterns (n,) say that values are not 0, and their rows.

        rows: (n,), which code the values of each group. Raises ValueError for a rank of no pattern.
        """
        places, found_rows = np.empty(groups.size, np.int32), np.empty(groups.size, np.int32)
        count = min(len(groups), len(ranks), len(rows))
        arrays = (pointer(ranks), pointer(groups), pointer(rows), count, pointer(self._numbers))
        nonzero = self._places(*arrays, pointer(places), pointer(found_rows))
        _check(nonzero)
        return places[:nonzero], found_rows[:nonzero]

    def gather(self, array: Ints, places: Ints) -> Ints:
        """array[places]. Raises ValueError for a place outside."""
        gathered = np.empty(len(places), np.int32)
        arrays = (pointer(array), len(array), pointer(places), len(places))
        _check(self._gather(*arrays, pointer(gathered)))
        return gathered

    def scatter(self, values: Ints, places: Ints, array: Ints) -> None:
        """array[places] = values. Raises ValueError for a place outside."""
        count = min(len(values), len(places))
        _check(self._scatter(pointer(values), pointer(places), count, pointer(array), len(array)))


def _check(result: int) -> None:
    if result < 0:
        raise ValueError("a place, a row or a rank lies outside its array")
