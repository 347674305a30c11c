"""The kernel's functions for networks, as ctypes calls them: *convolution*.c and maps.c.

What is passed must be arrays in C's order, of the types and sizes that the C files tell: see library.pointer.
nn/exact/compiled_engine.py sees to it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_double, c_int32, c_int64, c_void_p
from enum import IntEnum
from typing import Any

from latentcodec.errors import InvalidArgument, MissingDependency

__all__ = [
    "BLOCK",
    "EXACT_BLOCK",
    "TILE",
    "FloatLayer",
    "Instructions",
    "Layer",
    "NetworkFunctions",
    "points",
]

BLOCK = 16  #: outputs that are computed together
EXACT_BLOCK = 8  #: the same of exact maps
TILE = 4  #: rows that are: a share of a map begins at a multiple of it


class Instructions(IntEnum):
    """What the functions are compiled for. PORTABLE: every processor of the architecture. AVX2: with FMA."""

    PORTABLE = 0
    AVX2 = 1


class Layer(ctypes.Structure):
    """A convolution. weights: as lc_convolution_weights makes them; shift: int32, to whole blocks."""

    _fields_ = (
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("kernel", c_int32),
        ("activation", c_int32),
        ("weights", c_void_p),
        ("shift", c_void_p),
    )


class FloatLayer(ctypes.Structure):
    """A convolution of floats. weights, bias: float32, as nn/exact/compiled_floats.py makes them."""

    _fields_ = (
        ("inputs", c_int32),
        ("outputs", c_int32),
        ("kernel", c_int32),
        ("biased", c_int32),
        ("weights", c_void_p),
        ("bias", c_void_p),
    )


def points(kernel: int) -> int:
    """Numbers that each of a convolution's kernels, 1x1 or 3x3, is transformed to."""
    return 36 if kernel == 3 else 1


class NetworkFunctions:
    """The functions of one library. They write nothing, and raise InvalidArgument, for sizes they refuse."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Raises MissingDependency where the library lacks a function."""
        try:
            self._look_up(library)
        except AttributeError as error:
            raise MissingDependency(f"the compiled kernel has to be built again: {error}") from error

    def _look_up(self, library: ctypes.CDLL) -> None:
        array, size, number = c_void_p, c_int64, c_int32
        rows = (size, size, size, size)  # height, width, first and last of out
        self.instructions = library.lc_instructions
        self.scratch = library.lc_convolution_scratch
        self.scratch.argtypes, self.scratch.restype = (array,), size
        self.weights = _checked(library.lc_convolution_weights, size, size, size, array, array)
        self.convolution = _checked(
            library.lc_convolution, number, array, array, array, *rows, array, array, size
        )
        self.float_scratch = library.lc_float_convolution_scratch
        self.float_scratch.argtypes, self.float_scratch.restype = (array,), size
        self.float_convolution = _checked(
            library.lc_float_convolution, number, array, array, *rows, array, array, size
        )
        plane = (array, size, size)  # the first number, numbers a position, channels
        self.exact_convolution = _checked(
            library.lc_exact_convolution, number, *plane, *plane, *rows, size, array, array
        )
        maps = (number, array, size, size)
        self.rescale = _checked(library.lc_rescale, *maps, array, array, array, number, array)
        self.multiply_exact = _checked(library.lc_multiply_exact, *maps, array, c_double, array)
        self.add_wide = _checked(library.lc_add_wide, number, array, array, size, array)
        self.add_leaky = _checked(library.lc_add_leaky, number, array, array, size, array)
        self.samples = _checked(library.lc_samples, number, array, array, size, size, number, array)


def _checked(function: Any, *types: type) -> Callable[..., object]:
    """A function that returns 0, or refuses its arguments."""

    def check(status: int, function: Any, arguments: object) -> None:
        if status:
            raise InvalidArgument(f"{function.__name__} refuses what it was given: status {status}")

    function.argtypes, function.restype, function.errcheck = types, c_int32, check
    checked: Callable[..., object] = function
    return checked
