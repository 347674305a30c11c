"""A decoder written from docs/model.md alone, in numpy's int64: it judges the package's networks.

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
    log_table = weights.tensors["integer.log_table"].astype(np.int64)
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


def synthesise(weights: NativeWeights, plane: Array, level: int, bits: int = 8) -> Array:
    """v (112, h, w) in sixteenths -> samples (8h, 8w, 3)."""
    limit = 1 << 18
    gain = [power(int(k)) for k in knots(weights, "log_gain", level, "synthesis")]
    coefficients = np.stack([multiply(v, m, 24 - e) for v, (m, e) in zip(plane, gain, strict=True)])
    coefficients = coefficients.clip(-limit, limit)
    lapping = [
        correlate(weights.tensors[f"synthesis.lapping.planes.{i}"].astype(np.int64), part)
        for i, part in enumerate(np.split(coefficients, [64, 88]))
    ]
    coefficients = coefficients + multiply(np.concatenate(lapping), 1, 14).clip(-limit, limit)
    skip = weights.tensors["synthesis.skip"].astype(np.int64)
    patches = multiply(np.einsum("cn,chw->nhw", skip, coefficients), 1, 13).clip(1 - (1 << 22), (1 << 22) - 1)
    total = depth_to_space(patches, 8) + depth_to_space(correction(weights, plane, level), 4)
    most = (1 << bits) - 1
    return (((total + 32640) * most + 32640) // 65280).clip(0, most).transpose(1, 2, 0)


def correction(weights: NativeWeights, plane: Array, level: int) -> Array:
    """(48, 2h, 2w), in 2^-8 of an 8-bit step."""

    def convolution(name: str, x: Array, gain: int = 0) -> Array:
        return layer(weights, name, x, level, gain, "synthesis")

    def narrowing(name: str, x: Array) -> Array:
        bias = knots(weights, f"{name}.bias", level, "synthesis")[:, None, None]
        shift = weights.tensors[f"synthesis.{name}.shift"].astype(np.int64)[:, None, None]
        return (x + bias + (1 << (shift - 1))) >> shift

    def block(name: str, x: Array) -> Array:
        t = tenth(convolution(f"{name}.conv1", tenth(narrowing(f"{name}.narrow", x))))
        return wide(x + wide(convolution(f"{name}.conv2", t, 4)))

    def gained(name: str, x: Array) -> Array:
        steps = [eight_bits(int(k)) for k in knots(weights, name, level, "synthesis")]
        if len(steps) == 1:
            steps *= len(x)
        return wide(np.stack([multiply(part, n, s) for part, (n, s) in zip(x, steps, strict=True)]))

    table = weights.tensors["synthesis.log_table"].astype(np.int64)
    r = gained("input_log_gain", np.sign(plane) * table[np.abs(plane)])
    r = np.clip(narrowing("in.narrow", r), -127, 127)
    x = gained("stream_log_gain", wide(convolution("in.conv", r, 4)))
    for index in range(3):
        x = block(f"blocks.{index}", x)
    u = wide(convolution("up.conv", np.clip(narrowing("up.narrow", x), -127, 127), 4))
    u = block("fine", depth_to_space(u, 2))
    return gained("log_scale", wide(convolution("out.conv", tenth(narrowing("out.narrow", u)), 4)))


def power(k: int) -> tuple[int, int]:
    """(m, e): the multiplier m 2^(e - 24)."""
    e, rest = divmod(k, 65536)
    i, f = divmod(rest, 256)
    # The integers nearest to 2^(24 + i / 256), by integer roots with many digits to spare.
    entries = [nearest_power(j) for j in (i, i + 1)]
    return (entries[0] * (256 - f) + entries[1] * f + 128) // 256, e


def nearest_power(i: int) -> int:
    """round(2^(24 + i / 256)): of 2^(24 * 256 + i), the 256th root, by bisection on integers."""
    target, low, high = 1 << (24 * 256 + i), 1 << 23, 1 << 26
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**256 <= target else (low, middle)
    return low if (2 * low + 1) ** 256 > target << 256 else low + 1


def eight_bits(k: int) -> tuple[int, int]:
    """(n, s): the multiplier n 2^-s."""
    m, e = power(k)
    return (m + 65536) // 131072, 7 - e


def multiply(x: Array, multiplier: int, shift: int) -> Array:
    return (x * multiplier + (1 << (shift - 1))) >> shift


def depth_to_space(x: Array, r: int) -> Array:
    c, rows, columns = x.shape
    out = np.zeros((c // r**2, r * rows, r * columns), np.int64)
    for dy in range(r):
        for dx in range(r):
            out[:, dy::r, dx::r] = x[r * dy + dx :: r**2]
    return out


def layer(
    weights: NativeWeights, name: str, x: Array, level: int, gain: int = 0, part: str = "integer"
) -> Array:
    """x (I, H, W) -> (O, H, W)."""
    weight = weights.tensors[f"{part}.{name}.weight"].astype(np.int64)
    shift = weights.tensors[f"{part}.{name}.shift"].astype(np.int64) - gain
    bias = knots(weights, f"{name}.bias", level, part)
    half = (1 << (shift - 1))[:, None, None]
    return (correlate(weight, x) + bias[:, None, None] + half) >> shift[:, None, None]


def correlate(weight: Array, x: Array) -> Array:
    """The cross-correlation of x (I, H, W) with (O, I, k, k), zeros outside."""
    kernel = weight.shape[2]
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (kernel // 2,) * 2, (kernel // 2,) * 2))
    out = np.zeros((len(weight), height, width), np.int64)
    for dy in range(kernel):
        for dx in range(kernel):
            out += np.einsum(
                "oi,ihw->ohw", weight[:, :, dy, dx], padded[:, dy : dy + height, dx : dx + width]
            )
    return out


def knots(weights: NativeWeights, name: str, level: int, part: str = "integer") -> Array:
    """A knot table at a quality level."""
    table = weights.tensors[f"{part}.{name}"].astype(np.int64)
    k, f = divmod(level, 500)
    return table[k] if f == 0 else (table[k] * (500 - f) + table[k + 1] * f + 250) // 500


def leaky(v: Array) -> Array:
    return np.clip(np.maximum(v, v // 8), -127, 127)


def tenth(v: Array) -> Array:
    c = np.clip(v, -1250, 127)
    return np.maximum(c, (13 * c + 64) // 128)


def wide(v: Array) -> Array:
    return np.clip(v, -32767, 32767)
