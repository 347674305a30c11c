"""Planes of samples of 9 to 16 bits, coded without networks: interpolated, and what is left over in steps.

    the sample at (0, 0) ─► spacing d = ..., 4, 2, 1: those between left and right, then above and below
    sample - interpolation ─► value v, in steps ─┬─► expected magnitude ─► row (and low bits) ─► rANS
                                                 └─► interpolation + step * v: what a decoder has

From these the next samples are interpolated, on both sides alike: no error grows, each is at most half a
step, and none where the step is 1. Coarse samples, which are few, have finer steps. Where a picture is smooth
hardly any value differs from 0, however deep the samples are. It is the scheme of compressors of scientific
data (X. Liang et al., "SZ3", 2023). docs/format.md, "Tiles of deep samples", specifies it; all is integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from latentcodec.codec.values.adaptive import PHASES
from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.errors import MalformedFile, TruncatedFile
from latentcodec.rans.coder import Decoder, Encoder
from latentcodec.rans.tables import TOTAL, Tables

__all__ = ["Ints", "pack_planes", "tables_hash", "unpack_planes"]

Ints = npt.NDArray[np.int32]
_Code = Callable[[int, "_Part", int, Ints, Ints, Ints], Ints]

SHARE = 4  # units of what a channel takes over of the first channel's error
_UNIT_BITS = 8  # of magnitudes
_WEIGHT_BITS = 6
_LOW_BITS = 13  # that a value has at most: 2^24 of magnitude, of which 2^12 are left
_LEAST_SHIFTED = 1 << 12  # magnitudes from here on have low bits
_FINER = 2  # coarse samples, from which all others are interpolated, have steps of a half and a quarter
_FLOOR_BITS = 4  # a magnitude is at least a sixteenth of the average

# Positions of a pass: rows and columns modulo 2, in coding order, and the neighbours that are known then.
_DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_AXIAL = ((-1, 0), (0, -1), (0, 1), (1, 0))
_ORDER = (((0, 0), ()), ((1, 1), _DIAGONAL), ((0, 1), _AXIAL), ((1, 0), _AXIAL))
# Weights of the expected magnitude: where it is interpolated from, around it (at first the average of the
# pass before), and in the channels before. By (has it neighbours, are there channels before).
_WEIGHTS = {
    (False, False): (16, 40, 0),
    (False, True): (16, 16, 20),
    (True, False): (6, 60, 0),
    (True, True): (6, 38, 14),
}


@dataclass(frozen=True)
class _Part:
    """A quarter of a pass' positions: where they are in the planes, a view of (channels, rows, columns)."""

    view: tuple[slice, slice]
    transposed: bool

    def of(self, planes: Ints) -> Ints:
        """These positions of planes (channels, h, w), to be written to."""
        turned = planes.transpose(0, 2, 1) if self.transposed else planes
        return turned[:, self.view[0], self.view[1]]


@lru_cache(maxsize=1)
def _tables() -> tuple[Tables, npt.NDArray[np.int64]]:
    """A row for each level of magnitude, then rows of 1, 2, 3 ... low bits; and the levels' thresholds."""
    shipped = shipped_tables()
    sizes = [int(shipped.tables.size[row]) for row in range(0, len(shipped.tables.size), PHASES)]
    offsets = shipped.tables.offset[::PHASES].tolist()
    rows = [
        np.diff(shipped.tables.cumulative[PHASES * level, : size + 1]) for level, size in enumerate(sizes)
    ]
    for bits in range(1, _LOW_BITS + 1):
        own = np.full((1 << bits) + 1, (TOTAL - 1) >> bits)
        own[-1] = TOTAL - ((TOTAL - 1) >> bits << bits)
        rows.append(own)
    sizes += [(1 << bits) + 1 for bits in range(1, _LOW_BITS + 1)]
    offsets += [0] * _LOW_BITS
    return Tables.from_frequencies(np.concatenate(rows), np.array(sizes), offsets), shipped.thresholds


def tables_hash() -> bytes:
    """Four bytes over what determines the symbols: the networks hash of such files."""
    return shipped_tables().hash


def pack_planes(planes: Ints, bits: int, step: int) -> tuple[bytes, Ints]:
    """The stream of planes (1 or 3, h, w) of samples of `bits` bits, 9 to 16, and what it decodes to.

    step: odd, 1 or more; no sample is off by more than half of it. Of three planes the first is green.
    """
    peak = (1 << bits) - 1
    shares = [_share(planes[0], plane) for plane in planes[1:]]
    tables, _ = _tables()
    encoder = Encoder(tables)

    def code(channel: int, part: _Part, own_step: int, expected: Ints, rows: Ints, low: Ints) -> Ints:
        target = part.of(planes)[channel].ravel()
        values: Ints = (target - expected + own_step // 2) // own_step
        shifted = values + (1 << low >> 1)
        encoder.put(shifted >> low, rows)
        has_low = low > 0
        if has_low.any():
            own = low[has_low]
            encoder.put(shifted[has_low] & ((1 << own) - 1), own + (len(tables.size) - _LOW_BITS - 1))
        return values

    decoded = _walk(planes[:, 0, 0], shares, planes.shape, peak, step, code)
    head = planes[:, 0, 0].astype("<u2").tobytes() + bytes(shares)
    return head + encoder.finish(), decoded


def unpack_planes(
    stream: bytes, channels: int, height: int, width: int, bits: int, step: int, name: str
) -> Ints:
    """The planes (channels, height, width) of a stream. Raises MalformedFile and TruncatedFile."""
    peak = (1 << bits) - 1
    size = 2 * channels + channels - 1
    if len(stream) < size:
        raise TruncatedFile(f"{name}: {len(stream)} bytes, the head of deep samples has {size}")
    first = np.frombuffer(stream, "<u2", channels).astype(np.int32)
    shares = list(stream[2 * channels : size])
    if first.max() > peak or max(shares, default=0) > SHARE:
        raise MalformedFile(
            f"{name}: first samples {first.tolist()} and shares {shares}: {peak} and {SHARE} are the most"
        )
    tables, _ = _tables()
    decoder = Decoder(stream[size:], tables)

    def code(channel: int, part: _Part, own_step: int, expected: Ints, rows: Ints, low: Ints) -> Ints:
        values = decoder.take(rows).astype(np.int64) << low
        has_low = low > 0
        if has_low.any():
            own = low[has_low]
            rest = decoder.take(own + (len(tables.size) - _LOW_BITS - 1))
            if ((rest < 0) | (rest >> own != 0)).any():
                raise MalformedFile(f"{name}: low bits of a sample are no number of so many bits")
            values[has_low] += rest - (1 << own >> 1)
        if np.abs(values).max(initial=0) > peak:
            raise MalformedFile(f"{name}: a value is beyond {peak} in magnitude")
        return values.astype(np.int32)

    planes = _walk(first, shares, (channels, height, width), peak, step, code)
    decoder.finish()
    return planes


def _share(first: Ints, plane: Ints) -> int:
    """How much of the first plane's interpolation error shows in another, in quarters, 0 to 4."""
    if first.shape[1] < 2:
        return 0
    a, b = (
        (own[:, 1::2] - _interpolated(own[:, ::2], own.shape[1] // 2)).astype(np.float64)
        for own in (first, plane)
    )
    energy = float((a * a).sum())
    return int(np.clip(round(SHARE * float((a * b).sum()) / energy), 0, SHARE)) if energy else 0


def _walk(first: Ints, shares: list[int], shape: tuple[int, ...], peak: int, step: int, code: _Code) -> Ints:
    """Go through all samples; the planes that a decoder gets.

    code(channel, part, step, expected, rows, low bits) -> values; the last three and these (n,), row by row.
    """
    samples, magnitudes = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    samples[:, 0, 0] = first
    channels = len(samples)
    average = np.full(channels, 1 << _UNIT_BITS)
    for across, along, transposed in _passes(*shape[1:]):
        own_step = step >> min(along.bit_length() - 1, _FINER) | 1
        known = _Part((slice(None, None, across), slice(None, None, 2 * along)), transposed)
        grid = _Part((slice(None, None, across), slice(along, None, 2 * along)), transposed)
        _, rows, columns = grid.of(samples).shape
        expected = _interpolated(known.of(samples), columns).clip(0, peak)
        near = _near(known.of(magnitudes), columns)
        found = grid.of(magnitudes)
        total, count = np.zeros(channels, np.int64), 0
        for (top, left), neighbours in _ORDER:
            if top >= rows or left >= columns:
                continue
            part = _Part(
                (slice(top * across, None, 2 * across), slice(along + 2 * along * left, None, 4 * along)),
                transposed,
            )
            own = slice(top, None, 2), slice(left, None, 2)
            size = part.of(samples)[0].size
            common = average if not neighbours else np.maximum((total << _UNIT_BITS) // max(count, 1), 1)
            for channel in range(channels):
                around = _around(found[channel], own, neighbours, int(average[channel]))
                before = (found[:channel, own[0], own[1]].sum(0) << _UNIT_BITS) // channel if channel else 0
                weights = _WEIGHTS[bool(neighbours), channel > 0]
                features = near[channel][own], around, before
                magnitude = sum(w * f for w, f in zip(weights, features, strict=True)) >> _WEIGHT_BITS
                magnitude = np.maximum(magnitude, int(common[channel]) >> _FLOOR_BITS).ravel()
                aim = expected[channel][own]
                if channel and shares[channel - 1]:
                    error = part.of(samples)[0] - expected[0][own]
                    aim = (aim + (shares[channel - 1] * error + SHARE // 2 >> 2)).clip(0, peak)
                flat = aim.ravel()
                values = code(channel, part, own_step, flat, *_row(magnitude))
                shown = (flat.astype(np.int64) + own_step * values.astype(np.int64)).clip(0, peak)
                part.of(samples)[channel] = shown.reshape(aim.shape)
                part.of(magnitudes)[channel] = np.abs(values).reshape(aim.shape)
            total += part.of(magnitudes).sum((1, 2), dtype=np.int64)
            count += size
        average = np.maximum((total << _UNIT_BITS) // count, 1)
    return samples


def _passes(height: int, width: int) -> Iterator[tuple[int, int, bool]]:
    """(spacing across, spacing along, transposed) of each pass from coarse to fine: rows, then columns."""
    along = 1 << max((max(height, width) - 1).bit_length() - 1, 0)
    while along:
        if along < width:
            yield 2 * along, along, False
        if along < height:
            yield along, along, True
        along >>= 1


def _interpolated(known: Ints, columns: int) -> Ints:
    """Between every two columns of (..., rows, known columns), and past the last: (..., rows, columns)."""
    most = known.shape[-1] - 1
    k = np.arange(columns)
    z, b, c, e = (known[..., np.clip(k + i, 0, most)] for i in (-1, 0, 1, 2))
    middle = (k >= 1) & (k + 2 <= most)
    between = np.where(middle, (9 * (b + c) - z - e + 8) >> 4, (b + c + 1) >> 1)
    between = np.where((k >= 1) & (k + 1 == most), (6 * b + 3 * c - z + 4) >> 3, between)
    between = np.where((k == 0) & (most >= 2), (3 * b + 6 * c - e + 4) >> 3, between)
    past = np.where(k >= 1, (3 * b - z + 1) >> 1, b)
    interpolated: Ints = np.where(k + 1 <= most, between, past)
    return interpolated


def _near(known: Ints, columns: int) -> Ints:
    """The mean magnitude of the two that a sample lies between, in 1/256."""
    k = np.arange(columns)
    both: Ints = known[..., k] + known[..., np.minimum(k + 1, known.shape[-1] - 1)]
    return both << _UNIT_BITS - 1


def _around(
    found: Ints, own: tuple[slice, slice], neighbours: tuple[tuple[int, int], ...], average: int
) -> Ints | int:
    """The mean magnitude of a part's neighbours in the pass, in 1/256, mirrored at the borders."""
    if not neighbours:
        return average
    padded = found
    for axis in (0, 1):
        sides = [(1, 1) if axis == each else (0, 0) for each in (0, 1)]
        padded = np.pad(padded, sides, "reflect") if found.shape[axis] > 1 else np.pad(padded, sides)
    rows, columns = found[own].shape
    total = np.zeros((rows, columns), np.int32)
    for dy, dx in neighbours:
        top, left = own[0].start + 1 + dy, own[1].start + 1 + dx
        total += padded[top : top + 2 * rows - 1 : 2, left : left + 2 * columns - 1 : 2]
    return total << _UNIT_BITS - 2


def _row(magnitude: Ints) -> tuple[Ints, Ints]:
    """The table row of values of an expected magnitude, in 1/256, and how many low bits they have."""
    _, thresholds = _tables()
    low = np.searchsorted(_LEAST_SHIFTED << np.arange(_LOW_BITS), magnitude, side="right")
    rows = np.searchsorted(thresholds, magnitude >> low, side="right")
    return rows.astype(np.int32), low.astype(np.int32)
