"""Engines, layers and maps for tests of all engines alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from latentcodec.nn.exact import torch_engine
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import WIDE_LIMIT, Activation, IntegerLayer, NarrowLayer
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.exact.torch_engine import TorchEngine
from latentcodec.nn.knots import KNOTS
from tests.nn.exact.reference_engine import Array, ReferenceEngine

CPU = torch.device("cpu")
REFERENCE = ReferenceEngine()
ON_CPU: dict[str, Engine[Any]] = {
    "numpy": NumpyEngine(),
    "torch float32": TorchEngine(CPU),
    "torch int8": TorchEngine(CPU, int8=True),
}


def int8_products_are_right() -> bool:
    """Quick they are with VNNI alone, and then chosen; right in more places, and tested there."""
    try:
        return hasattr(torch, "_int_mm") and torch_engine._right(CPU)
    except RuntimeError:
        return False


RIGHT = int8_products_are_right()
wrong_int8 = pytest.mark.skipif(not RIGHT, reason="this PyTorch has no right int8 products on this processor")
NAMES = [pytest.param(name, marks=wrong_int8) if name == "torch int8" else name for name in ON_CPU]


def random_layer(
    seed: int,
    inputs: int = 12,
    outputs: int = 8,
    kernel: int = 3,
    gain: int = 0,
    activation: Activation = Activation.WIDE,
) -> IntegerLayer:
    """A valid layer of no special kind."""
    random = np.random.default_rng(seed)
    return IntegerLayer(
        random.integers(-127, 128, (outputs, inputs, kernel, kernel), np.int8),
        random.integers(-100_000, 100_000, (KNOTS, outputs), np.int32),
        random.integers(gain + 1, 15, outputs, np.int8),
        gain,
        activation,
    )


def narrow_layer(seed: int, channels: int = 6, activation: Activation = Activation.TENTH) -> NarrowLayer:
    """A valid narrowing of no special kind."""
    random = np.random.default_rng(seed)
    return NarrowLayer(
        random.integers(-40_000, 40_000, (KNOTS, channels), np.int32),
        random.integers(1, 10, channels, np.int8),
        activation,
    )


def mixed(seed: int, shape: tuple[int, ...], limit: int, *, extreme: bool = False) -> npt.NDArray[np.int64]:
    """Integers within +-limit, small and large ones; or the limits alone."""
    random = np.random.default_rng(seed)
    if extreme:
        return random.choice([-limit, limit], shape)
    spread = 2.0 ** random.uniform(0, np.log2(limit + 1), shape)
    return (random.uniform(-1, 1, shape) * spread).round().astype(np.int64).clip(-limit, limit)


def narrow_maps(seed: int, shape: tuple[int, int, int]) -> Iterator[Array]:
    yield mixed(seed, shape, 127)
    yield mixed(seed, shape, 127, extreme=True)
    for value in (127, -127):
        yield np.full(shape, value)


def wide_maps(seed: int, shape: tuple[int, int, int]) -> Iterator[Array]:
    yield mixed(seed, shape, WIDE_LIMIT)
    yield mixed(seed + 1, shape, 300)  # where activations bend
    yield mixed(seed, shape, WIDE_LIMIT, extreme=True)


def check_layer(
    engine: Engine[Any], layer: IntegerLayer | NarrowLayer, maps: Iterator[Array], *levels: int
) -> None:
    ours, specified = engine.layer(layer), REFERENCE.layer(layer)
    for x in maps:
        for level in levels:
            with engine.settings():
                found = engine.to_array(ours(engine.to_map(x), level))
            assert np.issubdtype(found.dtype, np.integer)
            assert np.array_equal(found, specified(x, level))


def exact_array(engine: Engine[Any], x: Any) -> npt.NDArray[np.int64]:
    """The integers of an exact map."""
    floats = np.asarray(x.cpu() if isinstance(x, torch.Tensor) else x)
    assert np.array_equal(floats, np.rint(floats))
    return floats.astype(np.int64)
