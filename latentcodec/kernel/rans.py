"""Entropy coding by the kernel: rans.c as functions of numpy arrays.

    tables of rans/tables.py, flat ─► CompiledTables ─┬─ put ─► entries ─► encode ─► states, words
                                                      └─ CompiledReader: states, words ─► take ─► values

All that C reads or writes is made here, or its type and order in memory are. rans/lanes.py has the same two
classes in numpy: LaneWriter and LaneReader.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int32, c_int64, c_void_p
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from latentcodec.errors import InvalidWeights
from latentcodec.kernel.library import pointer

__all__ = ["CompiledReader", "CompiledTables", "Entries", "Ints", "Longs", "States", "Status", "Words"]

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
States = npt.NDArray[np.uint32]
Words = npt.NDArray[np.uint16]
Entries = tuple[Ints, Longs, int]  #: entries, distances of those that escape, code length

_BUCKETS, _BAD_ROW = 512, -2  # as in rans.c


class Status(IntEnum):
    """What becomes of a segment, as rans.c numbers it."""

    DONE = 0
    ESCAPE_NOT_SHORTEST = -4
    ESCAPE_OUTSIDE = -5


class _Tables(ctypes.Structure):
    _fields_ = (
        ("rows", c_int64),
        ("entries", c_int64),
        ("row", c_void_p),
        ("span", c_void_p),
        ("cost", c_void_p),
        ("index", c_void_p),
    )


class _Stream(ctypes.Structure):
    _fields_ = (
        ("lanes", c_int64),
        ("words", c_int64),
        ("position", c_int64),
        ("exhausted", c_int64),
        ("state", c_void_p),
        ("word", c_void_p),
    )


class CompiledTables:
    """Probability tables as C reads them; never changed, so that any number of threads may use them."""

    def __init__(
        self,
        library: ctypes.CDLL,
        *,
        first: Longs,
        escape: Longs,
        offset: Longs,
        start: Longs,
        frequency: Longs,
        cost: Longs,
    ) -> None:
        """first, escape, offset: (rows,), the last row that of bytes; start, frequency, cost: (entries,).

        As Lookup has them. Raises InvalidWeights for tables that Tables.validate would refuse.
        """
        self.library = library
        take, put, encode = library.lc_rans_take, library.lc_rans_put, library.lc_rans_encode
        take.argtypes = (c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_void_p)
        take.restype = c_int32
        put.argtypes = (c_void_p, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p)
        put.restype = c_int64
        encode.argtypes = (c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p, c_int64)
        encode.restype = c_int64
        self._take, self._put, self._encode = take, put, encode
        self._held = (
            np.stack([first, escape, offset], axis=1).astype(np.int32),
            (start | frequency - 1 << 16).astype(np.uint32),
            cost.astype(np.int64),
            np.empty((len(first), _BUCKETS), np.uint16),
        )
        addresses = [array.ctypes.data for array in self._held]
        self._tables = _Tables(len(first), len(start), *addresses)
        if library.lc_rans_index(byref(self._tables)):
            raise InvalidWeights("tables: a row does not rise strictly from 0 to 65536")

    def put(self, values: Ints, rows: Ints) -> Entries:
        """The entries (n,) of these values (n,) in these rows (n,), and what escapes.

        Raises ValueError: their numbers differ, a value or row is out of range, or a row codes nothing.
        """
        count = len(rows)
        if len(values) != count:
            raise ValueError(f"{len(values)} values, but {count} rows")
        entries, distances, cost = np.empty(count, np.int32), np.empty(count, np.int32), c_int64()
        arrays = (pointer(values), pointer(rows), count, pointer(entries), pointer(distances))
        escaped = self._put(byref(self._tables), *arrays, byref(cost))
        if escaped < 0:
            raise ValueError("a value or a row is out of range, or codes nothing")
        return entries, distances[:escaped].astype(np.int64), cost.value

    def encode(self, segments: list[Ints], lanes: int) -> tuple[States, Words]:
        """States (lanes,), and the words in the order of reading."""
        states = np.full(lanes, 1 << 16, np.uint32)
        words = np.empty(sum(map(len, segments)), np.uint16)  # a symbol emits at most one word
        tables, state, word, begin = byref(self._tables), pointer(states), pointer(words), len(words)
        for entries in reversed(segments):
            begin = self._encode(tables, state, lanes, pointer(entries), len(entries), word, begin)
            if begin < 0:
                raise ValueError("an entry lies outside the tables")
        return states, words[begin:]

    def take(self, stream: _Stream, rows: Ints) -> tuple[Status, Ints]:
        """The next segment of a stream (CompiledReader.take)."""
        count = len(rows)
        values, scratch = np.empty(count, np.int32), np.empty(2 * count, np.int32)
        arrays = (pointer(rows), count, pointer(values), pointer(scratch))
        status = self._take(byref(self._tables), byref(stream), *arrays)
        if status == _BAD_ROW:
            raise ValueError("a row is out of range, or codes nothing")
        return Status(status), values


class CompiledReader:
    """A stream at the place where it is read: one thread at a time."""

    def __init__(self, tables: CompiledTables, states: States, words: Words, exhausted: bool) -> None:
        """states: (lanes,), each 2^16..2^32 - 1. exhausted: whether the stream ends before its first word."""
        self._tables, self._states, self._words = tables, states.copy(), words
        addresses = self._states.ctypes.data, words.ctypes.data
        self._stream = _Stream(len(states), len(words), 0, exhausted, *addresses)

    @property
    def exhausted(self) -> bool:
        """Whether a symbol's word was missing."""
        return bool(self._stream.exhausted)

    def take(self, rows: Ints) -> tuple[Status, Ints]:
        """The values (n,) of the next segment, of symbols with these rows (n,); 0 past the stream's end.

        They mean nothing unless DONE. Raises ValueError, with nothing taken, where a row is out of range or
        codes nothing.
        """
        return self._tables.take(self._stream, rows)

    def left(self) -> tuple[int, int]:
        """The words that are not read, and the lanes that are not at their start."""
        return len(self._words) - self._stream.position, int((self._states != 1 << 16).sum())
