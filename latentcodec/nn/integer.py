"""Convolutions in exact integer arithmetic, and their trainable counterparts.

    activations   integers in -127..127, worth 1/16 each, carried in float32
    weights       integers in -127..127; row r of a layer is worth 2^-shift[r]
    accumulator   sum of products + bias, an integer below 2^23 in magnitude (proved from the weights)
    output        floor(accumulator * 2^(gain - shift) + 1/2), then leaky_clamp or a plain clamp

Every product, partial sum and power-of-two scaling above is exact in float32, in any order of summation,
so ordinary matrix products give the same integers everywhere. `IntegerLayer` is what a file is decoded
with; `TrainableIntegerConv` computes the same values during training, with straight-through gradients.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.errors import InvalidWeights
from latentcodec.nn.layers import KNOTS, LEVELS_PER_KNOT, interpolate_knots

ACTIVATION_LIMIT = 127
WEIGHT_LIMIT = 127
ACTIVATION_BITS = 4  # fractional bits of an activation
ACCUMULATOR_LIMIT = 1 << 23
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)


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


@dataclass(frozen=True)
class IntegerLayer:
    """A convolution's integers.

    weight: (O, I, k, k); bias: (KNOTS, O); shift: (O,); all of integer dtypes.
    gain: extra left shift of the output.
    """

    weight: Tensor
    bias: Tensor
    shift: Tensor
    gain: int

    def bound(self) -> Tensor:
        """(O,) int64: the largest magnitude that a row's accumulator, rounding included, can reach."""
        products = self.weight.long().abs().sum((1, 2, 3)) * ACTIVATION_LIMIT
        half = torch.ones_like(products) << (self.shift.long() - self.gain - 1).clamp(min=0)
        return products + self.bias.long().abs().amax(0) + half

    def validate(self, name: str) -> None:
        """Raise InvalidWeights unless all values are in range and the 2^23 bound is proved."""
        for part, tensor in (("weight", self.weight), ("bias", self.bias), ("shift", self.shift)):
            if tensor.dtype not in INTEGERS or tensor.numel() == 0:
                raise InvalidWeights(
                    f"{name}: {part} holds {tensor.numel()} values of {tensor.dtype}, not integers"
                )
        out = self.weight.shape[0] if self.weight.ndim == 4 else None
        if self.bias.shape != (KNOTS, out) or self.shift.shape != (out,):
            raise InvalidWeights(
                f"{name}: weight {tuple(self.weight.shape)}, bias {tuple(self.bias.shape)} and shift "
                f"{tuple(self.shift.shape)} do not fit together"
            )
        largest = int(self.weight.long().abs().max())
        if largest > WEIGHT_LIMIT:
            raise InvalidWeights(
                f"{name}: a weight of magnitude {largest} is past the limit of {WEIGHT_LIMIT}"
            )
        low, high = int(self.shift.min()), int(self.shift.max())
        if low < self.gain + 1 or high > 22:
            raise InvalidWeights(f"{name}: shifts {low} to {high} are outside {self.gain + 1} to 22")
        reach = int(self.bound().max())
        if reach >= ACCUMULATOR_LIMIT:
            raise InvalidWeights(
                f"{name}: an accumulator can reach {reach}, past the bound of {ACCUMULATOR_LIMIT}"
            )


def interpolate_integers(table: Tensor, level: int) -> Tensor:
    """Linear interpolation of an integer knot table (KNOTS, ...) at an integer level, rounding halves up."""
    knot, rest = divmod(level, LEVELS_PER_KNOT)
    low = table[knot].long()
    if rest == 0:
        return low
    high = table[knot + 1].long()
    return torch.div(
        low * (LEVELS_PER_KNOT - rest) + high * rest + LEVELS_PER_KNOT // 2,
        LEVELS_PER_KNOT,
        rounding_mode="floor",
    )


class TrainableIntegerConv(nn.Module):
    """A convolution trained with its quantisation in the loop.

    Input and output hold integers in floating point, worth 2^-ACTIVATION_BITS. `gain` makes the output worth
    2^-(ACTIVATION_BITS + gain) per unit instead. No activation is applied.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, gain: int = 0, exact: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(KNOTS, outputs))
        self.gain = gain
        self.exact = exact  # keep float32 under autocast: for outputs wider than 8 bits

    @torch.no_grad()
    def exponents(self) -> Tensor:
        """(O,) the largest power of two per row that keeps weights and accumulators within their limits."""
        weight = self.conv.weight.float()
        largest = weight.abs().amax((1, 2, 3)).clamp(min=1e-6)
        slack = weight[0].numel() * ACTIVATION_LIMIT / 2 + 2
        reach = weight.abs().sum((1, 2, 3)) * ACTIVATION_LIMIT
        reach = reach + self.bias.abs().amax(0) * 2**ACTIVATION_BITS + 1
        limit = torch.minimum(WEIGHT_LIMIT / largest, (ACCUMULATOR_LIMIT - slack) / reach)
        return torch.floor(torch.log2(limit)).clamp(self.gain + 1, 14)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        scale = torch.exp2(self.exponents())
        weight = round_half_up(self.conv.weight * scale[:, None, None, None])
        weight = weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
        with torch.autocast(x.device.type, enabled=False) if self.exact else nullcontext():
            accumulator = F.conv2d(x, weight, padding=self.conv.padding).float()
        scale = scale[None, :, None, None]
        bias = round_half_up(interpolate_knots(self.bias, level) * (scale * 2**ACTIVATION_BITS))
        return round_half_up((accumulator + bias) * (2.0**self.gain / scale))

    @torch.no_grad()
    def export(self) -> IntegerLayer:
        """The integers of this layer."""
        shift = self.exponents()
        scale = torch.exp2(shift)
        weight = torch.floor(self.conv.weight * scale[:, None, None, None] + 0.5)
        bias = torch.floor(self.bias * (scale * 2**ACTIVATION_BITS) + 0.5)
        return IntegerLayer(
            weight.clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT).to(torch.int8),
            bias.to(torch.int32),
            shift.to(torch.int8),
            self.gain,
        )


def layer_tensors(layers: nn.ModuleDict) -> dict[str, Tensor]:
    """The integers of trainable layers, under their names in a file. Raises InvalidWeights past a bound."""
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        integers = cast(TrainableIntegerConv, layer).export()
        integers.validate(name)
        for part in ("weight", "bias", "shift"):
            tensors[f"integer.{name}.{part}"] = getattr(integers, part)
    return tensors
