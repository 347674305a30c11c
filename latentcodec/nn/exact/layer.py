"""What an integer layer is: its numbers, and the bounds that make it exact. No PyTorch.

    activations   integers in -127..127 ("narrow") or -32767..32767 ("wide")
    convolution   a = sum(weight * input) + bias(level), input narrow; |a| < 2^23, proved from the weights
                  v = floor((a + 2^(s-1)) / 2^s), s = shift - gain; then the activation
    narrowing     v = floor((x + bias(level) + 2^(s-1)) / 2^s), x wide; then the activation

A narrow activation is worth 1/16, a wide one 1/256, a weight of row r 2^-shift[r]. Sums below 2^23 are exact
in float32, in any order: a matrix product gives the same integers in floating point and in integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from latentcodec.errors import InvalidWeights
from latentcodec.nn.knots import KNOTS, Longs

ACTIVATION_LIMIT = 127
WEIGHT_LIMIT = 127
WIDE_LIMIT = 32767
ACTIVATION_BITS = 4  # fractional bits of a narrow activation
WIDE_BITS = 8  # of a wide one
ACCUMULATOR_LIMIT = 1 << 23
MAX_SHIFT = 22


class Activation(Enum):
    """What follows a layer's shift."""

    CLAMP = "clamp"  # to -127..127
    WIDE = "wide"  # to -32767..32767
    LEAKY = "leaky"  # max(v, floor(v / 8)), to -127..127
    TENTH = "tenth"  # with c = v clamped to -1250..127: max(c, floor((13 c + 64) / 128))


TENTH_FACTOR, TENTH_BITS, TENTH_LOWEST = 13, 7, -1250


@dataclass(frozen=True)
class LayerSpec:
    """A convolution of `inputs` narrow channels to `outputs`; kernel 1 or 3."""

    inputs: int
    outputs: int
    kernel: int
    gain: int = 0
    activation: Activation = Activation.WIDE


@dataclass(frozen=True)
class NarrowSpec:
    """Wide channels to narrow ones."""

    channels: int
    activation: Activation


@dataclass(frozen=True)
class IntegerLayer:
    """A convolution's integers.

    weight: (O, I, k, k); bias: (KNOTS, O); shift: (O,); all of integer dtypes.
    gain: extra left shift of the output.
    """

    weight: NDArray[np.integer]
    bias: NDArray[np.integer]
    shift: NDArray[np.integer]
    gain: int
    activation: Activation

    def bound(self) -> Longs:
        """(O,): the largest magnitude that a row's accumulator, rounding included, can reach."""
        products = np.abs(self.weight.astype(np.int64)).sum((1, 2, 3)) * ACTIVATION_LIMIT
        half = np.int64(1) << np.maximum(self.shift.astype(np.int64) - self.gain - 1, 0)
        bound: Longs = products + np.abs(self.bias.astype(np.int64)).max(0) + half
        return bound

    def validate(self, name: str) -> None:
        """Raise InvalidWeights unless all values are in range and the 2^23 bound is proved."""
        _check_integers(name, weight=self.weight, bias=self.bias, shift=self.shift)
        out = self.weight.shape[0] if self.weight.ndim == 4 else None
        if self.bias.shape != (KNOTS, out) or self.shift.shape != (out,):
            raise InvalidWeights(
                f"{name}: weight {self.weight.shape}, bias {self.bias.shape} and shift "
                f"{self.shift.shape} do not fit together"
            )
        largest = int(np.abs(self.weight.astype(np.int64)).max())
        if largest > WEIGHT_LIMIT:
            raise InvalidWeights(
                f"{name}: a weight of magnitude {largest} is past the limit of {WEIGHT_LIMIT}"
            )
        _check_shifts(name, self.shift, self.gain)
        reach = int(self.bound().max())
        if reach >= ACCUMULATOR_LIMIT:
            raise InvalidWeights(
                f"{name}: an accumulator can reach {reach}, past the bound of {ACCUMULATOR_LIMIT}"
            )

    def check_spec(self, name: str, spec: LayerSpec) -> None:
        """Raise InvalidWeights unless the layer is valid and has the sizes of `spec`."""
        shape = (spec.outputs, spec.inputs, spec.kernel, spec.kernel)
        if self.weight.shape != shape or self.gain != spec.gain:
            raise InvalidWeights(
                f"{name}: weight {self.weight.shape} and gain {self.gain} are not {shape} and {spec.gain}"
            )
        self.validate(name)


@dataclass(frozen=True)
class NarrowLayer:
    """A narrowing's integers. bias: (KNOTS, C); shift: (C,); of integer dtypes."""

    bias: NDArray[np.integer]
    shift: NDArray[np.integer]
    activation: Activation

    def check_spec(self, name: str, spec: NarrowSpec) -> None:
        """Raise InvalidWeights unless all values are in range and the layer has the sizes of `spec`."""
        _check_integers(name, bias=self.bias, shift=self.shift)
        if self.bias.shape != (KNOTS, spec.channels) or self.shift.shape != (spec.channels,):
            raise InvalidWeights(
                f"{name}: bias {self.bias.shape} and shift {self.shift.shape} are not "
                f"{(KNOTS, spec.channels)} and {(spec.channels,)}"
            )
        _check_shifts(name, self.shift, 0)
        reach = WIDE_LIMIT + int(np.abs(self.bias.astype(np.int64)).max()) + (1 << int(self.shift.max()) - 1)
        if reach >= ACCUMULATOR_LIMIT:
            raise InvalidWeights(f"{name}: a sum can reach {reach}, past the bound of {ACCUMULATOR_LIMIT}")


def check_layers(
    prefix: str,
    layers: Mapping[str, IntegerLayer | NarrowLayer],
    specs: Mapping[str, LayerSpec] | Mapping[str, LayerSpec | NarrowSpec],
) -> None:
    """Raise InvalidWeights unless these are the layers of `specs`, all valid. prefix: of names told."""
    if layers.keys() != specs.keys():
        raise InvalidWeights(
            f"{prefix}layers: missing {sorted(specs.keys() - layers.keys())}, "
            f"unexpected {sorted(layers.keys() - specs.keys())}"
        )
    for name, spec in specs.items():
        layers[name].check_spec(f"{prefix}{name}", spec)  # type: ignore[arg-type]


def _check_integers(name: str, **arrays: NDArray[np.integer]) -> None:
    for part, array in arrays.items():
        if array.dtype.kind != "i" or array.size == 0:
            raise InvalidWeights(f"{name}: {part} holds {array.size} values of {array.dtype}, not integers")
        largest = max(int(array.max()), -int(array.min()))
        if largest > 1 << 31:  # whose bounds could wrap around
            raise InvalidWeights(f"{name}: {part} reaches a magnitude of {largest}, past 32 bits")


def _check_shifts(name: str, shift: NDArray[np.integer], gain: int) -> None:
    low, high = int(shift.min()), int(shift.max())
    if low < gain + 1 or high > MAX_SHIFT:
        raise InvalidWeights(f"{name}: shifts {low} to {high} are outside {gain + 1} to {MAX_SHIFT}")
