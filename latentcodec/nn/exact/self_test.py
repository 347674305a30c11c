"""Whether an engine computes what it should on this machine: extreme and mixed maps, beside int64.

    engine ─► layers with the largest sums, all activations, sums, products, samples ─► as defined, or not

It takes some milliseconds. tests/nn/exact compares engines with a reference at length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import (
    ACCUMULATOR_LIMIT,
    ACTIVATION_LIMIT,
    TENTH_BITS,
    TENTH_FACTOR,
    TENTH_LOWEST,
    WEIGHT_LIMIT,
    WIDE_LIMIT,
    Activation,
    IntegerLayer,
    NarrowLayer,
)
from latentcodec.nn.knots import KNOTS, Longs

__all__ = ["computes_right"]

Map = TypeVar("Map")
Pair = tuple[NDArray[Any], Longs]  # what an engine computes, and what it should
Draw = Callable[[int, int, tuple[int, ...]], Longs]  # numbers from one to another, both included

INPUTS, OUTPUTS = 57, 17  # 57 * 9 products of 127 * 127 stay just below the limit
EXTREME_SHIFT = 8  # what is just below the limit comes to 32767


def computes_right(engine: Engine[Map]) -> bool:
    """Whether it does. What it raises on the way is no answer, and is raised here."""
    draw = _drawing()
    mixed = (part(engine, draw) for part in (_convolutions, _narrowings, _sums, _samples))
    alike = (np.array_equal(*pair) for pair in chain(_extremes(engine), chain.from_iterable(mixed)))
    return all(alike)


def _drawing() -> Draw:
    """Numbers mixed well enough for this: importing numpy.random takes longer than all tests."""
    drawn = 0

    def draw(low: int, high: int, shape: tuple[int, ...]) -> Longs:
        nonlocal drawn
        count = int(np.prod(shape))
        mixed = np.arange(drawn + 1, drawn + count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9) >> np.uint64(33)
        drawn += count
        return mixed.astype(np.int64).reshape(shape) % (high + 1 - low) + low

    return draw


def _convolution(
    engine: Engine[Map], x: Longs, weight: Longs, bias: Longs, shift: Longs, activation: Activation
) -> Pair:
    layer = engine.layer(IntegerLayer(weight, np.tile(bias, (KNOTS, 1)), shift, 0, activation))
    right = _activated(_shifted(_products(x, weight) + bias, shift), activation)
    return engine.to_array(layer(engine.to_map(x), 0)), right


def _extremes(engine: Engine[Map]) -> Iterator[Pair]:
    x = np.full((5, 6, INPUTS), ACTIVATION_LIMIT)
    x[0], x[1, 1:3, ::2] = -ACTIVATION_LIMIT, -ACTIVATION_LIMIT
    sign = np.where(np.arange(OUTPUTS) % 2, -1, 1)
    for kernel in (1, 3):
        weight = np.tile(WEIGHT_LIMIT * sign[:, None, None, None], (1, INPUTS, kernel, kernel))
        sums = WEIGHT_LIMIT * ACTIVATION_LIMIT * INPUTS * kernel**2
        room = ACCUMULATOR_LIMIT - 1 - sums - (1 << EXTREME_SHIFT - 1)
        shift = np.full(OUTPUTS, EXTREME_SHIFT)
        yield _convolution(engine, x, weight, room * sign, shift, Activation.WIDE)


def _convolutions(engine: Engine[Map], draw: Draw) -> Iterator[Pair]:
    x = draw(-ACTIVATION_LIMIT, ACTIVATION_LIMIT, (6, 5, 19))
    for kernel, activation, weights, shifts in (
        (3, Activation.TENTH, WEIGHT_LIMIT, (6, 10)),
        (1, Activation.LEAKY, WEIGHT_LIMIT, (5, 9)),
        (3, Activation.CLAMP, WEIGHT_LIMIT, (7, 11)),
        (3, Activation.WIDE, 3, (1, 2)),  # all bits of a sum are seen
        (1, Activation.WIDE, 9, (1, 2)),
    ):
        weight = draw(-weights, weights, (5, 19, kernel, kernel))
        bias, shift = draw(-9999, 9999, (5,)), draw(*shifts, (5,))
        yield _convolution(engine, x, weight, bias, shift, activation)


def _narrowings(engine: Engine[Map], draw: Draw) -> Iterator[Pair]:
    x = _wide(draw, 3, 3, 17)
    bias, shift = draw(-999, 999, (17,)), draw(1, 11, (17,))
    for activation in Activation:
        layer = engine.layer(NarrowLayer(np.tile(bias, (KNOTS, 1)), shift, activation))
        yield engine.to_array(layer(engine.to_map(x), 0)), _activated(_shifted(x + bias, shift), activation)


def _sums(engine: Engine[Map], draw: Draw) -> Iterator[Pair]:
    x, change = _wide(draw, 3, 3, 17), _wide(draw, 3, 3, 17)
    total = engine.add_wide(engine.to_map(x), engine.to_map(change))
    yield engine.to_array(total), _activated(x + change, Activation.WIDE)
    narrow = _activated(x, Activation.CLAMP)
    total = engine.add_leaky(engine.to_map(narrow), engine.to_map(change))
    clamped = _activated(narrow + change, Activation.CLAMP)
    yield engine.to_array(total), _activated(clamped, Activation.LEAKY)
    multiplier, shift = draw(1, 256, (17,)), draw(1, 22, (17,))
    multiplier[0], shift[0] = 256, 22
    product = engine.multiply_wide(engine.to_map(x), multiplier, shift)
    yield engine.to_array(product), _activated(_shifted(x * multiplier, shift), Activation.WIDE)


def _samples(engine: Engine[Map], draw: Draw) -> Iterator[Pair]:
    exact, change = draw(-(1 << 23), 1 << 23, (1, 2, 192)), _wide(draw, 2, 4, 48)
    multiplier, shift = draw(1, 1 << 21, (192,)), np.full(192, 29)
    patches = _shifted(exact * multiplier, shift)
    coarse = patches.reshape(1, 2, 3, 8, 8).transpose(0, 3, 1, 4, 2).reshape(8, 16, 3)
    fine = change.reshape(2, 4, 3, 4, 4).transpose(0, 3, 1, 4, 2).reshape(8, 16, 3)
    product = engine.multiply_exact(engine.exact_map(exact), multiplier, shift, 1 << 22)
    for bits in (8, 16):
        most = (1 << bits) - 1
        samples = ((coarse + fine + 255 * 128) * most + 255 * 128) // (255 * 256)
        yield engine.samples(product, engine.to_map(change), bits), np.clip(samples, 0, most)


def _wide(draw: Draw, *shape: int) -> Longs:
    """A map of numbers small and large, both limits among them."""
    x = draw(-WIDE_LIMIT, WIDE_LIMIT, shape) >> draw(0, 11, shape[2:])
    x[0, 0], x[0, 1] = WIDE_LIMIT, -WIDE_LIMIT
    return x


def _products(x: Longs, weight: Longs) -> Longs:
    """sum(weight * input), zeros outside."""
    height, width, _ = x.shape
    edge = weight.shape[-1] // 2
    padded = np.zeros((height + 2 * edge, width + 2 * edge, x.shape[2]), np.int64)
    padded[edge : edge + height, edge : edge + width] = x
    total = np.zeros((height, width, len(weight)), np.int64)
    for dy, dx in np.ndindex(weight.shape[2:]):
        total += padded[dy : dy + height, dx : dx + width] @ weight[:, :, dy, dx].T
    return total


def _shifted(total: Longs, shift: Longs) -> Longs:
    """floor((total + 2^(s-1)) / 2^s)."""
    shifted: Longs = (total + (np.int64(1) << shift - 1)) >> shift
    return shifted


def _activated(v: Longs, activation: Activation) -> Longs:
    match activation:
        case Activation.WIDE:
            return np.clip(v, -WIDE_LIMIT, WIDE_LIMIT)
        case Activation.LEAKY:
            v = np.maximum(v, v >> 3)
        case Activation.TENTH:
            v = np.maximum(v, TENTH_LOWEST)
            v = np.maximum(v, (TENTH_FACTOR * v + (1 << TENTH_BITS - 1)) >> TENTH_BITS)
    return np.clip(v, -ACTIVATION_LIMIT, ACTIVATION_LIMIT)
