"""Trainable integer layers: the integers of what they export, with gradients straight through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.layer import Activation, IntegerLayer, LayerSpec, NarrowLayer, NarrowSpec
from latentcodec.nn.integer import (
    TRAINING,
    TrainableIntegerConv,
    TrainableNarrow,
    activate,
    layer_tensors,
    leaky_clamp,
    round_half_up,
    tenth_clamp,
    trainable_layer,
)
from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL
from latentcodec.weights.native import NativeWeights
from tests.nn.exact import reference_engine
from tests.nn.exact.engine_cases import narrow_layer, random_layer
from tests.nn.exact.reference_engine import ReferenceEngine

REFERENCE = ReferenceEngine()


def specified(layer: IntegerLayer | NarrowLayer, x: Tensor, level: int) -> Tensor:
    """docs/model.md, "Layers": x (1, I, H, W) -> (1, O, H, W), int64."""
    found = REFERENCE.layer(layer)(x[0].permute(1, 2, 0).long().numpy(), level)
    return torch.from_numpy(found).permute(2, 0, 1)[None]


def at(level: int) -> Tensor:
    return torch.tensor([float(level)])


def trained_like(
    seed: int, gain: int, kernel: int, exact: bool, activation: Activation | None = None
) -> TrainableIntegerConv:
    torch.manual_seed(seed)
    layer = TrainableIntegerConv(20, 24, kernel, gain=gain, activation=activation, exact=exact)
    with torch.no_grad():
        layer.conv.weight.mul_(10 ** (torch.rand(24, 1, 1, 1) * 3 - 2))  # rows of all sizes
        layer.conv.weight[5] = 0
        layer.bias.copy_(torch.randn_like(layer.bias) * 4)
    return layer


def check_like_export(layer: TrainableIntegerConv | TrainableNarrow, x: Tensor) -> None:
    """At the knots to the bit, between them nearly."""
    exported = layer.export()
    for level in range(0, MAX_LEVEL + 1, LEVELS_PER_KNOT):
        assert torch.equal(layer(x, at(level)).long(), specified(exported, x, level)), level
    # Between the knots both interpolate rounded biases, training in floats and the decoder in integers: a sum
    # in the middle of two integers may fall on either side, no further.
    for level in (1, 130, 1777, 3999):
        difference = (layer(x, at(level)).long() - specified(exported, x, level)).abs()
        assert difference.max() <= 1
        assert difference.float().mean() < 0.02


@pytest.mark.parametrize("activation", [None, *Activation])
@pytest.mark.parametrize(
    ("gain", "kernel", "exact"), [(0, 3, False), (0, 1, False), (2, 1, True), (4, 3, False)]
)
def test_export_computes_the_same_values_as_training(
    gain: int, kernel: int, exact: bool, activation: Activation | None
) -> None:
    layer = trained_like(kernel, gain, kernel, exact, activation)
    exported = layer.export()
    exported.validate("layer")
    assert exported.activation is (activation or Activation.WIDE)
    assert exported.gain == gain
    x = torch.randint(-127, 128, (1, 20, 7, 9), generator=torch.Generator().manual_seed(kernel)).float()
    check_like_export(layer, x if activation else x // 8)  # no activation, no clamp: within wide ones


@pytest.mark.parametrize("activation", Activation)
def test_a_narrowing_computes_the_same_values_as_training(activation: Activation) -> None:
    layer = TrainableNarrow(13, activation)
    with torch.no_grad():
        layer.bias.normal_(0, 20, generator=torch.Generator().manual_seed(3))
    x = torch.randint(-32767, 32768, (1, 13, 8, 9), generator=torch.Generator().manual_seed(2)).float()
    check_like_export(layer, x // 4)
    check_like_export(layer, x.sign() * 32767)
    exported = layer.export()
    exported.check_spec("layer", NarrowSpec(13, activation))
    assert exported.activation is activation
    assert exported.shift.tolist() == [4] * 13  # a wide unit is worth 1/256, a narrow one 1/16


@pytest.mark.parametrize("gain", [0, 2])
def test_a_held_layer_computes_what_holds_it(gain: int) -> None:
    """Shifts that its own weights would not choose are kept."""
    held = random_layer(3, 20, 24, 3, gain, Activation.TENTH)
    layer = TrainableIntegerConv(20, 24, 3, gain=gain, activation=Activation.TENTH)
    layer.hold(held)
    again = layer.export()
    for part in ("weight", "bias", "shift"):
        assert np.array_equal(getattr(again, part), getattr(held, part))
    x = torch.randint(-127, 128, (1, 20, 5, 6), generator=torch.Generator().manual_seed(1)).float()
    for level in range(0, MAX_LEVEL + 1, LEVELS_PER_KNOT):
        assert torch.equal(layer(x, at(level)).long(), specified(held, x, level))


def test_a_held_narrowing_computes_what_holds_it() -> None:
    held = narrow_layer(3, 7, Activation.CLAMP)
    layer = TrainableNarrow(7, Activation.CLAMP)
    layer.hold(held)
    again = layer.export()
    assert np.array_equal(again.bias, held.bias)
    assert np.array_equal(again.shift, held.shift)
    x = torch.randint(-9000, 9000, (1, 7, 5, 6), generator=torch.Generator().manual_seed(1)).float()
    for level in range(0, MAX_LEVEL + 1, LEVELS_PER_KNOT):
        assert torch.equal(layer(x, at(level)).long(), specified(held, x, level))


def test_the_shipped_layers_can_be_held(weights: NativeWeights) -> None:
    random = torch.Generator().manual_seed(1)
    for name, held in weights.synthesis_layers().items():
        if isinstance(held, NarrowLayer):
            layer = trainable_layer(NarrowSpec(len(held.shift), held.activation))
            x = torch.randint(-9000, 9000, (1, len(held.shift), 2, 3), generator=random).float()
        else:
            outputs, inputs, kernel, _ = held.weight.shape
            layer = trainable_layer(LayerSpec(inputs, outputs, kernel, held.gain, held.activation))
            x = torch.randint(-127, 128, (1, inputs, 2, 3), generator=random).float()
        layer.hold(held)  # type: ignore[arg-type]
        assert torch.equal(layer(x, at(2500)).long(), specified(held, x, 2500)), name


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


def activated(x: Tensor, activation: Activation) -> Tensor:
    return torch.from_numpy(reference_engine.activate(x.numpy(), activation))


@pytest.mark.parametrize("activation", Activation)
def test_activations(activation: Activation) -> None:
    x = torch.cat([torch.arange(-40_000, 40_000), torch.tensor([-(1 << 22), 1 << 22])])
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(activate(x.to(dtype), activation).long(), activated(x, activation))


def test_the_tenth_is_near_a_tenth_and_has_its_gradient() -> None:
    x = torch.arange(-1250.0, 128, requires_grad=True)
    out = tenth_clamp(x)
    assert (out - torch.nn.functional.leaky_relu(x, 0.1)).abs().max() < 2.5
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.allclose(x.grad[x < -5], torch.tensor(13 / 128))
    assert torch.equal(x.grad[(x > 0) & (x < 127)], torch.ones(126))


def test_operations_of_training_are_those_of_engines() -> None:
    random = torch.Generator().manual_seed(4)
    narrow = torch.randint(-127, 128, (2, 8, 3, 4), generator=random)
    wide = torch.randint(-32767, 32768, (2, 8, 3, 4), generator=random)
    small = torch.randint(-300, 300, (2, 8, 3, 4), generator=random)

    def by_position(x: Tensor) -> Any:
        return x.long().permute(0, 2, 3, 1).numpy()

    def check(found: Tensor, expected: Any) -> None:
        assert np.array_equal(by_position(found), np.stack(expected))

    for change in (wide, small):
        check(
            TRAINING.add_wide(wide.float(), change.float()),
            [REFERENCE.add_wide(*each) for each in zip(by_position(wide), by_position(change), strict=True)],
        )
        check(
            TRAINING.add_leaky(narrow.float(), change.float()),
            [
                REFERENCE.add_leaky(*each)
                for each in zip(by_position(narrow), by_position(change), strict=True)
            ],
        )
    check(TRAINING.shuffle(wide.float()), [REFERENCE.shuffle(each) for each in by_position(wide)])
    check(
        TRAINING.join([narrow.float(), wide.float()]),
        [REFERENCE.join(list(each)) for each in zip(by_position(narrow), by_position(wide), strict=True)],
    )


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


def test_tensors_of_layers_have_their_names_in_a_file() -> None:
    layers = nn.ModuleDict(
        {
            "blocks/0/conv1": trained_like(1, 0, 3, exact=False, activation=Activation.TENTH),
            "out/narrow": TrainableNarrow(6, Activation.CLAMP),
        }
    )
    tensors = layer_tensors(layers, "synthesis.")
    assert {name: (array.dtype.name, array.shape) for name, array in tensors.items()} == {
        "synthesis.blocks.0.conv1.weight": ("int8", (24, 20, 3, 3)),
        "synthesis.blocks.0.conv1.bias": ("int32", (KNOTS, 24)),
        "synthesis.blocks.0.conv1.shift": ("int8", (24,)),
        "synthesis.out.narrow.bias": ("int32", (KNOTS, 6)),
        "synthesis.out.narrow.shift": ("int8", (6,)),
    }
    with torch.no_grad():
        layers["blocks/0/conv1"].bias.fill_(1e6)  # type: ignore[operator, union-attr]
    with pytest.raises(InvalidWeights, match=r"blocks\.0\.conv1: an accumulator can reach"):
        layer_tensors(layers, "synthesis.")
