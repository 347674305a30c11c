"""The seam between the networks and what computes them: one arithmetic, several engines. No PyTorch.

    latents, levels ─► networks (nn/native) ─► Engine: layers, sums, shuffles over maps ─► the same integers

A map holds integers at the positions of a grid, (H, W, C), in whatever form suits its engine. Narrow maps lie
in -127..127, wide ones in -32767..32767, exact ones are integers below 2^53 in magnitude. Every engine
computes the same integers: those of docs/model.md.

    numpy      products in floating point, within the bounds of nn/exact/layer.py; needs nothing but numpy
    compiled   the kernel's integer products (kernel/), where it is built
    torch      float32 products, or int8 ones where the processor does them right; CUDA
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from latentcodec.nn.exact.layer import IntegerLayer, NarrowLayer

Map = TypeVar("Map")
Layer = Callable[[Map, int], Map]
"""A layer: a map and a quality level to a map."""
Integers = NDArray[np.integer]


class Engine(Hashable, Protocol[Map]):
    """What computes integer networks. All methods are safe to be called from several threads at once."""

    name: str
    serial: bool  #: whether several threads at work on it gain nothing

    def settings(self) -> AbstractContextManager[None]:
        """What the networks have to run in: the settings of the process that the engine depends on."""

    def layer(self, layer: IntegerLayer | NarrowLayer) -> Layer[Map]:
        """Make a layer ready: narrow maps (H, W, I) to (H, W, O), or wide ones to narrow ones (H, W, C)."""

    def to_map(self, integers: Integers) -> Map:
        """A narrow or wide map of an array (H, W, C)."""

    def to_array(self, x: Map) -> Integers:
        """The integers (H, W, C) of a narrow or wide map, not to be written to."""

    def join(self, maps: Sequence[Map]) -> Map:
        """All channels of some narrow maps."""

    def shuffle(self, x: Map) -> Map:
        """Depth to space: channel 4 c + 2 dy + dx at (y, x) becomes channel c at (2 y + dy, 2 x + dx)."""

    def add_wide(self, stream: Map, change: Map) -> Map:
        """The sum of two wide maps, clamped to be wide."""

    def add_leaky(self, h: Map, change: Map) -> Map:
        """leaky(clamp(h + change)) of a narrow and a wide map: narrow."""

    def multiply_wide(self, x: Map, multiplier: Integers, shift: Integers) -> Map:
        """floor((x multiplier + 2^(s-1)) / 2^s) of a wide map, clamped to be wide.

        multiplier: 1..256, shift s: 1..22; one for all channels (1,), or (C,).
        """

    def exact_map(self, integers: Integers) -> Map:
        """An exact map of an array (H, W, C)."""

    def multiply_exact(self, x: Map, multiplier: Integers, shift: Integers, limit: int) -> Map:
        """floor((x multiplier + 2^(s-1)) / 2^s) of an exact map, clamped to +-limit; products below 2^53."""

    def exact_convolution(self, planes: Sequence[Integers]) -> Callable[[Map], Map]:
        """Make sums of products of exact maps ready, zeros outside, sums below 2^53.

        planes: weights (O, I, k, k) of consecutive channels, each for itself.
        """

    def add_exact(self, x: Map, change: Map) -> Map:
        """The sum of two exact maps."""

    def samples(self, x: Map, change: Map, bits: int) -> NDArray[np.uint16]:
        """Samples (8 H, 8 W, 3) of 8 to 16 bits: see docs/model.md, "Samples".

        x: an exact map (H, W, 192) of patches in 2^-8 of an 8-bit step; change: a wide map (2 H, 2 W, 48).
        """
