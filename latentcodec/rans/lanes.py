"""The lanes of a rANS stream in numpy, a batch of one symbol a lane at a time: what the kernel is judged by.

    values, rows ─► LaneWriter.put ─► entries ─► LaneWriter.encode ─► states, words
    states, words ─► LaneReader.take(rows) ─► values

Few lanes run in plain Python and many in numpy, whichever is faster. kernel/rans.py has the same two classes
compiled, CompiledTables and CompiledReader; all write and read the same bytes, and stop in the same places.
"""

from __future__ import annotations

from itertools import cycle

import numpy as np

from latentcodec.kernel.rans import Entries, Ints, Longs, States, Status, Words
from latentcodec.rans.tables import MAX_VALUE, PRECISION, TOTAL, Lookup

__all__ = ["STATE_LOW", "LaneReader", "LaneWriter"]

STATE_LOW = 1 << 16

# Up to so many lanes plain Python, about 0.5 us a symbol, is faster than numpy, about 10 us a batch.
SCALAR_LANES = 18
_ESCAPE_BYTES = 4

# Zero-dimensional operands: numpy handles them faster than Python's integers.
_MASK, _SHIFT, _LOW = (np.array(value, np.int64) for value in (TOTAL - 1, PRECISION, STATE_LOW))


class LaneWriter:
    """Values to entries, entries to a stream."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def put(self, values: Ints, rows: Ints) -> Entries:
        """The entries (n,) of these values (n,) in these rows (n,), and what escapes.

        Raises ValueError: their numbers differ, a value or row is out of range, or a row codes nothing.
        """
        lookup = self._lookup
        if len(values) != len(rows) or not _codes_all(lookup, rows):
            raise ValueError(f"{len(values)} values, {len(rows)} rows: a row is missing, or codes nothing")
        if np.abs(values.astype(np.int64)).max(initial=0) > MAX_VALUE:
            raise ValueError(f"a value reaches past {MAX_VALUE}")
        rows = rows.astype(np.int64)
        entry, escape = values + lookup.offset[rows], lookup.escape[rows]
        escaped = (entry < 0) | (entry >= escape)
        entries = np.where(escaped, escape, entry) + lookup.first[rows]
        distance = np.where(entry < 0, -2 * entry - 1, 2 * (entry - escape))[escaped]
        return entries.astype(np.int32), distance, int(lookup.cost[entries].sum())

    def encode(self, segments: list[Ints], lanes: int) -> tuple[States, Words]:
        """States (lanes,), and the words in the order of reading."""
        encode = encode_scalar if lanes <= SCALAR_LANES else encode_vector
        return encode(self._lookup, segments, lanes)


class LaneReader:
    """A stream at the place where it is read."""

    def __init__(self, lookup: Lookup, states: States, words: Words, exhausted: bool) -> None:
        """states: (lanes,), each 2^16..2^32 - 1. exhausted: whether the stream ends before its first word."""
        self._lookup, self._lanes, self._words = lookup, len(states), words
        self._position = 0  # of the next word
        self.exhausted = exhausted
        self._states: Longs = states.astype(np.int64)
        self._state_list: list[int] = self._states.tolist()
        self._scalar = self._lanes <= SCALAR_LANES

    def take(self, rows: Ints) -> tuple[Status, Ints]:
        """The values (n,) of the next segment, of symbols with these rows (n,); 0 past the stream's end.

        They mean nothing unless DONE. Raises ValueError, with nothing taken, where a row is out of range or
        codes nothing.
        """
        lookup = self._lookup
        values = np.zeros(len(rows), np.int32)
        if not _codes_all(lookup, rows):
            raise ValueError("a row is out of range, or codes nothing")
        wide = rows.astype(np.int64)
        entry = self._take_entries(wide)
        there = wide[: len(entry)]
        values[: len(entry)] = entry - lookup.offset[there]
        escaped = np.flatnonzero(entry == lookup.escape[there])
        status = Status.DONE
        if escaped.size:
            status, values[escaped] = self._take_escapes(there[escaped])
        return status, values

    def left(self) -> tuple[int, int]:
        """The words that are not read, and the lanes that are not at their start."""
        states = self._state_list if self._scalar else self._states.tolist()
        return len(self._words) - self._position, sum(x != STATE_LOW for x in states)

    def _take_escapes(self, rows: Longs) -> tuple[Status, Longs]:
        """The values of a segment's escaped symbols; all 0 where the stream ends among their bytes."""
        distance = np.zeros(len(rows), np.int64)
        pending = np.arange(len(rows))
        for count in range(_ESCAPE_BYTES):
            byte = self._take_entries(np.full(len(pending), self._lookup.byte_row))
            if len(byte) < len(pending):
                return Status.DONE, np.zeros(len(rows), np.int64)
            if count and not byte.all():
                return Status.ESCAPE_NOT_SHORTEST, distance
            distance[pending] |= (byte & 0x7F) << 7 * count
            pending = pending[byte > 0x7F]
            if not pending.size:
                break
        above = self._lookup.escape[rows] + (distance >> 1)
        values = np.where(distance & 1, -(distance + 1 >> 1), above) - self._lookup.offset[rows]
        outside = pending.size or np.abs(values).max() > MAX_VALUE
        return Status.ESCAPE_OUTSIDE if outside else Status.DONE, values

    def _take_entries(self, rows: Longs) -> Longs:
        """Entries, counted within their rows; fewer than rows where the stream ends."""
        if not rows.size or self.exhausted:
            return np.empty(0, np.int64)
        self._lookup.build_inverse(rows)
        return self._decode_scalar(rows) if self._scalar else self._decode_vector(rows)

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


def _codes_all(lookup: Lookup, rows: Ints) -> bool:
    """Whether all rows are in range and code something."""
    if rows.size and not (rows.min() >= 0 and rows.max() < lookup.byte_row):
        return False
    return bool(lookup.coded[rows].all())


def encode_scalar(lookup: Lookup, segments: list[Ints], lanes: int) -> tuple[States, Words]:
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
    return np.array(states, np.uint32), np.array(words[::-1], np.uint16)


def encode_vector(lookup: Lookup, segments: list[Ints], lanes: int) -> tuple[States, Words]:
    """As `encode_scalar`, by numpy, a batch of one symbol a lane at a time."""
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
    return states.astype(np.uint32), words[begin:]
