"""Convolutions of floats by the compiled kernel: an encoder's networks. No decoder depends on them.

    weights (O, I, 3, 3) ─► G g G^T at 36 points ─┐
    map (H, W, I) float32 ─► rows, shared among threads ─► kernel/float_convolution.c ─► map (H, W, O)

What it gives differs from numpy's by rounding: Winograd's sums are other sums.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import byref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentcodec.errors import InvalidArgument, InvalidWeights
from latentcodec.kernel.library import pointer
from latentcodec.kernel.networks import BLOCK, TILE, FloatLayer, NetworkFunctions, points
from latentcodec.nn.exact.workers import Workers

__all__ = ["G", "float_layer"]

# Lavin and Gray, "Fast algorithms for convolutional neural networks" (2016), section 4.3.
G = np.array(
    [
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ]
)

Floats = NDArray[np.floating[Any]]


def float_layer(
    functions: NetworkFunctions, instructions: int, workers: Workers, weight: Floats, bias: Floats | None
) -> Callable[[Floats], Floats]:
    """A convolution of maps (H, W, I), zeros outside; weight (O, I, k, k), bias (O,).

    Raises InvalidWeights for kernels but 1x1 and 3x3; what it returns raises InvalidArgument for no such map.
    """
    outputs, inputs, kernel, _ = weight.shape
    if weight.shape[2:] not in ((1, 1), (3, 3)):
        raise InvalidWeights(f"a kernel of {weight.shape[2:]}: 1x1 or 3x3 is needed")
    weights = _transformed(weight)
    biases = np.zeros(weights.shape[1] * BLOCK, np.float32)
    if bias is not None:
        biases[:outputs] = bias
    biased = int(bias is not None)

    def described() -> FloatLayer:
        return FloatLayer(inputs, outputs, kernel, biased, weights.ctypes.data, biases.ctypes.data)

    size = functions.float_scratch(byref(described()))

    def run(x: Floats) -> Floats:
        if x.ndim != 3 or x.shape[2] != inputs:
            raise InvalidArgument(f"{x.shape} is no map of {inputs} channels, (H, W, {inputs})")
        x = np.ascontiguousarray(x, np.float32)
        height, width, _ = x.shape
        out, layer = np.empty((height, width, outputs), np.float32), described()

        def convolve(first: int, last: int) -> None:
            scratch = np.empty(size, np.uint8)
            arrays = byref(layer), pointer(x), height, width, first, last, pointer(out)
            functions.float_convolution(instructions, *arrays, pointer(scratch), size)

        workers.share(height, TILE, out.size * inputs * kernel**2, convolve)
        return out

    return run


def _transformed(weight: Floats) -> NDArray[np.float32]:
    """(O, I, k, k) -> (1 or 36, blocks, I, 16), zeros beyond O."""
    outputs, inputs, kernel, _ = weight.shape
    exact = weight.astype(np.float64)
    at_points = exact.transpose(2, 3, 0, 1)
    if kernel == 3:
        at_points = np.einsum("pk,oikl,ql->pqoi", G, exact, G)
    blocks = -(-outputs // BLOCK)
    made = np.zeros((points(kernel), blocks * BLOCK, inputs), np.float32)
    made[:, :outputs] = at_points.reshape(points(kernel), outputs, inputs)
    return np.ascontiguousarray(made.reshape(-1, blocks, BLOCK, inputs).transpose(0, 1, 3, 2))
