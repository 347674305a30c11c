"""Interleaved range asymmetric numeral systems (rANS) over integer tables (docs/format.md, "rANS stream").

    values, rows ─► Encoder.put ─► segments ─► finish: coded from the last symbol to the first ─► stream
    stream ─► Decoder ─► take(rows) ─► values: the same segments, from the first symbol on ─► finish: verified

A segment is one call of `put` or `take`. Symbol j of a segment belongs to lane j mod lanes, so that a batch
of one symbol a lane is one vector operation. A lane's state x lies in [2^16, 2^32) and moves in 16-bit words:

    encode   if x >= f * 2^16: emit x mod 2^16, x >>= 16     x = (x // f) * 2^16 + x mod f + start
    decode   slot = x mod 2^16, find the slot's entry        x = f * (x >> 16) + slot - start
                                                             if x < 2^16: x = x * 2^16 + next word

Few lanes run in plain Python and many in numpy, whichever is faster; both write and read the same bytes.
"""

from __future__ import annotations

from itertools import cycle
from zlib import crc32

import numpy as np
import numpy.typing as npt

from latentcodec.container.chunks import read_varint, write_varint
from latentcodec.errors import ChecksumMismatch, InvalidArgument, MalformedFile, TruncatedFile
from latentcodec.rans.tables import COST_UNIT, MAX_VALUE, PRECISION, TOTAL, Longs, Lookup, Tables

__all__ = ["MAX_LANES", "MAX_VALUE", "Decoder", "Encoder", "Tables", "check_digest"]

MAX_LANES = 2048
STATE_LOW = 1 << 16

# A lane costs about 3 bytes more than its content: one in 800 bytes makes 0.4 %. Streams of very many cheap
# symbols get up to twice as many, since their time goes with the number of batches.
_BYTES_PER_LANE = 800
_SYMBOLS_PER_LANE = 32768
# Up to so many lanes plain Python, about 0.5 us a symbol, is faster than numpy, about 10 us a batch.
_SCALAR_LANES = 18
_ESCAPE_BYTES = 4

# Zero-dimensional operands: numpy handles them faster than Python's integers.
_MASK, _SHIFT, _LOW = (np.array(value, np.int64) for value in (TOTAL - 1, PRECISION, STATE_LOW))

Entries = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint16]


class Encoder:
    """Collects symbols, then codes them all at once: `put` any number of times, then `finish`."""

    def __init__(self, tables: Tables) -> None:
        self._lookup = tables.lookup
        self._segments: list[Entries] = []
        self._cost = 0
        self.digest = 0  #: CRC-32 of the coded values put so far, each as int32, little endian

    def put(self, values: npt.ArrayLike, rows: npt.ArrayLike) -> None:
        """Append one segment: values (n,) in -2^20..2^20, each coded by the table row of the same place.

        Raises InvalidArgument: shapes that differ, values or rows out of range, or a value other than 0 in a
        row that says "surely zero".
        """
        lookup = self._lookup
        values = _integers(values, "values", -MAX_VALUE, MAX_VALUE)
        rows = _integers(rows, "rows", 0, lookup.byte_row - 1)
        if len(values) != len(rows):
            raise InvalidArgument(f"{len(values)} values, but {len(rows)} rows: one row a value is needed")
        coded = lookup.coded[rows]
        if values[~coded].any():
            raise InvalidArgument("values: one other than 0 stands in a table row that says 'surely zero'")
        values, rows = values[coded], rows[coded]
        self.digest = crc32(values.astype("<i4").tobytes(), self.digest)
        entry, escape = values + lookup.offset[rows], lookup.escape[rows]
        escaped = (entry < 0) | (entry >= escape)
        self._append(np.where(escaped, escape, entry) + lookup.first[rows])
        distance = np.where(entry < 0, -2 * entry - 1, 2 * (entry - escape))[escaped]
        while distance.size:
            more = distance > 0x7F
            self._append((distance & 0x7F | more << 7) + lookup.first[lookup.byte_row])
            distance = distance[more] >> 7

    def _append(self, entries: Longs) -> None:
        if entries.size:
            self._segments.append(entries.astype(np.int32))
            self._cost += int(self._lookup.cost[entries].sum())

    def ideal_bits(self) -> float:
        """The sum of -log2 of the table probabilities of all that was put, the bytes of escapes included."""
        return self._cost / COST_UNIT

    def finish(self) -> bytes:
        """The stream of everything put so far."""
        size, count = self._cost // (8 * COST_UNIT), sum(map(len, self._segments))
        by_count = min(count // _SYMBOLS_PER_LANE, 2 * size // _BYTES_PER_LANE)
        longest = max(map(len, self._segments), default=1)
        lanes = min(1 + max(size // _BYTES_PER_LANE, by_count), longest, MAX_LANES)
        encode = _encode_scalar if lanes <= _SCALAR_LANES else _encode_vector
        states, words = encode(self._lookup, self._segments, lanes)
        return write_varint(lanes) + states.astype("<u4").tobytes() + words.astype("<u2").tobytes()


class Decoder:
    """Reads a stream: `take` the same segments as were put, then `finish`.

    partial: a stream that ends early is no error; the values past its end are 0, and `exhausted` is True.
    Raises MalformedFile, or TruncatedFile, where the stream's head is wrong or cut.
    """

    def __init__(self, data: bytes, tables: Tables, *, partial: bool = False) -> None:
        self._lookup = tables.lookup
        self._partial = partial
        self.exhausted = False
        self.digest = 0  #: CRC-32 of the coded values taken so far, each as int32, little endian
        self._lanes = 1
        self._states: Longs = np.full(1, STATE_LOW, np.int64)
        self._words: Words = np.empty(0, np.uint16)
        self._position = 0  # of the next word; past the end once exhausted
        try:
            self._read_head(bytes(data))
        except TruncatedFile:
            if not partial:
                raise
            self.exhausted = True
        self._state_list: list[int] = self._states.tolist()
        self._decode = self._decode_scalar if self._lanes <= _SCALAR_LANES else self._decode_vector

    def _read_head(self, data: bytes) -> None:
        lanes, start = read_varint(data, 0, "rANS lanes")
        if not 1 <= lanes <= MAX_LANES:
            raise MalformedFile(f"rANS lanes: {lanes} is outside 1..{MAX_LANES}")
        end = start + 4 * lanes
        if end > len(data):
            raise TruncatedFile(f"rANS states: {lanes} lanes need {end} bytes, the stream has {len(data)}")
        states = np.frombuffer(data, "<u4", lanes, start).astype(np.int64)
        if states.min() < STATE_LOW:
            raise MalformedFile(f"rANS states: {states.min()} is below {STATE_LOW}")
        count, odd = divmod(len(data) - end, 2)
        if odd and not self._partial:
            raise TruncatedFile(f"rANS words: {len(data) - end} bytes, an odd number: the last word is cut")
        self._lanes, self._states = lanes, states
        self._words = np.frombuffer(data, "<u2", count, end).astype(np.uint16)

    def take(self, rows: npt.ArrayLike) -> npt.NDArray[np.int32]:
        """The next segment's values (n,), int32 in -2^20..2^20, of symbols with these table rows (n,).

        Raises TruncatedFile where the words run out, MalformedFile where an escape leaves the range, and
        InvalidArgument for rows out of range.
        """
        lookup = self._lookup
        rows = _integers(rows, "rows", 0, lookup.byte_row - 1)
        values = np.zeros(len(rows), np.int64)
        coded = np.flatnonzero(lookup.coded[rows])
        entry = self._take_entries(rows[coded])
        there = coded[: len(entry)]
        row = rows[there]
        values[there] = entry - lookup.offset[row]
        escaped = np.flatnonzero(entry == lookup.escape[row])
        if escaped.size:
            values[there[escaped]] = self._take_escapes(row[escaped])
        self.digest = crc32(values[coded].astype("<i4").tobytes(), self.digest)
        return values.astype(np.int32)

    def _take_escapes(self, rows: Longs) -> Longs:
        """The values of a segment's escaped symbols; all 0 where a partial stream ends among their bytes."""
        distance = np.zeros(len(rows), np.int64)
        pending = np.arange(len(rows))
        for count in range(_ESCAPE_BYTES):
            byte = self._take_entries(np.full(len(pending), self._lookup.byte_row))
            if len(byte) < len(pending):
                return np.zeros(len(rows), np.int64)
            if count and not byte.all():
                raise MalformedFile("rANS escape: a number ends in a zero byte; it must be in shortest form")
            distance[pending] |= (byte & 0x7F) << 7 * count
            pending = pending[byte > 0x7F]
            if not pending.size:
                break
        above = self._lookup.escape[rows] + (distance >> 1)
        values = np.where(distance & 1, -(distance + 1 >> 1), above) - self._lookup.offset[rows]
        if pending.size or np.abs(values).max() > MAX_VALUE:
            raise MalformedFile(f"rANS escape: a value lies outside {-MAX_VALUE}..{MAX_VALUE}")
        return values

    def _take_entries(self, rows: Longs) -> Longs:
        """Entries, counted within their rows; fewer than rows where a partial stream ends."""
        entries = np.empty(0, np.int64)
        if rows.size and not self.exhausted:
            self._lookup.build_inverse(rows)
            entries = self._decode(rows)
        if self.exhausted and not self._partial:
            raise TruncatedFile(f"rANS words: the stream ends after {len(self._words)}, inside its symbols")
        return entries

    def _decode_scalar(self, rows: Longs) -> Longs:
        lanes, states, words, position = self._lanes, self._state_list, self._words.data, self._position
        row_list: list[int] = rows.tolist()
        table_of = {row: self._lookup.scalar(row) for row in set(row_list)}
        entries: list[int] = []
        try:
            for row, lane in zip(row_list, cycle(range(lanes)), strict=False):
                inverse, gap, start = table_of[row]
                x = states[lane]
                entry = inverse[x & 0xFFFF]
                entries.append(entry)
                x -= (x >> PRECISION) * gap[entry] + start[entry]
                if x < STATE_LOW:
                    x = x << PRECISION | words[position]
                    position += 1
                states[lane] = x
        except IndexError:  # no word is left: complete the batch, whose other lanes still hold their symbols
            self.exhausted = True
            stop = min(len(row_list), -(-len(entries) // lanes) * lanes)
            for i in range(len(entries), stop):
                entries.append(table_of[row_list[i]][0][states[i % lanes] & 0xFFFF])
        self._position = position
        return np.array(entries, np.int64)

    def _decode_vector(self, rows: Longs) -> Longs:
        lookup, lanes, words, position = self._lookup, self._lanes, self._words, self._position
        inverse, all_frequency, all_start = lookup.inverse, lookup.frequency, lookup.start
        base, first = rows << PRECISION, lookup.first[rows]
        entries = np.empty(len(rows), np.int64)
        for i in range(0, len(rows), lanes):
            j = min(i + lanes, len(rows))
            x, entry = self._states[: j - i], entries[i:j]
            slot = x & _MASK
            np.add(inverse[slot + base[i:j]], first[i:j], entry)
            x >>= _SHIFT
            x *= all_frequency[entry]
            x += slot
            x -= all_start[entry]
            short = (x < _LOW).nonzero()[0]
            if short.size:
                stop = position + short.size
                if stop > len(words):
                    self.exhausted = True
                    entries, first = entries[:j], first[:j]
                    break
                low = x[short]
                low <<= _SHIFT
                low |= words[position:stop]
                x[short] = low
                position = stop
        self._position = position
        return entries - first

    def finish(self) -> None:
        """Verify that the stream was taken whole; a partial stream that is exhausted passes.

        Raises MalformedFile: words are left, or a lane did not come back to its start.
        """
        if self.exhausted and self._partial:
            return
        states = self._state_list if self._lanes <= _SCALAR_LANES else self._states.tolist()
        unread, astray = len(self._words) - self._position, sum(x != STATE_LOW for x in states)
        if unread or astray:
            raise MalformedFile(
                f"rANS stream: {unread} of {len(self._words)} words are left over, "
                f"and {astray} of {self._lanes} lanes end in a wrong state"
            )


def _integers(array: npt.ArrayLike, name: str, low: int, high: int) -> Longs:
    """`array` as int64, checked: one dimension, integers, all within low..high. Raises InvalidArgument."""
    integers = np.asarray(array)
    if integers.ndim != 1 or (integers.size and integers.dtype.kind not in "iu"):
        raise InvalidArgument(
            f"{name}: a 1-D array of integers is needed, not {integers.ndim}-D {integers.dtype}"
        )
    if integers.size and not (low <= integers.min() and integers.max() <= high):
        raise InvalidArgument(f"{name}: {integers.min()}..{integers.max()} reaches past {low}..{high}")
    return integers.astype(np.int64)


def _encode_scalar(lookup: Lookup, segments: list[Entries], lanes: int) -> tuple[Longs, Words]:
    """States (lanes,), and the words in the order of reading, by plain Python."""
    frequencies, starts = lookup.frequency.tolist(), lookup.start.tolist()
    gaps = (TOTAL - lookup.frequency).tolist()
    states = [STATE_LOW] * lanes
    words: list[int] = []
    for entries in reversed(segments):
        lane_of = np.arange(len(entries)) % lanes
        for entry, lane in zip(entries[::-1].tolist(), lane_of[::-1].tolist(), strict=True):
            x = states[lane]
            frequency = frequencies[entry]
            if x >> PRECISION >= frequency:
                words.append(x & 0xFFFF)
                x >>= PRECISION
            # x + (x // f) * (2^16 - f) = (x // f) * 2^16 + x mod f
            states[lane] = x + x // frequency * gaps[entry] + starts[entry]
    return np.array(states, np.int64), np.array(words[::-1], np.uint16)


def _encode_vector(lookup: Lookup, segments: list[Entries], lanes: int) -> tuple[Longs, Words]:
    """As `_encode_scalar`, by numpy, a batch of one symbol a lane at a time."""
    states = np.full(lanes, STATE_LOW, np.int64)
    words = np.empty(sum(map(len, segments)), np.uint16)  # a symbol emits at most one word
    begin = len(words)
    for entries in reversed(segments):
        frequency, start = lookup.frequency[entries], lookup.start[entries]
        limit, gap = frequency << PRECISION, TOTAL - frequency
        last = (len(entries) - 1) // lanes * lanes
        for i in range(last, -1, -lanes):
            j = min(i + lanes, len(entries))
            x = states[: j - i]
            full = (x >= limit[i:j]).nonzero()[0]
            if full.size:
                high = x[full]
                begin -= full.size
                words[begin : begin + full.size] = high  # the low 16 bits
                high >>= _SHIFT
                x[full] = high
            quotient = x // frequency[i:j]
            quotient *= gap[i:j]
            x += quotient
            x += start[i:j]
    return states, words[begin:]


def check_digest(decoded: int, stored: int, name: str) -> None:
    """Raise ChecksumMismatch unless a tile's symbols have the digest that its file says."""
    if decoded != stored:
        raise ChecksumMismatch(
            f"{name}: decoded symbols have digest {decoded:08x}, the file says {stored:08x}"
        )
