"""Integer layers: exact against int64, within the proved bound at its worst, equal to training's values."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from latentcodec.errors import InvalidWeights
from latentcodec.nn.integer import (
    ACCUMULATOR_LIMIT,
    ACTIVATION_LIMIT,
    IntegerLayer,
    TrainableIntegerConv,
    interpolate_integers,
    leaky_clamp,
    round_half_up,
)
from latentcodec.nn.layers import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL
from latentcodec.nn.native.integer_model import RunnableLayer
from latentcodec.weights.native import NativeWeights

CPU = torch.device("cpu")


def specified(layer: IntegerLayer, x: Tensor, level: int) -> Tensor:
    """docs/model.md, "Layers", written out in int64: x (1, I, H, W) -> (1, O, H, W)."""
    weight = layer.weight.long()
    _, _, kernel, _ = weight.shape
    padded = F.pad(x.long(), (kernel // 2,) * 4)
    height, width = x.shape[2:]
    accumulator = torch.zeros((1, weight.shape[0], height, width), dtype=torch.int64)
    for dy in range(kernel):
        for dx in range(kernel):
            window = padded[:, :, dy : dy + height, dx : dx + width]
            accumulator += (weight[None, :, :, dy, dx, None, None] * window[:, None]).sum(2)
    knot, rest = divmod(level, 500)
    bias = layer.bias[knot].long()
    if rest:
        bias = (bias * (500 - rest) + layer.bias[knot + 1].long() * rest + 250) // 500
    shift = (layer.shift.long() - layer.gain)[None, :, None, None]
    return (accumulator + bias[None, :, None, None] + (1 << (shift - 1))) >> shift


def accumulator_of(layer: RunnableLayer, x: Tensor, level: int) -> Tensor:
    """What a layer sums up before it scales: floor and scale switched off. float32."""
    unscaled = replace(layer, scale=torch.ones_like(layer.scale))
    # floor(a + 1/2) is a for integers a.
    return unscaled(x, level)


def worst_input(layer: IntegerLayer, row: int, sign: int) -> Tensor:
    """A 3x3 (or 1x1) patch whose middle drives a row's accumulator as far as any input can."""
    weight = layer.weight[row].float().sign() * sign * ACTIVATION_LIMIT
    return weight[None]  # cross-correlation: the patch lies as the weights do


@pytest.fixture(scope="module")
def layers(weights: NativeWeights) -> dict[str, IntegerLayer]:
    return weights.layers()


def random_layer(
    seed: int, inputs: int = 12, outputs: int = 8, kernel: int = 3, gain: int = 0
) -> IntegerLayer:
    random = torch.Generator().manual_seed(seed)
    return IntegerLayer(
        torch.randint(-127, 128, (outputs, inputs, kernel, kernel), generator=random, dtype=torch.int8),
        torch.randint(-100_000, 100_000, (KNOTS, outputs), generator=random, dtype=torch.int32),
        torch.randint(gain + 1, 15, (outputs,), generator=random, dtype=torch.int8),
        gain,
    )


def test_shipped_layers_are_within_the_proved_bound(layers: dict[str, IntegerLayer]) -> None:
    for name, layer in layers.items():
        layer.validate(name)
        # The bound from docs/model.md, computed another way.
        for row in range(0, layer.weight.shape[0], 7):
            weight = int(layer.weight[row].long().abs().sum())
            half = 1 << (int(layer.shift[row]) - layer.gain - 1)
            reach = 127 * weight + int(layer.bias[:, row].long().abs().max()) + half
            assert reach == int(layer.bound()[row]) < 1 << 23, (name, row)


def test_worst_inputs_attain_the_bound_and_are_exact(layers: dict[str, IntegerLayer]) -> None:
    for name, layer in layers.items():
        runnable = RunnableLayer.prepare(layer, CPU, torch.float32)
        row = int(layer.bound().argmax())
        knot = int(layer.bias[:, row].long().abs().argmax())
        level = knot * LEVELS_PER_KNOT
        bias = int(layer.bias[knot, row])
        x = worst_input(layer, row, 1 if bias >= 0 else -1)
        middle = x.shape[-1] // 2
        reached = int(accumulator_of(runnable, x, level)[0, row, middle, middle])
        half = 1 << (int(layer.shift[row]) - layer.gain - 1)
        assert abs(reached) + half == int(layer.bound()[row]), name
        assert torch.equal(runnable(x, level).long(), specified(layer, x, level)), name


@pytest.mark.parametrize("level", [0, 250, 1999, MAX_LEVEL])
def test_shipped_layers_are_exact_on_extreme_inputs(layers: dict[str, IntegerLayer], level: int) -> None:
    random = torch.Generator().manual_seed(level)
    for name, layer in layers.items():
        inputs = layer.weight.shape[1]
        noise = torch.randint(-127, 128, (1, inputs, 5, 6), generator=random).float()
        for x in (noise, 127 * noise.sign(), torch.full_like(noise, 127), torch.full_like(noise, -127)):
            out = RunnableLayer.prepare(layer, CPU, torch.float32)(x, level)
            assert out.dtype == torch.float32
            assert torch.equal(out.long(), specified(layer, x, level)), name
            assert torch.equal(out, out.round())
            in_int64 = RunnableLayer.prepare(layer, CPU, torch.int64)(x.long(), level)
            assert torch.equal(out.long(), in_int64), name


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([0, 2]),
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    st.integers(0, MAX_LEVEL),
)
def test_any_valid_layer_is_exact(
    seed: int, inputs: int, kernel: int, gain: int, size: tuple[int, int], level: int
) -> None:
    layer = random_layer(seed, inputs, 8, kernel, gain)
    layer.validate("layer")
    x = torch.randint(-127, 128, (1, inputs, *size), generator=torch.Generator().manual_seed(seed)).float()
    out = RunnableLayer.prepare(layer, CPU, torch.float32)(x, level)
    assert torch.equal(out.long(), specified(layer, x, level))


def test_wide_and_tall_planes_are_cut_into_strips_without_seams() -> None:
    layer = random_layer(3, 4, 5)
    runnable = RunnableLayer.prepare(layer, CPU, torch.float32)
    for size in ((3, 1500), (700, 3), (33, 65)):
        x = torch.randint(-127, 128, (1, 4, *size), generator=torch.Generator().manual_seed(1)).float()
        assert torch.equal(runnable(x, 77).long(), specified(layer, x, 77))


def bad_layers() -> dict[str, tuple[IntegerLayer, str]]:
    good = random_layer(5)
    heavy = torch.full((8, 600, 3, 3), 127, dtype=torch.int8)
    low, high = good.shift.clone(), good.shift.clone()
    low[3], high[3] = 0, 23
    minus = good.weight.clone()
    minus[2, 1, 0, 0] = -128
    return {
        "weight past 127": (replace(good, weight=minus), "magnitude 128"),
        "wide weight": (replace(good, weight=good.weight.short() * 300), "limit of 127"),
        "accumulator": (replace(good, weight=heavy), "past the bound of 8388608"),
        "bias": (replace(good, bias=good.bias + (1 << 23)), "past the bound of 8388608"),
        "shift too small": (replace(good, shift=low), "shifts 0 to"),
        "shift too large": (replace(good, shift=high), "to 23 are outside 1 to 22"),
        "shift under the gain": (replace(good, gain=int(good.shift.min())), "are outside"),
        "bias of other knots": (replace(good, bias=good.bias[1:]), "do not fit together"),
        "shift of other rows": (replace(good, shift=good.shift[1:]), "do not fit together"),
        "flat weight": (replace(good, weight=good.weight.flatten(1)), "do not fit together"),
        "float weight": (replace(good, weight=good.weight.float() + 0.5), "torch.float32"),
        "float bias": (replace(good, bias=good.bias.half()), "torch.float16"),
        "float shift": (replace(good, shift=good.shift.double()), "torch.float64"),
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
    bias = good.bias.long()
    bias += torch.where(bias >= 0, 1, -1) * room
    replace(good, bias=bias).validate("layer")
    assert int(replace(good, bias=bias).bound().max()) == ACCUMULATOR_LIMIT - 1
    with pytest.raises(InvalidWeights):
        replace(good, bias=bias + bias.sign()).validate("layer")


def trained_like(seed: int, gain: int, kernel: int, exact: bool) -> TrainableIntegerConv:
    torch.manual_seed(seed)
    layer = TrainableIntegerConv(20, 24, kernel, gain=gain, exact=exact)
    with torch.no_grad():
        layer.conv.weight.mul_(10 ** (torch.rand(24, 1, 1, 1) * 3 - 2))  # rows of all sizes
        layer.conv.weight[5] = 0
        layer.bias.copy_(torch.randn_like(layer.bias) * 4)
    return layer


@pytest.mark.parametrize(("gain", "kernel", "exact"), [(0, 3, False), (0, 1, False), (2, 1, True)])
def test_export_computes_the_same_values_as_training(gain: int, kernel: int, exact: bool) -> None:
    layer = trained_like(kernel, gain, kernel, exact)
    exported = layer.export()
    exported.validate("layer")
    x = torch.randint(-127, 128, (1, 20, 7, 9)).float()
    for level in range(0, MAX_LEVEL + 1, LEVELS_PER_KNOT):
        ours = layer(x, torch.tensor([float(level)])).long()
        assert torch.equal(ours, specified(exported, x, level)), level
    # Between the knots training rounds the interpolated bias, the integers interpolate the rounded ones: the
    # accumulators differ by at most 1, so a value may fall on the other side of a rounding step, no further.
    for level in (1, 130, 1777, 3999):
        ours = layer(x, torch.tensor([float(level)])).long()
        difference = (ours - specified(exported, x, level)).abs()
        assert difference.max() <= 1
        assert difference.float().mean() < 0.02


def test_training_and_no_grad_compute_the_same() -> None:
    layer = trained_like(4, 0, 3, exact=False)
    x, level = torch.randint(-127, 128, (2, 20, 6, 6)).float(), torch.tensor([100.0, 3000.0])
    with torch.no_grad():
        quiet = layer(x, level)
    assert not quiet.requires_grad
    assert torch.equal(layer(x, level), quiet)


def test_gradients_pass_straight_through() -> None:
    layer = trained_like(9, 0, 1, exact=False)
    x = torch.randint(-60, 60, (2, 20, 4, 4)).float().requires_grad_()
    layer(x, torch.tensor([0.0, 4000.0])).sum().backward()
    rounded = torch.floor(layer.conv.weight * 2 ** layer.exponents()[:, None, None, None] + 0.5)
    expected = (rounded / 2 ** layer.exponents()[:, None, None, None]).sum(0).flatten()
    assert torch.allclose(x.grad[0, :, 0, 0], expected, atol=1e-5)  # type: ignore[index]
    assert layer.bias.grad is not None
    assert layer.bias.grad[[0, -1]].abs().min() > 0
    assert layer.bias.grad[1:-1].abs().max() == 0


def test_huge_weights_still_export_within_the_bounds() -> None:
    layer = TrainableIntegerConv(400, 8, 3)
    with torch.no_grad():
        layer.conv.weight.fill_(0.9)
    layer.export().validate("layer")
    with torch.no_grad():
        layer.conv.weight.fill_(100)  # shift 1 is not enough: refused, not wrapped
    with pytest.raises(InvalidWeights):
        layer.export().validate("layer")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.int64])
def test_leaky_clamp(dtype: torch.dtype) -> None:
    x = torch.arange(-3000, 3000)
    x = torch.cat([x, torch.tensor([-(1 << 22), 1 << 22, -(1 << 22) + 1])])
    expected = torch.maximum(x, torch.div(x, 8, rounding_mode="floor")).clamp(-127, 127)
    out = leaky_clamp(x.to(dtype))
    assert out.dtype == dtype
    assert torch.equal(out.long(), expected)


def test_halves_round_up() -> None:
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5, -0.51, 0.49])
    assert round_half_up(x).tolist() == [-1, 0, 1, 2, 3, -1, 0]


def test_integer_interpolation() -> None:
    table = torch.tensor([[k * 1000 - 4000, -7 * k] for k in range(KNOTS)], dtype=torch.int32)
    assert interpolate_integers(table, 0).tolist() == [-4000, 0]
    assert interpolate_integers(table, MAX_LEVEL).tolist() == [4000, -56]
    for level in range(0, MAX_LEVEL + 1, 9):
        first, second = interpolate_integers(table, level).tolist()
        assert first == -4000 + 2 * level
        assert second == (-7 * level + 250) // 500
