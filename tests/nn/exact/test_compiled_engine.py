"""The compiled engine's convolutions give the reference's integers: layers random and extreme, any size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latentcodec.nn.exact.compiled_engine import CompiledEngine
from latentcodec.nn.exact.layer import ACCUMULATOR_LIMIT, MAX_SHIFT, Activation, IntegerLayer
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.knots import KNOTS
from latentcodec.weights.native import NativeWeights
from tests.kernel.test_sanitised import sanitised
from tests.nn.exact.layer_cases import REFERENCE, SIZES, check_layer, narrow_map, random_layer, wide_map

B = ((4, 0, -5, 0, 1, 0), (0, 4, 4, -1, -1, 0), (0, -4, 4, 1, -1, 0))
B += ((0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))
G = ((1, 0, 0), (1, 1, 1), (1, -1, 1), (1, 2, 4), (1, -2, 4), (0, 0, 1))


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(
    ("inputs", "outputs"), [(48, 160), (112, 48), (5, 1), (1, 5), (1, 1), (33, 17), (16, 16), (31, 64)]
)
def test_random_layers(
    compiled: CompiledEngine, inputs: int, outputs: int, kernel: int, activation: Activation
) -> None:
    layer = random_layer(inputs + outputs, inputs, outputs, kernel, activation)
    x = narrow_map(inputs, 6, 9, inputs)
    check_layer(compiled, layer, x)
    out = REFERENCE.layer(layer)(x, 0)
    assert out.size < 60 or len(np.unique(out)) > 20  # it is no test of the limits alone


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_every_size(compiled: CompiledEngine, size: tuple[int, int], kernel: int) -> None:
    for inputs, outputs in ((5, 7), (32, 16)):
        layer = random_layer(1, inputs, outputs, kernel, Activation.WIDE)
        check_layer(compiled, layer, narrow_map(2, *size, inputs))


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (0, 0)])
def test_empty_maps(compiled: CompiledEngine, size: tuple[int, int]) -> None:
    for side in (1, 3):
        layer = compiled.layer(random_layer(1, 5, 7, side, Activation.WIDE))
        assert layer(compiled.to_map(narrow_map(2, *size, 5)), 0).shape == (*size, 7)
    x = compiled.to_map(narrow_map(2, *size, 5))
    assert compiled.add_wide(x, x).shape == (*size, 5)


@pytest.mark.parametrize("kernel", [1, 3])
def test_more_than_one_strip(compiled: CompiledEngine, kernel: int) -> None:
    """Strips end within rows; the last one is short."""
    for height, width, inputs in ((41, 37, 3), (9, 50, 432), (23, 5, 160)):
        layer = random_layer(1, inputs, 20, kernel, Activation.TENTH)
        check_layer(compiled, layer, narrow_map(2, height, width, inputs))


@pytest.mark.parametrize("level", [0, 1, 250, 500, 3777, 4000])
def test_biases_between_knots(compiled: CompiledEngine, level: int) -> None:
    layer = random_layer(4, 6, 20, 3, Activation.WIDE)
    check_layer(compiled, replace(layer, bias=layer.bias * 20 + 1), narrow_map(2, 5, 5, 6), level)


@pytest.mark.parametrize("gain", [1, 2, 4])
def test_gains(compiled: CompiledEngine, gain: int) -> None:
    check_layer(compiled, random_layer(4, 6, 20, 3, Activation.WIDE, gain), narrow_map(2, 5, 5, 6))


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("shift", [1, 8, 16, MAX_SHIFT])
def test_accumulators_next_to_the_bound(
    compiled: CompiledEngine, kernel: int, activation: Activation, shift: int
) -> None:
    room = ACCUMULATOR_LIMIT - 1 - (1 << shift - 1)
    inputs = room // (127 * 127 * kernel**2)
    sign = np.resize([1, -1], 18)
    weight = np.tile(127 * sign[:, None, None, None], (1, inputs, kernel, kernel))
    bias = np.tile((room - 127 * 127 * kernel**2 * inputs) * sign, (KNOTS, 1))
    layer = IntegerLayer(weight, bias, np.full(18, shift), 0, activation)
    assert (layer.bound() == ACCUMULATOR_LIMIT - 1).all()
    for x in (np.full((6, 5, inputs), 127), np.full((6, 5, inputs), -127)):
        check_layer(compiled, layer, x)


@pytest.mark.parametrize("kernel", [1, 3])
def test_all_numbers_at_their_limits(compiled: CompiledEngine, kernel: int) -> None:
    random = np.random.default_rng(kernel)
    for inputs in (57, 20):
        weight = random.choice([-127, 127], (19, inputs, kernel, kernel))
        layer = IntegerLayer(weight, np.zeros((KNOTS, 19), np.int32), np.full(19, 6), 0, Activation.WIDE)
        check_layer(compiled, layer, random.choice([-127, 127], (9, 6, inputs)))


def test_the_largest_numbers_of_each_transform(compiled: CompiledEngine) -> None:
    """Inputs and weights that meet the signs of each of the 36 sums: the largest products there are."""
    for i, j in np.ndindex(6, 6):
        tile = 127 * np.where(np.outer(B[i], B[j]) < 0, -1, 1)[..., None] * np.ones(57, np.int64)
        weight = 127 * np.where(np.outer(G[i], G[j]) < 0, -1, 1) * np.ones((3, 57, 1, 1), np.int64)
        weight[1] *= -1
        layer = IntegerLayer(weight, np.zeros((KNOTS, 3), np.int32), np.full(3, 8), 0, Activation.WIDE)
        x = np.zeros((8, 8, 57), np.int64)
        x[3:, 3:] = tile[:5, :5]  # the tile at (4, 4) begins a row and a column before it
        check_layer(compiled, layer, x)
        check_layer(compiled, layer, np.tile(tile, (2, 2, 1)))


def test_shipped_layers(best: CompiledEngine, weights: NativeWeights) -> None:
    for name, layer in {**weights.layers(), **weights.synthesis_layers()}.items():
        if isinstance(layer, IntegerLayer):
            x = narrow_map(1, 5, 6, layer.weight.shape[1])
        else:
            x = wide_map(1, 5, 6, len(layer.shift))
        np.testing.assert_array_equal(
            best.layer(layer)(best.to_map(x), 2345), REFERENCE.layer(layer)(x, 2345), err_msg=name
        )


def test_a_model_gives_the_same(best: CompiledEngine, weights: NativeWeights) -> None:
    """Both networks, as files are decoded with them."""
    random = np.random.default_rng(1)
    z = random.integers(-3, 4, (48, 3, 4)).astype(np.int32)
    results = []
    for engine in (best, NumpyEngine()):
        model, synthesis = weights.integer_model(engine), weights.integer_synthesis(engine)
        latents = model.latents(z, 1234, 11, 15, lambda step, means, rows: (means + rows) % 3 - 1)
        far = np.clip(latents * 40, -8191, 8191)
        results.append((latents, synthesis(latents, 1234), synthesis(far, 3999, 10)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_no_access_outside_of_arrays() -> None:
    """The kernel with sanitisers: no behaviour is undefined either."""
    files = [f"tests/nn/exact/test_{name}.py" for name in ("compiled_engine", "compiled_maps", "workers")]
    run = sanitised("-m", "pytest", "-q", "-p", "no:xdist", *files)
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
