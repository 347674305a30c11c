"""An engine written from docs/model.md alone, in numpy's int64: it judges all others.

Maps are int64 arrays (H, W, C). Nothing is fast, and nothing can round or overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from latentcodec.nn.exact.layer import Activation, IntegerLayer, NarrowLayer

Array = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer[Any]]


class ReferenceEngine:
    """latentcodec.nn.exact.engine.Engine, as it is specified."""

    name = "reference"
    serial = False

    def settings(self) -> AbstractContextManager[None]:
        return nullcontext()

    def layer(self, layer: IntegerLayer | NarrowLayer) -> Callable[[Array, int], Array]:
        shift = layer.shift.astype(np.int64)
        if isinstance(layer, NarrowLayer):
            return lambda x, level: activate(
                shifted(x + at_level(layer.bias, level), shift), layer.activation
            )
        return lambda x, level: activate(
            shifted(correlate(x, layer.weight) + at_level(layer.bias, level), shift - layer.gain),
            layer.activation,
        )

    def to_map(self, integers: Integers) -> Array:
        return integers.astype(np.int64)

    def to_array(self, x: Array) -> Array:
        return x

    def join(self, maps: Sequence[Array]) -> Array:
        return np.concatenate(maps, 2)

    def shuffle(self, x: Array) -> Array:
        return depth_to_space(x, 2)

    def add_wide(self, stream: Array, change: Array) -> Array:
        return np.clip(stream + change, -32767, 32767)

    def add_leaky(self, h: Array, change: Array) -> Array:
        return activate(np.clip(h + change, -127, 127), Activation.LEAKY)

    def multiply_wide(self, x: Array, multiplier: Integers, shift: Integers) -> Array:
        return self.multiply_exact(x, multiplier, shift, 32767)

    def exact_map(self, integers: Integers) -> Array:
        return integers.astype(np.int64)

    def multiply_exact(self, x: Array, multiplier: Integers, shift: Integers, limit: int) -> Array:
        return np.clip(shifted(x * multiplier.astype(np.int64), shift.astype(np.int64)), -limit, limit)

    def exact_convolution(self, planes: Sequence[Integers]) -> Callable[[Array], Array]:
        ends = np.cumsum([weight.shape[1] for weight in planes])[:-1]

        def run(x: Array) -> Array:
            parts = np.split(x, ends, 2)
            return np.concatenate([correlate(p, w) for p, w in zip(parts, planes, strict=True)], 2)

        return run

    def add_exact(self, x: Array, change: Array) -> Array:
        return x + change

    def samples(self, x: Array, change: Array, bits: int) -> npt.NDArray[np.uint16]:
        most = (1 << bits) - 1
        total = depth_to_space(x, 8) + depth_to_space(change, 4)
        return np.clip(((total + 32640) * most + 32640) // 65280, 0, most).astype(np.uint16)


def correlate(x: Array, weight: Integers) -> Array:
    """x (H, W, I), zeros outside, weight (O, I, k, k) -> (H, W, O)."""
    height, width, _ = x.shape
    kernel = weight.shape[-1]
    padded = np.pad(x, ((kernel // 2,) * 2, (kernel // 2,) * 2, (0, 0)))
    out = np.zeros((height, width, len(weight)), np.int64)
    for dy in range(kernel):
        for dx in range(kernel):
            out += padded[dy : dy + height, dx : dx + width] @ weight[:, :, dy, dx].astype(np.int64).T
    return out


def at_level(table: Integers, level: int) -> Array:
    """A knot table (9, C) at a quality level."""
    k, f = divmod(level, 500)
    values = table.astype(np.int64)
    return values[k] if f == 0 else (values[k] * (500 - f) + values[k + 1] * f + 250) // 500


def shifted(x: Array, shift: Array) -> Array:
    """floor((x + 2^(s-1)) / 2^s)."""
    return (x + (1 << (shift - 1))) >> shift


def activate(v: Array, activation: Activation) -> Array:
    if activation is Activation.CLAMP:
        return np.clip(v, -127, 127)
    if activation is Activation.WIDE:
        return np.clip(v, -32767, 32767)
    if activation is Activation.LEAKY:
        return np.clip(np.maximum(v, v // 8), -127, 127)
    c = np.clip(v, -1250, 127)
    return np.maximum(c, (13 * c + 64) // 128)


def depth_to_space(x: Array, r: int) -> Array:
    """Channel r^2 c + r dy + dx at (y, x) becomes channel c at (r y + dy, r x + dx)."""
    height, width, channels = x.shape
    out = np.zeros((r * height, r * width, channels // r**2), np.int64)
    for dy in range(r):
        for dx in range(r):
            out[dy::r, dx::r] = x[:, :, r * dy + dx :: r**2]
    return out
