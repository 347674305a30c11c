"""Trainable counterparts of exact integer layers (nn/exact): the same integers, with gradients.

    float parameters ─► rounded in every forward pass ─► the integers that a file is decoded with
    gradients: those of the identity where something is rounded ("straight through")

Activations and weights are integers carried in floating point. `export` gives the exact layers, and `hold`
makes a trainable layer compute with the shifts of an exported one.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.nn.exact.layer import (
    ACCUMULATOR_LIMIT,
    ACTIVATION_BITS,
    ACTIVATION_LIMIT,
    TENTH_BITS,
    TENTH_FACTOR,
    TENTH_LOWEST,
    WEIGHT_LIMIT,
    WIDE_BITS,
    WIDE_LIMIT,
    Activation,
    IntegerLayer,
    LayerSpec,
    NarrowLayer,
    NarrowSpec,
)
from latentcodec.nn.knots import KNOTS
from latentcodec.nn.layers import interpolate_knots


class _RoundHalfUp(torch.autograd.Function):
    """floor(x + 1/2) with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.floor(x + 0.5)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def round_half_up(x: Tensor) -> Tensor:
    """floor(x + 1/2), straight-through in the backward pass."""
    result: Tensor = _RoundHalfUp.apply(x)  # type: ignore[no-untyped-call]
    return result


class _FloorEighth(torch.autograd.Function):
    """floor(x / 8) with the gradient of x / 8."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.floor(x * 0.125)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 0.125


def leaky_clamp(x: Tensor) -> Tensor:
    """The nonlinearity: max(x, floor(x / 8)) clamped to -127..127; integers to integers, of any dtype."""
    eighth = _FloorEighth.apply(x) if x.is_floating_point() else x >> 3  # type: ignore[no-untyped-call]
    return clamp(torch.maximum(x, eighth))


def clamp(x: Tensor) -> Tensor:
    """Clamp to the range of activations."""
    return x.clamp(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


def tenth_clamp(x: Tensor) -> Tensor:
    """max(c, floor((13 c + 64) / 128)) of c = x clamped to -1250..127: integers in floating point."""
    c = x.clamp(TENTH_LOWEST, ACTIVATION_LIMIT)
    return torch.maximum(c, round_half_up(c * (TENTH_FACTOR / (1 << TENTH_BITS))))


def activate(x: Tensor, activation: Activation) -> Tensor:
    """An activation of integers in floating point."""
    match activation:
        case Activation.LEAKY:
            return leaky_clamp(x)
        case Activation.TENTH:
            return tenth_clamp(x)
        case Activation.CLAMP:
            return clamp(x)
        case Activation.WIDE:
            return x.clamp(-WIDE_LIMIT, WIDE_LIMIT)


class TrainableIntegerConv(nn.Module):
    """A convolution trained with its quantisation in the loop.

    Input and output hold integers in floating point, worth 2^-ACTIVATION_BITS. `gain` makes the output worth
    2^-(ACTIVATION_BITS + gain) per unit instead. Without an activation the output is not clamped.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        gain: int = 0,
        activation: Activation | None = None,
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(KNOTS, outputs))
        self.gain, self.activation = gain, activation
        self.exact = exact  # keep float32 under autocast: for outputs wider than 8 bits
        self._held: Tensor | None = None

    @torch.no_grad()
    def exponents(self) -> Tensor:
        """(O,) the largest power of two per row that keeps weights and accumulators within their limits."""
        if self._held is not None:
            return self._held
        weight = self.conv.weight.float()
        largest = weight.abs().amax((1, 2, 3)).clamp(min=1e-6)
        slack = weight[0].numel() * ACTIVATION_LIMIT / 2 + 2
        reach = weight.abs().sum((1, 2, 3)) * ACTIVATION_LIMIT
        reach = reach + self.bias.abs().amax(0) * 2**ACTIVATION_BITS + 1
        limit = torch.minimum(WEIGHT_LIMIT / largest, (ACCUMULATOR_LIMIT - slack) / reach)
        return torch.floor(torch.log2(limit)).clamp(self.gain + 1, 14)

    @torch.no_grad()
    def hold(self, layer: IntegerLayer) -> None:
        """Compute what `layer` does, with its shifts, whatever the weights would choose."""
        shift = torch.from_numpy(layer.shift.astype("f4")).to(self.bias.device)
        scale = torch.exp2(-shift)
        weight = torch.from_numpy(layer.weight.astype("f4")).to(scale.device)
        self.conv.weight.copy_(weight * scale[:, None, None, None])
        self.bias.copy_(
            torch.from_numpy(layer.bias.astype("f4")).to(scale.device) * (scale * 2**-ACTIVATION_BITS)
        )
        self._held = shift

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        shifted = self.shifted(x, level)
        return shifted if self.activation is None else activate(shifted, self.activation)

    def shifted(self, x: Tensor, level: Tensor) -> Tensor:
        """The output before its activation."""
        scale = torch.exp2(self.exponents())
        weight = round_half_up(self.conv.weight * scale[:, None, None, None])
        weight = weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        with torch.autocast(x.device.type, enabled=False) if self.exact else nullcontext():
            accumulator = F.conv2d(x, weight, padding=self.conv.padding).float()
        knots = round_half_up(self.bias * (scale * 2**ACTIVATION_BITS))
        bias = round_half_up(interpolate_knots(knots, level))
        return round_half_up((accumulator + bias) * (2.0**self.gain / scale)[None, :, None, None])

    @torch.no_grad()
    def export(self) -> IntegerLayer:
        """The integers of this layer."""
        shift = self.exponents()
        scale = torch.exp2(shift)
        weight = torch.floor(self.conv.weight * scale[:, None, None, None] + 0.5)
        bias = torch.floor(self.bias * (scale * 2**ACTIVATION_BITS) + 0.5)
        return IntegerLayer(
            weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT).to(torch.int8).cpu().numpy(),
            bias.to(torch.int32).cpu().numpy(),
            shift.to(torch.int8).cpu().numpy(),
            self.gain,
            self.activation or Activation.WIDE,
        )


class TrainableNarrow(nn.Module):
    """Wide integers and a bias to narrow ones. How many units of a channel make a narrow one is fixed."""

    def __init__(self, channels: int, activation: Activation) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(KNOTS, channels))
        self.shift: Tensor
        self.register_buffer("shift", torch.full((channels,), float(WIDE_BITS - ACTIVATION_BITS)))
        self.activation = activation

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        bias = round_half_up(interpolate_knots(round_half_up(self.bias * 2**WIDE_BITS), level))
        return activate(
            round_half_up((x + bias) * torch.exp2(-self.shift)[None, :, None, None]), self.activation
        )

    @torch.no_grad()
    def hold(self, layer: NarrowLayer) -> None:
        """Compute what `layer` does."""
        self.bias.copy_(torch.from_numpy(layer.bias.astype("f4")) * 2**-WIDE_BITS)
        self.shift.copy_(torch.from_numpy(layer.shift.astype("f4")))

    @torch.no_grad()
    def export(self) -> NarrowLayer:
        """The integers of this layer."""
        return NarrowLayer(
            torch.floor(self.bias * 2**WIDE_BITS + 0.5).to(torch.int32).cpu().numpy(),
            self.shift.to(torch.int8).cpu().numpy(),
            self.activation,
        )


def trainable_layer(
    spec: LayerSpec | NarrowSpec, *, exact: bool = False
) -> TrainableIntegerConv | TrainableNarrow:
    """The trainable counterpart of a layer."""
    if isinstance(spec, NarrowSpec):
        return TrainableNarrow(spec.channels, spec.activation)
    return TrainableIntegerConv(
        spec.inputs, spec.outputs, spec.kernel, gain=spec.gain, activation=spec.activation, exact=exact
    )


class TrainingOperations:
    """nn.native.entropy.MapOperations of tensors (B, C, h, w)."""

    @staticmethod
    def join(maps: Sequence[Tensor]) -> Tensor:
        """All channels."""
        return torch.cat(list(maps), 1)

    @staticmethod
    def shuffle(x: Tensor) -> Tensor:
        """Depth to space."""
        return F.pixel_shuffle(x, 2)

    @staticmethod
    def add_wide(stream: Tensor, change: Tensor) -> Tensor:
        """The sum, clamped to be wide."""
        return activate(stream + change, Activation.WIDE)

    @staticmethod
    def add_leaky(h: Tensor, change: Tensor) -> Tensor:
        """leaky(clamp(h + change))."""
        return leaky_clamp(clamp(h + change))


TRAINING = TrainingOperations()


def layer_tensors(layers: nn.ModuleDict, prefix: str = "integer.") -> dict[str, Any]:
    """The integers of trainable layers, as arrays under their names in a file.

    Raises InvalidWeights past a bound.
    """
    tensors: dict[str, Any] = {}
    for name, layer in layers.items():
        stored = name.replace("/", ".")
        if isinstance(layer, TrainableNarrow):
            narrow = layer.export()
            parts: dict[str, Any] = {"bias": narrow.bias, "shift": narrow.shift}
        else:
            integers = cast(TrainableIntegerConv, layer).export()
            integers.validate(stored)
            parts = {"weight": integers.weight, "bias": integers.bias, "shift": integers.shift}
        tensors |= {f"{prefix}{stored}.{part}": array for part, array in parts.items()}
    return tensors
