"""What a layer's integers may be: the proved bound, at its worst and just past it, and every error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.layer import (
    ACCUMULATOR_LIMIT,
    ACTIVATION_LIMIT,
    MAX_SHIFT,
    WIDE_LIMIT,
    Activation,
    IntegerLayer,
    LayerSpec,
    NarrowLayer,
    NarrowSpec,
)
from latentcodec.nn.knots import KNOTS
from latentcodec.weights.native import NativeWeights
from tests.nn.exact.engine_cases import narrow_layer, random_layer


def test_shipped_layers_are_within_the_proved_bound(weights: NativeWeights) -> None:
    layers = {**weights.layers(), **weights.synthesis_layers()}
    convolutions = {name: layer for name, layer in layers.items() if isinstance(layer, IntegerLayer)}
    assert len(convolutions) > 20
    for name, layer in convolutions.items():
        layer.validate(name)
        # The bound from docs/model.md, computed another way.
        for row in range(0, len(layer.weight), 7):
            weight = sum(abs(value) for value in layer.weight[row].reshape(-1).tolist())
            half = 1 << (int(layer.shift[row]) - layer.gain - 1)
            bias = max(abs(value) for value in layer.bias[:, row].tolist())
            assert ACTIVATION_LIMIT * weight + bias + half == int(layer.bound()[row]) < 1 << 23, (name, row)


@pytest.mark.parametrize(("kernel", "gain"), [(1, 0), (3, 0), (1, 4), (3, 2)])
def test_worst_inputs_attain_the_bound_and_no_others_pass_it(kernel: int, gain: int) -> None:
    layer = random_layer(7, kernel=kernel, gain=gain)
    weight = layer.weight.astype(np.int64)
    half = 1 << (layer.shift.astype(np.int64) - gain - 1)
    for row in range(len(weight)):
        reached = []
        for knot in range(KNOTS):
            bias = int(layer.bias[knot, row])
            worst = ACTIVATION_LIMIT * np.sign(weight[row]) * (1 if bias >= 0 else -1)
            reached.append(abs(int((weight[row] * worst).sum()) + bias) + int(half[row]))
        assert max(reached) == int(layer.bound()[row])
    random = np.random.default_rng(1)
    x = random.integers(-127, 128, (200, *weight.shape[1:]))
    sums = np.tensordot(x, weight, ((1, 2, 3), (1, 2, 3)))[:, None] + layer.bias
    assert (np.abs(sums) + half <= layer.bound()).all()


def bad_layers() -> dict[str, tuple[IntegerLayer, str]]:
    good = random_layer(5)
    heavy = np.full((8, 600, 3, 3), 127, np.int8)
    low, high = good.shift.copy(), good.shift.copy()
    low[3], high[3] = 0, 23
    minus = good.weight.copy()
    minus[2, 1, 0, 0] = -128
    return {
        "weight past 127": (replace(good, weight=minus), "magnitude 128"),
        "wide weight": (replace(good, weight=good.weight.astype(np.int16) * 300), "limit of 127"),
        "accumulator": (replace(good, weight=heavy), "past the bound of 8388608"),
        "bias": (replace(good, bias=good.bias + (1 << 23)), "past the bound of 8388608"),
        "least of all biases": (
            replace(good, bias=np.full_like(good.bias, np.iinfo(np.int32).min)),
            "reach 21.*past the bound",
        ),
        **{
            f"bias {end}": (replace(good, bias=np.full(good.bias.shape, end)), "past 32 bits")
            for end in (np.iinfo(np.int64).min, np.iinfo(np.int64).max)  # whose sums would wrap around
        },
        "weight that wraps": (
            replace(good, weight=np.full(good.weight.shape, np.iinfo(np.int64).min)),
            "weight reaches a magnitude of 9223372036854775808, past 32 bits",
        ),
        "shift too small": (replace(good, shift=low), "shifts 0 to"),
        "negative shift": (replace(good, shift=-good.shift), "are outside 1 to 22"),
        "shift too large": (replace(good, shift=high), "to 23 are outside 1 to 22"),
        "shift under the gain": (replace(good, gain=int(good.shift.min())), "are outside"),
        "bias of other knots": (replace(good, bias=good.bias[1:]), "do not fit together"),
        "bias of other rows": (replace(good, bias=good.bias[:, 1:]), "do not fit together"),
        "shift of other rows": (replace(good, shift=good.shift[1:]), "do not fit together"),
        "flat weight": (replace(good, weight=good.weight.reshape(8, -1)), "do not fit together"),
        "float weight": (replace(good, weight=good.weight + np.float32(0.5)), "weight holds.*float32"),
        "float bias": (replace(good, bias=good.bias.astype(np.float32)), "bias holds.*float32"),
        "float shift": (replace(good, shift=good.shift.astype(float)), "shift holds 8 values of float64"),
        "unsigned weight": (replace(good, weight=good.weight.view(np.uint8)), "uint8, not integers"),
        "no rows": (
            replace(good, weight=good.weight[:0], bias=good.bias[:, :0], shift=good.shift[:0]),
            "0 values",
        ),
    }


@pytest.mark.parametrize("kind", bad_layers())
def test_validate_rejects(kind: str) -> None:
    layer, message = bad_layers()[kind]
    with pytest.raises(InvalidWeights, match=f"context0_in.*{message}"):
        layer.validate("context0_in")


def test_a_layer_at_the_very_bound_is_refused_and_one_below_it_is_not() -> None:
    good = random_layer(5)
    room = ACCUMULATOR_LIMIT - 1 - good.bound()
    away = np.where(good.bias >= 0, 1, -1)
    fits = replace(good, bias=good.bias + away * room)
    fits.validate("layer")
    assert int(fits.bound().max()) == ACCUMULATOR_LIMIT - 1
    with pytest.raises(InvalidWeights, match=f"reach {ACCUMULATOR_LIMIT}, past"):
        replace(fits, bias=fits.bias + away).validate("layer")


def test_a_layer_has_the_sizes_of_its_spec() -> None:
    layer = random_layer(2, inputs=5, outputs=4, kernel=3, gain=2)
    layer.check_spec("layer", LayerSpec(5, 4, 3, 2))
    for spec in (LayerSpec(4, 4, 3, 2), LayerSpec(5, 3, 3, 2), LayerSpec(5, 4, 1, 2), LayerSpec(5, 4, 3)):
        with pytest.raises(InvalidWeights, match=r"conv_in: weight \(4, 5, 3, 3\) and gain 2 are not"):
            layer.check_spec("conv_in", spec)
    bad = replace(layer, shift=layer.shift + 22)
    with pytest.raises(InvalidWeights, match=r"conv_in: shifts .* are outside 3 to 22"):
        bad.check_spec("conv_in", LayerSpec(5, 4, 3, 2))


def bad_narrow_layers() -> dict[str, tuple[NarrowLayer, str]]:
    good = narrow_layer(1)
    low, high = good.shift.copy(), good.shift.copy()
    low[0], high[0] = 0, MAX_SHIFT + 1
    return {
        "other channels": (narrow_layer(1, 5), r"bias \(9, 5\) and shift \(5,\) are not \(9, 6\) and \(6,\)"),
        "bias of other knots": (replace(good, bias=good.bias[1:]), "are not"),
        "bias of other channels": (replace(good, bias=good.bias[:, 1:]), "are not"),
        "shift of other channels": (replace(good, shift=good.shift[1:]), "are not"),
        "float bias": (replace(good, bias=good.bias.astype(np.float32)), "bias holds 54 values of float32"),
        "float shift": (replace(good, shift=good.shift.astype(np.float32)), "shift holds 6 values"),
        "nothing": (replace(good, bias=good.bias[:, :0], shift=good.shift[:0]), "0 values"),
        "shift too small": (replace(good, shift=low), "shifts 0 to"),
        "shift too large": (replace(good, shift=high), "to 23 are outside 1 to 22"),
        "bias that wraps": (
            replace(good, bias=np.full(good.bias.shape, np.iinfo(np.int64).min)),
            "past 32 bits",
        ),
        "bias": (replace(good, bias=good.bias + (1 << 23)), "a sum can reach .*past the bound of 8388608"),
    }


@pytest.mark.parametrize("kind", bad_narrow_layers())
def test_narrowings_that_are_refused(kind: str) -> None:
    layer, message = bad_narrow_layers()[kind]
    narrow_layer(1).check_spec("up.narrow", NarrowSpec(6, Activation.TENTH))
    with pytest.raises(InvalidWeights, match=f"up.narrow: .*{message}"):
        layer.check_spec("up.narrow", NarrowSpec(6, Activation.TENTH))


def test_a_narrowing_at_the_very_bound_is_refused_and_one_below_it_is_not() -> None:
    spec = NarrowSpec(2, Activation.CLAMP)
    for shift in (1, 4, MAX_SHIFT):
        most = ACCUMULATOR_LIMIT - 1 - WIDE_LIMIT - (1 << shift - 1)
        for sign in (1, -1):
            bias = np.zeros((KNOTS, 2), np.int32)
            bias[4, 1] = sign * most
            layer = NarrowLayer(bias, np.array([1, shift], np.int8), Activation.CLAMP)
            layer.check_spec("narrow", spec)
            bias[4, 1] += sign
            with pytest.raises(InvalidWeights, match=f"reach {ACCUMULATOR_LIMIT}, past"):
                layer.check_spec("narrow", spec)
