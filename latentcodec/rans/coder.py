"""Interleaved range asymmetric numeral systems (rANS) over integer tables (docs/format.md, "rANS stream").

    values, rows ─► Encoder.put ─► segments ─► finish: coded from the last symbol to the first ─► stream
    stream ─► Decoder ─► take(rows) ─► values: the same segments, from the first symbol on ─► finish: verified

A segment is one call of `put` or `take`. Symbol j of a segment belongs to lane j mod lanes, so that a batch
of one symbol a lane is one vector operation. A lane's state x lies in [2^16, 2^32) and moves in 16-bit words:

    encode   if x >= f * 2^16: emit x mod 2^16, x >>= 16     x = (x // f) * 2^16 + x mod f + start
    decode   slot = x mod 2^16, find the slot's entry        x = f * (x >> 16) + slot - start
                                                             if x < 2^16: x = x * 2^16 + next word

The lanes run in the compiled kernel where there is one (kernel/rans.py), else in numpy (lanes.py): values,
bytes and errors are the same.
"""

from __future__ import annotations

from typing import Protocol
from zlib import crc32

import numpy as np
import numpy.typing as npt

from latentcodec.container.chunks import read_varint, write_varint
from latentcodec.errors import ChecksumMismatch, InvalidArgument, MalformedFile, TruncatedFile
from latentcodec.kernel.library import int32s
from latentcodec.kernel.rans import CompiledReader, Entries, Ints, Longs, States, Status, Words
from latentcodec.rans.lanes import STATE_LOW, LaneReader, LaneWriter
from latentcodec.rans.tables import COST_UNIT, MAX_VALUE, Tables

__all__ = ["MAX_LANES", "MAX_VALUE", "Decoder", "Encoder", "Tables", "check_digest", "check_integers"]

MAX_LANES = 2048
MAX_SYMBOLS = (1 << 31) - 1  # of a segment

# A lane costs about 3 bytes more than its content: one in 800 bytes makes 0.4 %. Streams of very many cheap
# symbols get up to twice as many, since their time goes with the number of batches.
_BYTES_PER_LANE = 800
_SYMBOLS_PER_LANE = 32768

_ESCAPE_ERRORS = {
    Status.ESCAPE_NOT_SHORTEST: "a number ends in a zero byte; it must be in shortest form",
    Status.ESCAPE_OUTSIDE: f"a value lies outside {-MAX_VALUE}..{MAX_VALUE}",
}


class Writer(Protocol):
    """Lanes that write: LaneWriter or CompiledTables."""

    def put(self, values: Ints, rows: Ints) -> Entries:
        """As LaneWriter."""

    def encode(self, segments: list[Ints], lanes: int) -> tuple[States, Words]:
        """As LaneWriter."""


class Reader(Protocol):
    """Lanes that read: LaneReader or CompiledReader."""

    @property
    def exhausted(self) -> bool:
        """Whether a symbol's word was missing."""

    def take(self, rows: Ints) -> tuple[Status, Ints]:
        """As LaneReader."""

    def left(self) -> tuple[int, int]:
        """As LaneReader."""


class Encoder:
    """Collects symbols, then codes them all at once: `put` any number of times, then `finish`."""

    def __init__(self, tables: Tables) -> None:
        self._lookup = tables.lookup
        self._writer: Writer = self._lookup.compiled() or LaneWriter(self._lookup)
        self._segments: list[Ints] = []
        self._cost = 0
        self.digest = 0  #: CRC-32 of the coded values put so far, each as int32, little endian

    def put(self, values: npt.ArrayLike, rows: npt.ArrayLike) -> None:
        """Append one segment: values (n,) in -2^20..2^20, each coded by the table row of the same place.

        Raises InvalidArgument: shapes that differ, values or rows out of range, or a value other than 0 in a
        row that says "surely zero".
        """
        try:
            own = int32s(values)
            entries, distance, cost = self._writer.put(own, int32s(rows))
        except ValueError:  # some are not coded; or an error, which is to be named
            own, own_rows = self._coded(values, rows)
            entries, distance, cost = self._writer.put(own, own_rows)
        self.digest = crc32(_bytes(own), self.digest)
        self._append(entries, cost)
        while distance.size:
            more = distance > 0x7F
            first = self._lookup.first[self._lookup.byte_row]
            byte = ((distance & 0x7F | more << 7) + first).astype(np.int32)
            self._append(byte, int(self._lookup.cost[byte].sum()))
            distance = distance[more] >> 7

    def _coded(self, values: npt.ArrayLike, rows: npt.ArrayLike) -> tuple[Ints, Ints]:
        """The symbols that are coded: those of rows that do not say "surely zero"."""
        values = check_integers(values, "values", -MAX_VALUE, MAX_VALUE)
        rows = check_integers(rows, "rows", 0, self._lookup.byte_row - 1)
        if len(values) != len(rows):
            raise InvalidArgument(f"{len(values)} values, but {len(rows)} rows: one row a value is needed")
        coded = self._lookup.coded[rows]
        if values[~coded].any():
            raise InvalidArgument("values: one other than 0 stands in a table row that says 'surely zero'")
        return values[coded].astype(np.int32), rows[coded].astype(np.int32)

    def _append(self, entries: Ints, cost: int) -> None:
        if entries.size:
            self._segments.append(entries)
            self._cost += cost

    def ideal_bits(self) -> float:
        """The sum of -log2 of the table probabilities of all that was put, the bytes of escapes included."""
        return self._cost / COST_UNIT

    def finish(self) -> bytes:
        """The stream of everything put so far."""
        size, count = self._cost // (8 * COST_UNIT), sum(map(len, self._segments))
        by_count = min(count // _SYMBOLS_PER_LANE, 2 * size // _BYTES_PER_LANE)
        longest = max(map(len, self._segments), default=1)
        lanes = min(1 + max(size // _BYTES_PER_LANE, by_count), longest, MAX_LANES)
        states, words = self._writer.encode(self._segments, lanes)
        return write_varint(lanes) + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


class Decoder:
    """Reads a stream: `take` the same segments as were put, then `finish`.

    partial: a stream that ends early is no error; the values past its end are 0, and `exhausted` is True.
    Raises MalformedFile, or TruncatedFile, where the stream's head is wrong or cut.
    """

    def __init__(self, data: bytes, tables: Tables, *, partial: bool = False) -> None:
        self._lookup = tables.lookup
        self._partial = partial
        self.digest = 0  #: CRC-32 of the coded values taken so far, each as int32, little endian
        cut = False
        try:
            states, words = self._read_head(bytes(data))
        except TruncatedFile:
            if not partial:
                raise
            cut, states, words = True, np.full(1, STATE_LOW, np.uint32), np.empty(0, np.uint16)
        self._lanes, self._words = len(states), len(words)
        compiled = self._lookup.compiled()
        self._reader: Reader = (
            LaneReader(self._lookup, states, words, cut)
            if compiled is None
            else CompiledReader(compiled, states, words, cut)
        )

    def _read_head(self, data: bytes) -> tuple[States, Words]:
        lanes, start = read_varint(data, 0, "rANS lanes")
        if not 1 <= lanes <= MAX_LANES:
            raise MalformedFile(f"rANS lanes: {lanes} is outside 1..{MAX_LANES}")
        end = start + 4 * lanes
        if end > len(data):
            raise TruncatedFile(f"rANS states: {lanes} lanes need {end} bytes, the stream has {len(data)}")
        states = np.frombuffer(data, "<u4", lanes, start).astype(np.uint32)
        if states.min() < STATE_LOW:
            raise MalformedFile(f"rANS states: {states.min()} is below {STATE_LOW}")
        count, odd = divmod(len(data) - end, 2)
        if odd and not self._partial:
            raise TruncatedFile(f"rANS words: {len(data) - end} bytes, an odd number: the last word is cut")
        return states, np.frombuffer(data, "<u2", count, end).astype(np.uint16)

    @property
    def exhausted(self) -> bool:
        """Whether the stream ended before its symbols did."""
        return self._reader.exhausted

    def take(self, rows: npt.ArrayLike) -> Ints:
        """The next segment's values (n,), int32 in -2^20..2^20, of symbols with these table rows (n,).

        Raises TruncatedFile where the words run out, MalformedFile where an escape leaves the range, and
        InvalidArgument for rows out of range.
        """
        try:
            status, values = self._reader.take(int32s(rows))
            coded = values
        except ValueError:  # some are not coded; or an error, which is to be named
            checked = check_integers(rows, "rows", 0, self._lookup.byte_row - 1)
            places = np.flatnonzero(self._lookup.coded[checked])
            status, coded = self._reader.take(checked[places].astype(np.int32))
            values = np.zeros(len(checked), np.int32)
            values[places] = coded
        if self.exhausted and not self._partial:
            raise TruncatedFile(f"rANS words: the stream ends after {self._words}, inside its symbols")
        if status in _ESCAPE_ERRORS:
            raise MalformedFile(f"rANS escape: {_ESCAPE_ERRORS[status]}")
        self.digest = crc32(_bytes(coded), self.digest)
        return values

    def finish(self) -> None:
        """Verify that the stream was taken whole; a partial stream that is exhausted passes.

        Raises MalformedFile: words are left, or a lane did not come back to its start.
        """
        if self.exhausted and self._partial:
            return
        unread, astray = (0, self._lanes) if self.exhausted else self._reader.left()
        if unread or astray:
            raise MalformedFile(
                f"rANS stream: {unread} of {self._words} words are left over, "
                f"and {astray} of {self._lanes} lanes end in a wrong state"
            )


def check_integers(array: npt.ArrayLike, name: str, low: int, high: int) -> Longs:
    """`array` as int64, checked: one dimension, integers, all within low..high. Raises InvalidArgument."""
    integers = np.asarray(array)
    if integers.ndim != 1 or (integers.size and integers.dtype.kind not in "iu"):
        raise InvalidArgument(
            f"{name}: a 1-D array of integers is needed, not {integers.ndim}-D {integers.dtype}"
        )
    if integers.size > MAX_SYMBOLS:
        raise InvalidArgument(f"{name}: {integers.size} symbols; a segment has {MAX_SYMBOLS} at most")
    if integers.size and not (low <= integers.min() and integers.max() <= high):
        raise InvalidArgument(f"{name}: {integers.min()}..{integers.max()} reaches past {low}..{high}")
    return integers.astype(np.int64)


def _bytes(values: Ints) -> memoryview:
    """Little endian."""
    return values.astype("<i4", copy=False).data


def check_digest(decoded: int, stored: int, name: str) -> None:
    """Raise ChecksumMismatch unless a tile's symbols have the digest that its file says."""
    if decoded != stored:
        raise ChecksumMismatch(
            f"{name}: decoded symbols have digest {decoded:08x}, the file says {stored:08x}"
        )
