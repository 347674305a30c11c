"""Layers and maps for tests of engines."""

from __future__ import annotations

from typing import Any

import numpy as np

from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import ACCUMULATOR_LIMIT, MAX_SHIFT, Activation, IntegerLayer, NarrowLayer
from latentcodec.nn.knots import KNOTS
from tests.nn.exact.reference_engine import ReferenceEngine

REFERENCE = ReferenceEngine()
SIZES = [(1, 1), (1, 9), (9, 1), (4, 4), (5, 7), (3, 2), (13, 11)]
Array = np.ndarray[Any, np.dtype[np.int64]]


def random_layer(
    seed: int, inputs: int, outputs: int, kernel: int, activation: Activation, gain: int = 0
) -> IntegerLayer:
    """A valid layer whose outputs pass the activation's limits now and then."""
    random = np.random.default_rng(seed)
    products = inputs * kernel**2
    most = min(127, int(ACCUMULATOR_LIMIT / (127 * products * 0.6)))
    bits = np.log2(0.33 * 127 * most * products**0.5) - (14 if activation is Activation.WIDE else 7)
    shift = int(bits) + random.integers(-1, 4, outputs) + gain
    return IntegerLayer(
        random.integers(-most, most + 1, (outputs, inputs, kernel, kernel), np.int8),
        random.integers(-50_000, 50_000, (KNOTS, outputs), np.int32),
        np.clip(shift, gain + 1, MAX_SHIFT).astype(np.int8),
        gain,
        activation,
    )


def narrow_map(seed: int, height: int, width: int, channels: int) -> Array:
    return np.random.default_rng(seed).integers(-127, 128, (height, width, channels))


def wide_map(seed: int, height: int, width: int, channels: int) -> Array:
    """Numbers of all magnitudes, with both limits among them."""
    random = np.random.default_rng(seed)
    x = random.integers(-32767, 32768, (height, width, channels)) >> random.integers(0, 13, channels)
    x.flat[:2] = (-32767, 32767)[: x.size]
    return x


def check_layer(engine: Engine[Any], layer: IntegerLayer | NarrowLayer, x: Array, level: int = 0) -> None:
    if isinstance(layer, IntegerLayer):
        layer.validate("layer")
    out = engine.layer(layer)(engine.to_map(x), level)
    np.testing.assert_array_equal(engine.to_array(out), REFERENCE.layer(layer)(x, level))
