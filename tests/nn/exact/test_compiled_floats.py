"""The compiled convolutions of floats are numpy's, but for rounding."""

from __future__ import annotations

import numpy as np
import pytest

from latentcodec.errors import InvalidArgument, InvalidWeights
from latentcodec.nn.exact.compiled_engine import CompiledEngine, Instructions
from latentcodec.nn.exact.compiled_floats import G
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from tests.nn.exact.layer_cases import SIZES

# F(4x4, 3x3) in float32: its transforms scale by 100 and back, a loss of some bits in 24.
TOLERANCE = 2e-5


def check_like_numpy(
    engine: CompiledEngine, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None
) -> None:
    ours = engine.float_convolution(weight, bias)(x)
    theirs = NumpyEngine().float_convolution(weight.astype(np.float64), bias)(x)
    assert ours.dtype == np.float32
    assert ours.shape == theirs.shape
    # Of what all products could add up to: sums may cancel.
    reach = NumpyEngine().float_convolution(np.abs(weight), None)(np.abs(x))
    assert (np.abs(ours - theirs) <= TOLERANCE * (reach + 1)).all()


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(48, 64), (112, 48), (5, 1), (1, 5), (1, 1), (33, 17), (16, 16), (31, 64)]
)
def test_layers_of_any_channels(compiled: CompiledEngine, inputs: int, outputs: int, kernel: int) -> None:
    weight, x = drawn(1, outputs, inputs, kernel, kernel), drawn(2, 9, 14, inputs)
    check_like_numpy(compiled, x, weight, drawn(3, outputs))
    check_like_numpy(compiled, x, weight, None)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_every_size(compiled: CompiledEngine, size: tuple[int, int], kernel: int) -> None:
    check_like_numpy(compiled, drawn(1, *size, 10), drawn(2, 7, 10, kernel, kernel), drawn(3, 7))


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_empty_maps(compiled: CompiledEngine, size: tuple[int, int]) -> None:
    for kernel in (1, 3):
        convolution = compiled.float_convolution(drawn(1, 7, 5, kernel, kernel))
        assert convolution(drawn(2, *size, 5)).shape == (*size, 7)


@pytest.mark.parametrize("kernel", [1, 3])
def test_threads_and_strips(kernel: int) -> None:
    """Every share has strips that end within rows, and a short one at its end; sums stay the same."""
    x, weight, bias = drawn(1, 83, 61, 32), drawn(2, 40, 32, kernel, kernel), drawn(3, 40)
    for instructions in Instructions:
        if instructions > Instructions(CompiledEngine()._functions.instructions()):
            continue
        one, four = (CompiledEngine(n, instructions=instructions) for n in (1, 4))
        check_like_numpy(one, x, weight, bias)
        outs = [engine.float_convolution(weight, bias)(x) for engine in (one, four)]
        np.testing.assert_array_equal(*outs)


def test_views_are_taken(compiled: CompiledEngine) -> None:
    x = drawn(1, 12, 10, 14)
    convolution = compiled.float_convolution(drawn(2, 6, 7, 3, 3))
    np.testing.assert_array_equal(convolution(x[:, ::-1, ::2]), convolution(x[:, ::-1, ::2].copy()))


def test_an_impulse_gives_the_kernel(compiled: CompiledEngine) -> None:
    weight = np.round(8 * drawn(1, 3, 1, 3, 3))
    x = np.zeros((7, 7, 1), np.float32)
    x[3, 3] = 1
    out = compiled.float_convolution(weight)(x)
    np.testing.assert_allclose(out[2:5, 2:5], weight[:, 0, ::-1, ::-1].transpose(1, 2, 0), atol=1e-4)
    assert np.abs(np.delete(out, (2, 3, 4), 0)).max() < 1e-4


def test_transform_of_weights() -> None:
    """Values of a polynomial at 0, 1, -1, 2, -2 and infinity, scaled: Toom and Cook."""
    scales = np.array([1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24, 1])
    points = np.array([(1, x, x**2) for x in (0, 1, -1, 2, -2)] + [(0, 0, 1)])
    np.testing.assert_allclose(G, scales[:, None] * points)


def test_refused(compiled: CompiledEngine) -> None:
    with pytest.raises(InvalidWeights, match=r"a kernel of \(5, 5\)"):
        compiled.float_convolution(drawn(1, 2, 3, 5, 5))
    with pytest.raises(InvalidArgument, match="no map of 3 channels"):
        compiled.float_convolution(drawn(1, 2, 3, 1, 1))(drawn(2, 4, 4, 2))
