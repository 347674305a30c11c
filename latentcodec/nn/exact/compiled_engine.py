"""Exact integer networks by the compiled kernel, equal to NumpyEngine to the bit.

    map (H, W, I), int16 ─► rows, shared among threads ─► kernel: products, shift, activation ─► map (H, W, O)

kernel/convolution.c says how it computes, and why that is exact. The kernel may be missing:
`available` says whether it is there and computes what it should.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import byref
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentcodec.errors import InvalidArgument, InvalidWeights, MissingDependency
from latentcodec.kernel.library import load, pointer
from latentcodec.kernel.networks import BLOCK, EXACT_BLOCK, TILE, Instructions, NetworkFunctions, points
from latentcodec.kernel.networks import Layer as NetworkLayer
from latentcodec.nn.exact.compiled_floats import float_layer
from latentcodec.nn.exact.engine import Integers, Layer
from latentcodec.nn.exact.layer import MAX_SHIFT, WEIGHT_LIMIT, Activation, IntegerLayer, NarrowLayer
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.exact.self_test import computes_right
from latentcodec.nn.exact.workers import Workers
from latentcodec.nn.knots import KNOTS, interpolate_integers

__all__ = ["CompiledEngine", "Instructions", "available"]

# As the C files have them.
_ACTIVATIONS = (Activation.CLAMP, Activation.WIDE, Activation.LEAKY, Activation.TENTH)
_COLOURS, _PATCH, _FINE = 3, 8, 4
_MULTIPLIER_LIMIT = 256
_EXACT_WORK = 8  # multiplications of 16 bits that take about as long as one of doubles
_NUMBER_WORK = 32  # multiplications that take about as long as a number of a map without products

Array = NDArray[Any]
Shorts = NDArray[np.int16]
Ints = NDArray[np.int32]


class CompiledEngine(NumpyEngine):
    """The engine of the compiled kernel: int16 maps, and float64 ones where they are exact."""

    name = "compiled"

    def __init__(self, threads: int = 1, *, instructions: Instructions | None = None) -> None:
        """threads: how many share a large map's rows. instructions: if None, the best that the processor has.

        Raises InvalidArgument for fewer threads than one, or instructions that the processor lacks;
        MissingDependency where there is no kernel.
        """
        if threads < 1:
            raise InvalidArgument(f"threads={threads}: at least 1 is needed")
        library = load()
        if library is None:
            raise MissingDependency(
                "the compiled kernel is not there: install latentcodec where there is a C compiler, "
                "or take the numpy engine, which computes the same"
            )
        self._functions = NetworkFunctions(library)
        best = Instructions(self._functions.instructions())
        if instructions is not None and instructions > best:
            raise InvalidArgument(f"instructions={instructions.name}: this processor has {best.name}")
        self._instructions = int(best if instructions is None else instructions)
        self._workers = Workers(threads)

    def layer(self, layer: IntegerLayer | NarrowLayer) -> Layer[Array]:
        """As Engine says. Raises InvalidWeights for kernels but 1x1 and 3x3, and for shifts out of range."""
        return self._narrowing(layer) if isinstance(layer, NarrowLayer) else self._convolution(layer)

    def to_map(self, integers: Integers) -> Array:
        """As Engine says."""
        return np.ascontiguousarray(integers, np.int16)

    def to_array(self, x: Array) -> Integers:
        """As Engine says."""
        return x

    def add_wide(self, stream: Array, change: Array) -> Array:
        """As Engine says."""
        return self._sum(self._functions.add_wide, stream, change)

    def add_leaky(self, h: Array, change: Array) -> Array:
        """As Engine says."""
        return self._sum(self._functions.add_leaky, h, change)

    def multiply_wide(self, x: Array, multiplier: Integers, shift: Integers) -> Array:
        """As Engine says."""
        x = _checked(x)
        _check_range("multipliers", multiplier, _MULTIPLIER_LIMIT)
        _check_range("shifts", shift, MAX_SHIFT)
        factors, shifts = _by_channel(multiplier, x.shape[2]), _by_channel(shift, x.shape[2])
        return self._rescaled(x, factors, np.int32(1) << shifts - 1, shifts, Activation.WIDE)

    def multiply_exact(self, x: Array, multiplier: Integers, shift: Integers, limit: int) -> Array:
        """As Engine says; limit: below 2^51."""
        x = np.ascontiguousarray(x, np.float64)
        factor = np.ldexp(multiplier.astype(np.float64), -shift.astype(np.int64))
        factors, out = np.ascontiguousarray(np.broadcast_to(factor, x.shape[2])), np.empty_like(x)

        def multiply(first: int, last: int) -> None:
            sizes, part = ((last - first) * x.shape[1], x.shape[2]), out[first:last]
            arrays = pointer(x[first:last]), *sizes, pointer(factors), float(limit), pointer(part)
            self._functions.multiply_exact(self._instructions, *arrays)

        self._workers.share(len(x), 1, x.size * _NUMBER_WORK, multiply)
        return out

    def exact_convolution(self, planes: Sequence[Integers]) -> Callable[[Array], Array]:
        """As Engine says. Raises InvalidWeights for kernels but 1x1 and 3x3."""
        kernels = [_exact_weights(weight) for weight in planes]
        sizes = [weight.shape[:3] for weight in planes]
        zeros = np.zeros(max(inputs for _, inputs, _ in sizes))
        outputs, inputs = (sum(size[i] for size in sizes) for i in (0, 1))
        work = sum(weight.size for weight in planes)

        def run(x: Array) -> Array:
            height, width, channels = x.shape
            if channels != inputs:
                raise InvalidArgument(f"a map of {channels} channels: the planes have {inputs}")
            x = np.ascontiguousarray(x, np.float64)
            out = np.empty((height, width, outputs))

            def convolve(first: int, last: int) -> None:
                read = written = 0
                for (made, taken, kernel), weights in zip(sizes, kernels, strict=True):
                    planes = (
                        *(x.ctypes.data + 8 * read, inputs, taken),
                        *(out.ctypes.data + 8 * written, outputs, made),
                    )
                    shape = height, width, first, last, kernel
                    self._functions.exact_convolution(
                        self._instructions, *planes, *shape, pointer(weights), pointer(zeros)
                    )
                    read, written = read + taken, written + made

            self._workers.share(height, 1, height * width * work * _EXACT_WORK, convolve)
            return out

        return run

    def samples(self, x: Array, change: Array, bits: int) -> NDArray[np.uint16]:
        """As Engine says."""
        height, width = x.shape[:2]
        x, change = np.ascontiguousarray(x, np.float64), _checked(change)
        shapes = (height, width, _COLOURS * _PATCH**2), (2 * height, 2 * width, _COLOURS * _FINE**2)
        if (x.shape, change.shape) != shapes:
            raise InvalidArgument(f"patches {x.shape} and a correction {change.shape}: {shapes} are needed")
        out = np.empty((_PATCH * height, _PATCH * width, _COLOURS), np.uint16)

        def fill(first: int, last: int) -> None:
            arrays = pointer(x[first:last]), pointer(change[2 * first : 2 * last]), last - first, width
            part = pointer(out[_PATCH * first : _PATCH * last])
            self._functions.samples(self._instructions, *arrays, bits, part)

        self._workers.share(height, 1, out.size * _NUMBER_WORK, fill)
        return out

    def float_convolution(self, weight: Array, bias: Array | None = None) -> Callable[[Array], Array]:
        """As NumpyEngine says, but for rounding. Raises InvalidWeights for kernels but 1x1 and 3x3."""
        return float_layer(self._functions, self._instructions, self._workers, weight, bias)

    def _convolution(self, layer: IntegerLayer) -> Layer[Array]:
        outputs, inputs, kernel, _ = layer.weight.shape
        if layer.weight.shape[2:] not in ((1, 1), (3, 3)):
            raise InvalidWeights(f"a kernel of {layer.weight.shape[2:]}: 1x1 or 3x3 is needed")
        _check_sizes(layer, outputs)
        weights, activation = self._transformed(layer.weight), _ACTIVATIONS.index(layer.activation)
        shift = _in_blocks(_checked_shift(layer.shift, layer.gain))
        half = np.int64(1) << np.maximum(shift - 1, 0)
        functions, instructions = self._functions, self._instructions

        @lru_cache(maxsize=2)
        def bias(level: int) -> Ints:
            numbers = _in_blocks(interpolate_integers(layer.bias, level))
            return np.asarray(numbers + half, np.int32)

        def run(x: Array, level: int) -> Array:
            x = _checked(x, inputs)
            height, width, _ = x.shape
            out = np.empty((height, width, outputs), np.int16)
            struct = NetworkLayer(inputs, outputs, kernel, activation, weights.ctypes.data, shift.ctypes.data)
            size = functions.scratch(byref(struct))
            numbers = bias(level)

            def convolve(first: int, last: int) -> None:
                scratch = np.empty(size, np.uint8)
                arrays = byref(struct), pointer(numbers), pointer(x), height, width, first, last, pointer(out)
                functions.convolution(instructions, *arrays, pointer(scratch), size)

            self._workers.share(height, TILE, out.size * inputs * kernel**2, convolve)
            return out

        return run

    def _transformed(self, weight: Integers) -> Shorts:
        """Weights (O, I, k, k) as the kernel multiplies them: (blocks, 1 or 36, pairs of inputs, 16, 2)."""
        outputs, inputs, kernel, _ = weight.shape
        if max(int(weight.max()), -int(weight.min())) > WEIGHT_LIMIT:
            raise InvalidWeights(f"weights {weight.min()} to {weight.max()} reach past {WEIGHT_LIMIT}")
        held = np.ascontiguousarray(weight, np.int8)
        made = np.empty((-(-outputs // BLOCK), points(kernel), -(-inputs // 2), BLOCK, 2), np.int16)
        self._functions.weights(outputs, inputs, kernel, pointer(held), pointer(made))
        return made

    def _narrowing(self, layer: NarrowLayer) -> Layer[Array]:
        _check_sizes(layer, len(layer.shift))
        shift = _checked_shift(layer.shift, 0)
        half = np.int64(1) << shift - 1

        @lru_cache(maxsize=2)
        def offset(level: int) -> Ints:
            return (interpolate_integers(layer.bias, level) + half).astype(np.int32)

        def run(x: Array, level: int) -> Array:
            return self._rescaled(_checked(x, len(shift)), None, offset(level), shift, layer.activation)

        return run

    def _rescaled(
        self, x: Shorts, multiplier: Ints | None, offset: Ints, shift: Ints, activation: Activation
    ) -> Shorts:
        """activation((x multiplier + offset) >> shift), by channel."""
        out, number = np.empty_like(x), _ACTIVATIONS.index(activation)
        factors = None if multiplier is None else pointer(multiplier)
        rest = factors, pointer(offset), pointer(shift), number

        def rescale(first: int, last: int) -> None:
            sizes = (last - first) * x.shape[1], x.shape[2]
            arrays = pointer(x[first:last]), *sizes, *rest, pointer(out[first:last])
            self._functions.rescale(self._instructions, *arrays)

        self._workers.share(len(x), 1, x.size * _NUMBER_WORK, rescale)
        return out

    def _sum(self, function: Callable[..., object], a: Array, b: Array) -> Shorts:
        a, b = _checked(a), _checked(b)
        if a.shape != b.shape:
            raise InvalidArgument(f"maps of {a.shape} and {b.shape} have no sum")
        out = np.empty_like(a)

        def add(first: int, last: int) -> None:
            part = out[first:last]
            arrays = pointer(a[first:last]), pointer(b[first:last]), part.size, pointer(part)
            function(self._instructions, *arrays)

        self._workers.share(len(a), 1, a.size * _NUMBER_WORK, add)
        return out


def available() -> bool:
    """Whether there is a kernel that computes what it should: found out once a process.

    Raises InvalidArgument where LATENTCODEC_KERNEL names a kernel that does not fit.
    """
    library = load()
    return library is not None and _proved(library)


@cache
def _proved(library: ctypes.CDLL) -> bool:
    """Whether a kernel computes what it should; the argument tells kernels apart."""
    try:
        return computes_right(CompiledEngine())
    except MissingDependency:  # it lacks functions
        return False


def _checked(x: Array, channels: int | None = None) -> Shorts:
    """A map as the kernel reads it. Raises InvalidArgument for what is no map of so many channels."""
    if x.ndim != 3 or x.dtype != np.int16:
        raise InvalidArgument(f"{x.dtype} {x.shape}: a map of this engine is int16 (H, W, C), see to_map")
    if channels is not None and x.shape[2] != channels:
        raise InvalidArgument(f"a map of {x.shape[2]} channels: the layer takes {channels}")
    return np.ascontiguousarray(x)


def _check_range(name: str, numbers: Integers, most: int) -> None:
    low, high = int(numbers.min()), int(numbers.max())
    if low < 1 or high > most:
        raise InvalidArgument(f"{name} {low} to {high} are outside 1 to {most}")


def _check_sizes(layer: IntegerLayer | NarrowLayer, outputs: int) -> None:
    """Raise InvalidWeights unless there is a bias and a shift for each output."""
    if layer.bias.shape != (KNOTS, outputs) or layer.shift.shape != (outputs,):
        raise InvalidWeights(f"bias {layer.bias.shape} and shift {layer.shift.shape} of {outputs} outputs")


def _checked_shift(shift: Integers, gain: int) -> Ints:
    shifts = shift.astype(np.int32) - np.int32(gain)
    if shifts.min() < 1 or shifts.max() > MAX_SHIFT:
        raise InvalidWeights(f"shifts {shifts.min()} to {shifts.max()} are outside 1 to {MAX_SHIFT}")
    return shifts


def _exact_weights(weight: Integers) -> Array:
    """(O, I, k, k) -> (blocks, k * k, I, 8) in doubles, zeros beyond O."""
    outputs, inputs, kernel, _ = weight.shape
    if weight.shape[2:] not in ((1, 1), (3, 3)):
        raise InvalidWeights(f"a kernel of {weight.shape[2:]}: 1x1 or 3x3 is needed")
    blocks = -(-outputs // EXACT_BLOCK)
    padded = np.zeros((blocks * EXACT_BLOCK, inputs, kernel**2))
    padded[:outputs] = weight.reshape(outputs, inputs, -1)
    return np.ascontiguousarray(padded.reshape(blocks, EXACT_BLOCK, inputs, -1).transpose(0, 3, 2, 1))


def _by_channel(numbers: Integers, channels: int) -> Ints:
    """One number for all channels, or one for each, as one for each."""
    return np.ascontiguousarray(np.broadcast_to(numbers, channels), np.int32)


def _in_blocks(numbers: Integers) -> Array:
    """One number for each output, with zeros up to a whole block."""
    return np.pad(numbers, (0, -len(numbers) % BLOCK))
