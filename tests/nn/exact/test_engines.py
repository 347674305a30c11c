"""Every engine's layers compute the integers of docs/model.md: random, extreme, and at the bounds."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.nn.exact import torch_engine
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import (
    ACCUMULATOR_LIMIT,
    MAX_SHIFT,
    WIDE_LIMIT,
    Activation,
    IntegerLayer,
    NarrowLayer,
)
from latentcodec.nn.exact.torch_engine import multiplies_int8
from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL
from latentcodec.weights.native import NativeWeights
from tests.nn.exact.engine_cases import (
    CPU,
    NAMES,
    ON_CPU,
    REFERENCE,
    RIGHT,
    check_layer,
    mixed,
    narrow_layer,
    narrow_maps,
    random_layer,
    wide_maps,
)
from tests.nn.exact.reference_engine import Array


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.tuples(st.integers(1, 40), st.integers(1, 20)),
    st.sampled_from([1, 3]),
    st.sampled_from([0, 2, 4]),
    st.sampled_from(Activation),
    st.tuples(st.integers(1, 7), st.integers(1, 40)),
    st.integers(0, MAX_LEVEL),
)
@pytest.mark.parametrize("name", NAMES)
def test_any_valid_layer_is_exact(
    name: str,
    seed: int,
    channels: tuple[int, int],
    kernel: int,
    gain: int,
    activation: Activation,
    size: tuple[int, int],
    level: int,
) -> None:
    layer = random_layer(seed, *channels, kernel, gain, activation)
    layer.validate("layer")
    check_layer(ON_CPU[name], layer, narrow_maps(seed, (*size, channels[0])), level)


@pytest.mark.parametrize("activation", Activation)
def test_narrowings_are_exact(engine: Engine[Any], activation: Activation) -> None:
    for seed in range(3):
        layer = narrow_layer(seed, 37, activation)
        check_layer(engine, layer, wide_maps(seed, (3, 5, 37)), 0, 777, MAX_LEVEL)


@pytest.mark.parametrize("activation", Activation)
def test_every_value_that_an_activation_may_get(engine: Engine[Any], activation: Activation) -> None:
    """A narrowing by a shift of 1 of all wide numbers twice, and of far more by its bias."""
    for offset in (0, 1 << 22, -(1 << 22)):
        layer = NarrowLayer(np.full((KNOTS, 64), offset, np.int32), np.ones(64, np.int8), activation)
        x = np.arange(-WIDE_LIMIT - 1, WIDE_LIMIT + 1).clip(-WIDE_LIMIT).reshape(32, 32, 64)
        check_layer(engine, layer, iter([x]), 123)


@dataclass(frozen=True)
class Case:
    """A layer at a level, a map and what comes of it."""

    layer: IntegerLayer | NarrowLayer
    level: int
    x: Array
    expected: Array


@pytest.fixture(scope="module")
def shipped_cases(weights: NativeWeights) -> list[Case]:
    return cases_of(weights)


def cases_of(weights: NativeWeights) -> list[Case]:
    cases = []
    for layer in (*weights.layers().values(), *weights.synthesis_layers().values()):
        specified = REFERENCE.layer(layer)
        for level in (0, 1999, MAX_LEVEL):
            if isinstance(layer, NarrowLayer):
                maps = wide_maps(level, (3, 2, len(layer.shift)))
            else:
                maps = narrow_maps(level, (3, 2, layer.weight.shape[1]))
            cases += [Case(layer, level, x, specified(x, level)) for x in maps]
    return cases


def test_the_shipped_layers_are_exact(engine: Engine[Any], shipped_cases: list[Case]) -> None:
    with engine.settings():
        for case in shipped_cases:
            found = engine.to_array(engine.layer(case.layer)(engine.to_map(case.x), case.level))
            assert np.array_equal(found, case.expected)


def at_the_bound(kernel: int, shift: int) -> IntegerLayer:
    """Weights of 127 and biases that bring sums to the bound, on both sides of where they round."""
    inputs = 519 if kernel == 1 else 57
    sign = np.where(np.arange(66) % 2, -1, 1)
    weight = np.tile(127 * sign[:, None, None, None], (1, inputs, kernel, kernel)).astype(np.int8)
    half = 1 << shift - 1
    room = ACCUMULATOR_LIMIT - 1 - 127 * 127 * inputs * kernel**2 - half
    assert room > 0
    # From the bound downwards, past the last number that rounds otherwise.
    bias = sign * (room - np.arange(66) // 2 * max(1, (half + 8) // 32))
    return IntegerLayer(
        weight, np.tile(bias, (KNOTS, 1)).astype(np.int32), np.full(66, shift, np.int8), 0, Activation.WIDE
    )


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("shift", [8, 9, 14])
def test_sums_at_the_bound_are_exact(engine: Engine[Any], kernel: int, shift: int) -> None:
    layer = at_the_bound(kernel, shift)
    layer.validate("layer")
    assert int(layer.bound().max()) == ACCUMULATOR_LIMIT - 1
    maps = [np.full((4, 5, layer.weight.shape[1]), value) for value in (127, -127)]
    maps.append(mixed(1, maps[0].shape, 127, extreme=True))
    check_layer(engine, layer, iter(maps), 0, 333)


@pytest.mark.parametrize("shift", [1, 8, MAX_SHIFT])
def test_narrowings_at_the_bound_are_exact(engine: Engine[Any], shift: int) -> None:
    half = 1 << shift - 1
    most = ACCUMULATOR_LIMIT - 1 - WIDE_LIMIT - half
    bias = np.concatenate([most - np.arange(40), np.arange(40) - most]).astype(np.int32)
    layer = NarrowLayer(np.tile(bias, (KNOTS, 1)), np.full(80, shift, np.int8), Activation.WIDE)
    maps = [np.full((1, 2, 80), value) for value in (WIDE_LIMIT, -WIDE_LIMIT)]
    check_layer(engine, layer, iter([*maps, mixed(4, (3, 3, 80), WIDE_LIMIT)]), 0)


@pytest.mark.parametrize("size", [(3, 1500), (700, 3), (33, 65), (1, 1), (2, 1025), (513, 1)])
def test_wide_and_tall_maps_are_cut_into_strips_without_seams(
    engine: Engine[Any], size: tuple[int, int]
) -> None:
    for kernel in (1, 3):
        layer = random_layer(3, 4, 5, kernel, activation=Activation.TENTH)
        check_layer(engine, layer, iter([mixed(2, (*size, 4), 127)]), 77)
    check_layer(engine, narrow_layer(3, 4), iter([mixed(2, (*size, 4), WIDE_LIMIT)]), 77)


def test_a_bias_is_of_its_level_whatever_was_asked_before(engine: Engine[Any]) -> None:
    x = mixed(1, (2, 3, 12), 127)
    levels = (0, 1, 499, 500, 501, 4000, 0, 2222, 500)
    check_layer(engine, random_layer(8), iter([x]), *levels)
    check_layer(engine, narrow_layer(8, 12), iter([100 * x]), *levels)


def test_threads_may_share_an_engine(engine: Engine[Any]) -> None:
    layer = random_layer(4, 12, 9, 3)
    ours, specified, x = engine.layer(layer), REFERENCE.layer(layer), mixed(3, (40, 40, 12), 127)
    levels = [LEVELS_PER_KNOT * knot + 99 * knot % 7 for knot in range(8)]
    expected = {level: specified(x, level) for level in levels}
    right: list[bool] = []

    def work(first: int) -> None:
        with engine.settings():
            for level in levels[first:] + levels[:first]:
                right.append(np.array_equal(engine.to_array(ours(engine.to_map(x), level)), expected[level]))

    workers = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert right == [True] * 4 * len(levels)


def test_engines_say_what_they_are(engine: Engine[Any]) -> None:
    assert engine.name
    assert {engine: 1}[engine] == 1
    names = {name: each.name for name, each in ON_CPU.items()}
    assert names == {
        "numpy": "numpy",
        "torch float32": "torch float32 (cpu)",
        "torch int8": "torch int8 (cpu)",
    }


def test_int8_is_for_processors_that_add_in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """By capability first: products without VNNI may be right too, but slow; then tried."""
    tried = multiplies_int8.__wrapped__
    monkeypatch.setattr(torch_engine, "_cpu_has_vnni", lambda: False)
    assert not tried(CPU)
    monkeypatch.setattr(torch_engine, "_cpu_has_vnni", lambda: True)
    assert tried(CPU) == RIGHT

    def saturating(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """What x86 has without VNNI: unsigned times signed, pairs added in saturating 16 bits."""
        unsigned, signed = a.long() + 128, b.long()
        pairs = unsigned[:, ::2, None] * signed[None, ::2] + unsigned[:, 1::2, None] * signed[None, 1::2]
        return (pairs.clamp(-32768, 32767).sum(1) - 128 * signed.sum(0)).int()

    def refusing(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not for this device")

    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not tried(CPU)
    monkeypatch.setattr(torch, "_int_mm", refusing)
    assert not tried(CPU)
    monkeypatch.delattr(torch, "_int_mm")
    assert not tried(CPU)
