"""Exact integer networks by numpy alone.

    map (H, W, I), integers in float32 ─► strips of rows ─► neighbourhoods ─► product ─► shift, activation

A row's shift is a power of two and part of its weights: products and sums stay multiples of it, exact in
float32. A strip is small enough that what follows the product finds it in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from latentcodec.nn.exact.engine import Integers, Layer
from latentcodec.nn.exact.layer import (
    ACTIVATION_LIMIT,
    TENTH_BITS,
    TENTH_FACTOR,
    TENTH_LOWEST,
    WIDE_LIMIT,
    Activation,
    IntegerLayer,
    NarrowLayer,
)
from latentcodec.nn.knots import interpolate_integers

STRIP_POSITIONS = 512  # of a neighbourhood matrix

Floats = NDArray[np.floating[Any]]


class NumpyEngine:
    """The engine that needs nothing but numpy: float32 maps, float64 where they are exact."""

    name = "numpy"
    serial = False

    def settings(self) -> AbstractContextManager[None]:
        """As Engine says."""
        return nullcontext()

    def layer(self, layer: IntegerLayer | NarrowLayer) -> Layer[Floats]:
        """As Engine says."""
        return _narrowing(layer) if isinstance(layer, NarrowLayer) else _convolution(layer)

    def to_map(self, integers: Integers) -> Floats:
        """As Engine says."""
        return np.ascontiguousarray(integers, np.float32)

    def to_array(self, x: Floats) -> Integers:
        """As Engine says."""
        return x.astype(np.int32)

    def join(self, maps: Sequence[Floats]) -> Floats:
        """As Engine says."""
        return np.concatenate(maps, 2)

    def shuffle(self, x: Floats) -> Floats:
        """As Engine says."""
        height, width, channels = x.shape
        parts = x.reshape(height, width, channels // 4, 2, 2).transpose(0, 3, 1, 4, 2)
        return parts.reshape(2 * height, 2 * width, channels // 4)

    def add_wide(self, stream: Floats, change: Floats) -> Floats:
        """As Engine says."""
        return np.clip(stream + change, -WIDE_LIMIT, WIDE_LIMIT)

    def add_leaky(self, h: Floats, change: Floats) -> Floats:
        """As Engine says."""
        total = h + change
        np.clip(total, -ACTIVATION_LIMIT, ACTIVATION_LIMIT, total)
        activate(total, Activation.LEAKY)
        return total

    def multiply_wide(self, x: Floats, multiplier: Integers, shift: Integers) -> Floats:
        """As Engine says."""
        scaled = x * _scaled(multiplier, shift)
        return np.clip(_rounded(scaled), -WIDE_LIMIT, WIDE_LIMIT, scaled)

    def exact_map(self, integers: Integers) -> Floats:
        """As Engine says."""
        return np.ascontiguousarray(integers, np.float64)

    def multiply_exact(self, x: Floats, multiplier: Integers, shift: Integers, limit: int) -> Floats:
        """As Engine says."""
        scaled = x * _scaled(multiplier, shift, np.float64)
        return np.clip(_rounded(scaled), -limit, limit, scaled)

    def exact_convolution(self, planes: Sequence[Integers]) -> Callable[[Floats], Floats]:
        """As Engine says."""
        kernels = [weight.shape[-1] for weight in planes]
        matrices = [_matrix(weight, np.float64) for weight in planes]
        ends = np.cumsum([weight.shape[1] for weight in planes])[:-1]

        def run(x: Floats) -> Floats:
            parts = np.split(x, ends, 2)
            sums = [
                _in_strips(part, matrix, kernel, lambda product: None)
                for part, matrix, kernel in zip(parts, matrices, kernels, strict=True)
            ]
            return sums[0] if len(sums) == 1 else np.concatenate(sums, 2)

        return run

    def float_convolution(self, weight: Floats, bias: Floats | None = None) -> Callable[[Floats], Floats]:
        """A convolution of floats, for encoders: maps (H, W, I) to (H, W, O), zeros outside.

        weight: (O, I, k, k); bias: (O,).
        """
        matrix, kernel = _matrix(weight, np.float32), weight.shape[-1]

        def finish(product: Floats) -> None:
            if bias is not None:
                product += bias

        return lambda x: _in_strips(x, matrix, kernel, finish)

    def add_exact(self, x: Floats, change: Floats) -> Floats:
        """As Engine says."""
        return x + change

    def samples(self, x: Floats, change: Floats, bits: int) -> NDArray[np.uint16]:
        """As Engine says."""
        height, width = x.shape[:2]
        patches = x.astype(np.float32).reshape(height, width, 3, 8, 8).transpose(0, 3, 1, 4, 2)
        total = patches.reshape(8 * height, 8 * width, 3)
        fine = change.reshape(2 * height, 2 * width, 3, 4, 4).transpose(0, 3, 1, 4, 2)
        total += fine.reshape(total.shape)
        most = (1 << bits) - 1
        if bits == 8:
            total += 128 * 256  # 1/2 of 255 steps, and a half to round
            total *= 1 / 256
            np.floor(total, total)
            return np.clip(total, 0, most).astype(np.uint16)
        exact = total.astype(np.int64) + 255 * 128
        samples = (exact * most + 255 * 128) // (255 * 256)
        return np.clip(samples, 0, most).astype(np.uint16)


def activate(v: Floats, activation: Activation) -> None:
    """An activation of integers, in place."""
    match activation:
        case Activation.LEAKY:
            eighth = v * 0.125
            np.floor(eighth, eighth)
            np.maximum(v, eighth, out=v)
            np.clip(v, -ACTIVATION_LIMIT, ACTIVATION_LIMIT, v)
        case Activation.TENTH:
            np.clip(v, TENTH_LOWEST, ACTIVATION_LIMIT, v)
            np.maximum(v, _rounded(v * np.float32(TENTH_FACTOR / (1 << TENTH_BITS))), out=v)
        case Activation.CLAMP:
            np.clip(v, -ACTIVATION_LIMIT, ACTIVATION_LIMIT, v)
        case Activation.WIDE:
            np.clip(v, -WIDE_LIMIT, WIDE_LIMIT, v)


def _convolution(layer: IntegerLayer) -> Layer[Floats]:
    shift = layer.shift.astype(np.int64) - layer.gain
    scale = np.ldexp(1.0, -shift)
    matrix = (_matrix(layer.weight, np.float64) * scale).astype(np.float32)
    kernel = layer.weight.shape[-1]

    offset = offsets(layer, scale)

    def run(x: Floats, level: int) -> Floats:
        bias = offset(level)

        def finish(product: Floats) -> None:
            product += bias
            np.floor(product, product)
            activate(product, layer.activation)

        return _in_strips(x, matrix, kernel, finish)

    return run


def offsets(layer: IntegerLayer | NarrowLayer, scale: Floats) -> Callable[[int], Floats]:
    """Of a level what a layer adds before it rounds down: its bias in units of the output, and a half."""

    @lru_cache(maxsize=2)
    def offset(level: int) -> Floats:
        return (interpolate_integers(layer.bias, level) * scale + 0.5).astype(np.float32)

    return offset


def _narrowing(layer: NarrowLayer) -> Layer[Floats]:
    scale = np.ldexp(1.0, -layer.shift.astype(np.int64))
    factor = scale.astype(np.float32)

    offset = offsets(layer, scale)

    def run(x: Floats, level: int) -> Floats:
        bias, out = offset(level), np.empty_like(x)
        rows = max(1, STRIP_POSITIONS // x.shape[1])
        for top in range(0, len(x), rows):
            part = out[top : top + rows]
            np.multiply(x[top : top + rows], factor, part)
            part += bias
            np.floor(part, part)
            activate(part, layer.activation)
        return out

    return run


def _matrix(weight: NDArray[Any], dtype: type) -> Floats:
    """(O, I, k, k) -> (k * k * I, O), as neighbourhoods are laid out."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)), dtype)


def _in_strips(x: Floats, matrix: Floats, kernel: int, finish: Callable[[Floats], None]) -> Floats:
    """The product of x (H, W, I) and a matrix (k * k * I, O), strip by strip, each finished in place."""
    height, width, channels = x.shape
    out = np.empty((height, width, matrix.shape[1]), x.dtype)
    rows = min(height, max(1, STRIP_POSITIONS // width))
    if kernel == 3:
        neighbours = np.empty((rows * width, 9 * channels), x.dtype)
        padded = np.zeros((rows + 2, width + 2, channels), x.dtype)
        row, column, channel = padded.strides
        # The three neighbours of a row lie side by side.
        windows = as_strided(padded, (rows, width, 3, 3 * channels), (row, column, row, channel))
    for top in range(0, height, rows):
        count = min(rows, height - top)
        flat = out[top : top + count].reshape(count * width, -1)
        if kernel == 3:
            first, last = max(top - 1, 0), min(top + count + 1, height)
            padded[first - top + 1 : last - top + 1, 1:-1] = x[first:last]
            padded[last - top + 1 : count + 2] = 0
            gathered = neighbours[: count * width]
            gathered.reshape(count, width, 3, 3 * channels)[:] = windows[:count]
            np.matmul(gathered, matrix, flat)
        else:
            np.matmul(x[top : top + count].reshape(count * width, channels), matrix, flat)
        finish(flat)
    return out


def _scaled(multiplier: Integers, shift: Integers, dtype: type = np.float32) -> Floats:
    return np.ldexp(multiplier.astype(np.float64), -shift.astype(np.int64)).astype(dtype)


def _rounded(x: Floats) -> Floats:
    """floor(x + 1/2), in place."""
    x += 0.5
    return np.floor(x, x)
