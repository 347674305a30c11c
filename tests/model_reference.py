"""A decoder of tiles written from docs/model.md alone, in numpy's int64: it judges the package's networks.

The model's tables and the rANS stream are taken from the package (tests/test_rans.py judges those).
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

import numpy as np
import numpy.typing as npt

from latentcodec.rans.coder import Decoder, Tables
from latentcodec.weights.native import NativeWeights

Array = npt.NDArray[np.int64]
Take = Callable[[Array], Array]  # the table rows of one block -> its values

NUMBERED = [pattern for ones in range(9) for pattern in range(256) if bin(pattern).count("1") == ones]
ORDER = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1], [1, 0, 3, 2]]


def decode_tile(
    weights: NativeWeights, stream: bytes, level: int, height: int, width: int
) -> tuple[Array, int]:
    """(latents (112, height, width) in sixteenths, digest) of a tile of height x width latents."""
    tables = weights.tables()
    patterns, values, extended = group_tables(tables)
    decoder = Decoder(stream, extended)
    decoded = []

    def take_segment(rows: list[int]) -> list[int]:
        found = decoder.take(np.array(rows, np.int32))
        decoded.append(found.astype("<i4").tobytes())
        return found.tolist()

    def take(rows: Array) -> Array:
        found = np.zeros(len(rows), np.int64)
        groups = []
        for row in sorted(patterns):
            own = [place for place, each in enumerate(rows.tolist()) if each == row]
            groups += [own[i : i + 8] for i in range(0, len(own) - 7, 8)]
        numbers = take_segment([patterns[int(rows[group[0]])] for group in groups])
        nonzero = [
            place
            for group, number in zip(groups, numbers, strict=True)
            for bit, place in enumerate(group)
            if NUMBERED[number] >> bit & 1
        ]
        found[nonzero] = take_segment([values[int(rows[place])] for place in nonzero])
        grouped = {place for group in groups for place in group}
        others = [place for place in range(len(rows)) if place not in grouped]
        found[others] = take_segment([int(rows[place]) for place in others])
        return found

    plane = latents(weights, level, height, width, take)
    decoder.finish()
    return plane, crc32(b"".join(decoded))


def group_tables(tables: Tables) -> tuple[dict[int, int], dict[int, int], Tables]:
    """Row -> the row of its patterns, row -> that of its values, and all of these rows."""
    slots = [np.diff(c[: n + 1]).tolist() for c, n in zip(tables.cumulative, tables.size, strict=True)]
    offsets = tables.offset.tolist()
    grouped = [r for r, own in enumerate(slots) if len(own) > 1 and own[offsets[r]] >= 32768]
    patterns, values = {}, {}
    for r in grouped:
        z = slots[r][offsets[r]]
        all_slots = [
            z ** (8 - n) * (65536 - z) ** n * 65536 // 65536**8 for n in map(int.bit_count, NUMBERED)
        ]
        patterns[r] = len(slots)
        slots.append([*[f for f in all_slots if f], 1])
        offsets.append(0)
    for r in grouped:
        own, zero = slots[r], offsets[r]
        left = 65536 - own[zero]
        values[r] = len(slots)
        slots.append([1 if k == zero else max(1, 65536 * f // left) for k, f in enumerate(own)])
        offsets.append(zero)
    for own in slots[len(tables.size) :]:
        own[own.index(max(own))] += 65536 - sum(own)
    cumulative = np.full((len(slots), max(map(len, slots)) + 1), 65536, np.int32)
    for row, own in zip(cumulative, slots, strict=True):
        row[: len(own) + 1] = [sum(own[:k]) for k in range(len(own) + 1)]
    sizes = np.array([len(own) for own in slots], np.int32)
    return patterns, values, Tables(cumulative=cumulative, size=sizes, offset=np.array(offsets, np.int32))


def latents(weights: NativeWeights, level: int, height: int, width: int, take: Take) -> Array:
    """The latents, of values that `take` gives for each block's rows."""
    z = hyperlatents(weights, level, -(-height // 4), -(-width // 4), take)
    h = leaky(layer(weights, "hyper_in", np.clip(4 * z, -127, 127), level))
    h = leaky(layer(weights, "hyper_up", h, level))
    c, rows, columns = h.shape
    shuffled = np.zeros((c // 4, 2 * rows, 2 * columns), np.int64)
    for dy in range(2):
        for dx in range(2):
            shuffled[:, dy::2, dx::2] = h[2 * dy + dx :: 4]
    features = leaky(layer(weights, "hyper_out", shuffled, level))
    return four_steps(weights, level, features, height, width, take)


def hyperlatents(weights: NativeWeights, level: int, rows: int, columns: int, take: Take) -> Array:
    row = np.clip((knots(weights, "hyper_row", level) + 8) >> 4, 0, 63)
    z = np.zeros((len(row), rows, columns), np.int64)
    coded = np.repeat(row, rows * columns)
    z.reshape(-1)[coded > 0] = take(coded[coded > 0])
    return z


def four_steps(
    weights: NativeWeights, level: int, features: Array, height: int, width: int, take: Take
) -> Array:
    _, cell_rows, cell_columns = features.shape
    row_offset = knots(weights, "row_offset", level)
    channels = len(row_offset)
    log_table = weights.tensors["integer.log_table"].numpy().astype(np.int64)
    plane = np.zeros((channels, 2 * cell_rows, 2 * cell_columns), np.int64)
    inside = np.zeros(plane.shape, bool)
    inside[:, :height, :width] = True
    order = [c for g in range(4) for c in range(g, channels, 4)]
    seen = [features]
    for step in range(4):
        h = leaky(layer(weights, f"context{step}_in", np.concatenate(seen), level))
        h = leaky(np.clip(h + layer(weights, f"context{step}_mid", h, level), -127, 127))
        o = layer(weights, f"context{step}_out", h, level, gain=2)
        mean, row = np.clip(o[:channels], -8191, 8191), o[channels:] + row_offset[order][:, None, None]
        row = np.clip((row + 8) >> 4, 0, 63)
        places = []  # of each channel of the step, in the plane
        for c in order:
            dy, dx = divmod(ORDER[step][c % 4], 2)
            places.append((c, slice(dy, None, 2), slice(dx, None, 2)))
        row = row * np.stack([inside[place] for place in places])
        residual = np.zeros_like(row)
        residual[row > 0] = take(row[row > 0])
        latent = np.clip(mean + 16 * residual, -8191, 8191)
        for values, place in zip(latent, places, strict=True):
            plane[place] = values * inside[place]
        shown = np.stack([plane[place] for place in places])
        seen.append(np.sign(shown) * log_table[np.abs(shown)])
    return plane[:, :height, :width]


def layer(weights: NativeWeights, name: str, x: Array, level: int, gain: int = 0) -> Array:
    """x (I, H, W) -> (O, H, W)."""
    weight = weights.tensors[f"integer.{name}.weight"].numpy().astype(np.int64)
    shift = weights.tensors[f"integer.{name}.shift"].numpy().astype(np.int64) - gain
    bias = knots(weights, f"{name}.bias", level)
    kernel = weight.shape[2]
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    out = np.zeros((len(weight), height, width), np.int64)
    for dy in range(kernel):
        for dx in range(kernel):
            out += np.einsum(
                "oi,ihw->ohw", weight[:, :, dy, dx], padded[:, dy : dy + height, dx : dx + width]
            )
    half = (1 << (shift - 1))[:, None, None]
    return (out + bias[:, None, None] + half) >> shift[:, None, None]


def knots(weights: NativeWeights, name: str, level: int) -> Array:
    """A knot table at a quality level."""
    table = weights.tensors[f"integer.{name}"].numpy().astype(np.int64)
    k, f = divmod(level, 500)
    return table[k] if f == 0 else (table[k] * (500 - f) + table[k + 1] * f + 250) // 500


def leaky(v: Array) -> Array:
    return np.clip(np.maximum(v, v // 8), -127, 127)
