"""What an integer synthesis may be made of: every bound, just within it and just past it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.layer import IntegerLayer, NarrowLayer
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.knots import KNOTS, OCTAVE
from latentcodec.nn.native.integer_synthesis import IntegerSynthesis, table_shapes
from latentcodec.weights.native import NativeWeights


def parts_of(weights: NativeWeights) -> tuple[dict[str, Any], dict[str, Any]]:
    """Layers and tables of the shipped synthesis."""
    names = (*table_shapes(weights.config.transform), "log_table")
    tables = {name: weights.tensors[f"synthesis.{name}"] for name in names}
    return weights.synthesis_layers(), tables


def test_missing_and_unexpected_layers_are_refused(weights: NativeWeights) -> None:
    layers, tables = parts_of(weights)
    config, engine = weights.config.transform, NumpyEngine()
    for name in layers:
        rest = {key: layer for key, layer in layers.items() if key != name}
        with pytest.raises(InvalidWeights, match=f"synthesis.layers: missing .*{name}"):
            IntegerSynthesis(config, rest, tables, engine)
    with pytest.raises(InvalidWeights, match=r"unexpected \['blocks.9.conv1'\]"):
        IntegerSynthesis(config, layers | {"blocks.9.conv1": layers["in.conv"]}, tables, engine)


def test_layers_of_other_sizes_and_past_their_bounds_are_refused(weights: NativeWeights) -> None:
    layers, tables = parts_of(weights)

    def check(name: str, layer: IntegerLayer | NarrowLayer, message: str) -> None:
        with pytest.raises(InvalidWeights, match=f"synthesis.{name}: {message}"):
            IntegerSynthesis(weights.config.transform, layers | {name: layer}, tables, NumpyEngine())

    for name in ("in.conv", "blocks.1.conv2", "up.conv", "fine.conv1", "out.conv"):
        layer = layers[name]
        check(name, replace(layer, weight=layer.weight[:, :-1]), "weight .* are not")
        check(name, replace(layer, gain=layer.gain + 1), "weight .* and gain")
        check(name, replace(layer, shift=layer.shift * 0 + 23), "shifts 23 to 23 are outside")
        check(name, replace(layer, bias=layer.bias + (1 << 23)), "an accumulator can reach")
    for name in ("in.narrow", "blocks.0.narrow", "up.narrow", "fine.narrow", "out.narrow"):
        layer = layers[name]
        check(name, replace(layer, bias=layer.bias[:, 1:]), "bias .* are not")
        check(name, replace(layer, shift=layer.shift * 0), "shifts 0 to 0 are outside 1 to 22")
        check(name, replace(layer, bias=layer.bias - (1 << 23)), "a sum can reach")


NARROW = ("input_log_gain", "stream_log_gain", "log_scale")  # multipliers of eight bits
LINEAR = ("skip", "lapping.planes.0", "lapping.planes.1", "lapping.planes.2")


def bad_tables() -> Iterator[tuple[str, Callable[[Any], Any], str]]:
    """Name of a table, what happens to it, and what is said."""
    for name in ("log_gain", *NARROW, *LINEAR):
        yield name, lambda t: t[1:], f"{name}: int.*not integers"
        yield name, lambda t: t[..., None], f"{name}: int.*not integers"
        yield name, lambda t: t.astype(np.float32), f"{name}: float32.*not integers"
        yield name, lambda t: t.astype(np.uint32), f"{name}: uint32.*not integers"
    for name, lowest, highest in (
        ("log_gain", -16 * OCTAVE, 24 * OCTAVE - 1),
        *((name, -15 * OCTAVE, 7 * OCTAVE - 1) for name in NARROW),
    ):
        for knot in (0, 4, KNOTS - 1):
            for value in (lowest - 1, highest + 1, np.iinfo(np.int32).min, np.iinfo(np.int32).max):
                yield name, with_value(knot, value), f"{name}: shifts .* are outside 1 to"
    for name in LINEAR:
        # 2^33 in all, with coefficients up to 2^19, would be 2^52.
        yield name, lambda t: with_sum(t, 1 << 33), f"{name}: a sum can reach 4503599627370496, past"
        yield name, lambda t: np.full(t.shape, np.iinfo(np.int64).min), f"{name}: a sum can reach"
    yield "log_table", lambda t: t[1:], "log_table: .*not integers"
    yield "log_table", with_value_of_all(32767), r"log_table: .*32768 is outside 0\.\.32767"
    yield "log_table", lambda t: -t, "log_table: .*is outside"


def with_value_of_all(most: int) -> Callable[[Any], Any]:
    """A table that reaches one more than this."""
    return lambda table: table.astype(np.int32) * 0 + most + 1


def with_value(knot: int, value: int) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        changed = table.copy()
        changed[knot, -1] = value
        return changed

    return change


def with_sum(table: Any, total: int) -> Any:
    """Magnitudes with this sum, of both signs."""
    changed = np.full(table.shape, total // table.size, np.int64)
    changed.flat[0] += total - int(changed.sum())
    return changed * np.where(np.arange(table.size) % 2, -1, 1).reshape(table.shape)


def test_bad_tables_are_refused(weights: NativeWeights) -> None:
    layers, tables = parts_of(weights)
    config, engine = weights.config.transform, NumpyEngine()
    for name, change, message in bad_tables():
        with pytest.raises(InvalidWeights, match=message):
            IntegerSynthesis(config, layers, tables | {name: change(tables[name])}, engine)


def test_tables_at_their_bounds_are_not(weights: NativeWeights) -> None:
    layers, tables = parts_of(weights)
    for name, *values in (
        ("log_gain", -16 * OCTAVE, 24 * OCTAVE - 1),
        *((name, -15 * OCTAVE, 7 * OCTAVE - 1) for name in NARROW),
    ):
        for value in values:
            other = tables | {name: np.full_like(tables[name], value)}
            IntegerSynthesis(weights.config.transform, layers, other, NumpyEngine())
    for name in ("skip", "lapping.planes.0"):
        other = tables | {name: with_sum(tables[name], (1 << 33) - 1)}
        IntegerSynthesis(weights.config.transform, layers, other, NumpyEngine())
