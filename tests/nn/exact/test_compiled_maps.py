"""What the compiled engine does with maps besides convolutions, beside the reference; and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from latentcodec.errors import InvalidArgument, InvalidWeights, MissingDependency
from latentcodec.kernel.library import CHOICE
from latentcodec.nn.exact.compiled_engine import CompiledEngine
from latentcodec.nn.exact.layer import MAX_SHIFT, Activation, NarrowLayer
from latentcodec.nn.knots import KNOTS
from tests.nn.exact.layer_cases import REFERENCE, SIZES, check_layer, narrow_map, random_layer, wide_map


@pytest.mark.parametrize("activation", Activation)
def test_narrowing_of_every_number(compiled: CompiledEngine, activation: Activation) -> None:
    """All wide numbers, in channels of every shift."""
    channels = 2 * MAX_SHIFT
    shift = np.resize(np.arange(1, MAX_SHIFT + 1), channels)
    bias = np.tile(np.where(np.arange(channels) < MAX_SHIFT, 0, 1 << 20), (KNOTS, 1))
    bias[:, -1] = -(1 << 20)
    x = np.repeat(np.arange(-32767, 32768)[:, None], channels, 1).reshape(257, 255, channels)
    check_layer(compiled, NarrowLayer(bias, shift, activation), x)


@pytest.mark.parametrize("size", SIZES)
def test_narrowing_of_every_size(compiled: CompiledEngine, size: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    for channels in (1, 5, 48):
        bias, shift = random.integers(-9999, 9999, (KNOTS, channels)), random.integers(1, 9, channels)
        for level in (0, 777):
            layer = NarrowLayer(bias, shift, Activation.TENTH)
            check_layer(compiled, layer, wide_map(3, *size, channels), level)


def test_add_wide(compiled: CompiledEngine) -> None:
    edges = np.array([-32767, -32766, -16384, -1, 0, 1, 2, 16383, 16384, 32766, 32767])
    a, b = (part[..., None].astype(np.int64) for part in np.meshgrid(edges, edges))
    for x, y in ((a, b), (wide_map(1, 7, 9, 5), wide_map(2, 7, 9, 5))):
        total = compiled.add_wide(compiled.to_map(x), compiled.to_map(y))
        np.testing.assert_array_equal(compiled.to_array(total), REFERENCE.add_wide(x, y))


def test_add_leaky_of_every_number(compiled: CompiledEngine) -> None:
    changes = np.unique(np.append(np.arange(-400, 401), [-32767, -32640, 32640, 32767]))
    h, change = (part[..., None].astype(np.int64) for part in np.meshgrid(np.arange(-127, 128), changes))
    total = compiled.add_leaky(compiled.to_map(h), compiled.to_map(change))
    np.testing.assert_array_equal(compiled.to_array(total), REFERENCE.add_leaky(h, change))


def test_multiply_wide(compiled: CompiledEngine) -> None:
    x = np.append(np.arange(-32767, 32768), np.zeros(1, int)).reshape(32, 2048, 1)
    for multiplier, shift in ((256, 1), (256, 22), (1, 1), (129, 8), (255, 7), (1, 22)):
        factors, shifts = np.array([multiplier]), np.array([shift])
        product = compiled.multiply_wide(compiled.to_map(x), factors, shifts)
        np.testing.assert_array_equal(product, REFERENCE.multiply_wide(x, factors, shifts))
    random = np.random.default_rng(1)
    for channels in (1, 7, 48):
        factors, shifts = random.integers(1, 257, channels), random.integers(1, 23, channels)
        y = wide_map(4, 5, 3, channels)
        for one in (slice(1), slice(None)):
            product = compiled.multiply_wide(compiled.to_map(y), factors[one], shifts[one])
            np.testing.assert_array_equal(product, REFERENCE.multiply_wide(y, factors[one], shifts[one]))


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 16])
def test_samples(compiled: CompiledEngine, bits: int) -> None:
    random = np.random.default_rng(bits)
    near = random.integers(-45_000, 45_000, (3, 4, 192))
    far = random.choice([-(1 << 22) + 1, (1 << 22) - 1, -32641, -32640, 32640, 32641], (3, 4, 192))
    every = np.resize(np.arange(-33_500, 33_500), (25, 14, 192))
    for x, change in (
        (near, wide_map(1, 6, 8, 48)),
        (far, wide_map(1, 6, 8, 48)),
        (every, np.zeros((50, 28, 48), np.int64)),
        (near[:1, :1], wide_map(2, 2, 2, 48)),
    ):
        samples = compiled.samples(compiled.exact_map(x), compiled.to_map(change), bits)
        assert samples.dtype == np.uint16
        np.testing.assert_array_equal(samples, REFERENCE.samples(x, change, bits))


def test_multiply_exact(compiled: CompiledEngine) -> None:
    random = np.random.default_rng(1)
    near = np.arange(-600, 600).reshape(4, 6, 50)
    for multiplier, shift in ((1, 1), (3, 2), (1, 8), (255, 9), (1, 40)):
        factors, shifts = np.array([multiplier]), np.array([shift])
        product = compiled.multiply_exact(compiled.exact_map(near), factors, shifts, 500)
        np.testing.assert_array_equal(product, REFERENCE.multiply_exact(near, factors, shifts, 500))
    for channels in (1, 7, 112):
        x = random.integers(-(1 << 27), 1 << 27, (5, 3, channels)) >> random.integers(0, 27, channels)
        x.flat[:2] = ((1 << 27), -(1 << 27))[: x.size]
        factors, shifts = random.integers(1, 1 << 25, channels), random.integers(1, 41, channels)
        for limit in (1 << 18, (1 << 50) - 1):
            product = compiled.multiply_exact(compiled.exact_map(x), factors, shifts, limit)
            np.testing.assert_array_equal(product, REFERENCE.multiply_exact(x, factors, shifts, limit))


def test_maps_beside_convolutions(best: CompiledEngine) -> None:
    x, y = wide_map(1, 3, 5, 12), wide_map(2, 3, 5, 4)
    maps = best.to_map(x), best.to_map(y)
    assert all(part.dtype == np.int16 for part in maps)
    np.testing.assert_array_equal(best.join(maps), REFERENCE.join([x, y]))
    shuffled = best.shuffle(maps[0])
    assert shuffled.dtype == np.int16
    np.testing.assert_array_equal(shuffled, REFERENCE.shuffle(x))
    layer = random_layer(1, 3, 5, 3, Activation.WIDE)  # which takes what shuffle gives, whatever its strides
    check_layer(best, layer, np.clip(shuffled, -127, 127).astype(np.int64))
    exact = best.exact_map(x)
    plane = np.random.default_rng(1).integers(-(1 << 14), 1 << 14, (12, 12, 3, 3))
    np.testing.assert_array_equal(
        best.exact_convolution([plane])(exact), REFERENCE.exact_convolution([plane])(x)
    )
    np.testing.assert_array_equal(best.add_exact(exact, exact), 2 * x)


def test_maps_in_any_order_in_memory(best: CompiledEngine) -> None:
    x = narrow_map(1, 5, 6, 8)
    layer = random_layer(1, 8, 5, 3, Activation.WIDE)
    turned = best.to_map(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    frozen = best.to_map(x)
    frozen.flags.writeable = False
    for given in (turned, frozen):
        np.testing.assert_array_equal(best.layer(layer)(given, 0), REFERENCE.layer(layer)(x, 0))
        np.testing.assert_array_equal(best.add_wide(given, given), 2 * x)


def test_maps_that_are_none(best: CompiledEngine) -> None:
    convolution = best.layer(random_layer(1, 5, 7, 3, Activation.WIDE))
    narrowing = best.layer(NarrowLayer(np.zeros((KNOTS, 5), int), np.ones(5, int), Activation.CLAMP))
    x = best.to_map(narrow_map(1, 4, 4, 5))
    for layer in (convolution, narrowing):
        with pytest.raises(InvalidArgument, match="a map of 4 channels: the layer takes 5"):
            layer(x[:, :, :4], 0)
        with pytest.raises(InvalidArgument, match=r"float32 \(4, 4, 5\): a map of this engine is int16"):
            layer(x.astype(np.float32), 0)
        with pytest.raises(InvalidArgument, match=r"int16 \(4, 5\): a map"):
            layer(x[0], 0)
    for add in (best.add_wide, best.add_leaky):
        with pytest.raises(InvalidArgument, match=r"maps of \(4, 4, 5\) and \(3, 4, 5\) have no sum"):
            add(x, x[1:])
    with pytest.raises(InvalidArgument, match=r"patches \(2, 2, 191\) and a correction \(4, 4, 48\)"):
        best.samples(np.zeros((2, 2, 191)), best.to_map(narrow_map(1, 4, 4, 48)), 8)
    with pytest.raises(InvalidArgument, match=r"a correction \(4, 4, 5\)"):
        best.samples(np.zeros((2, 2, 192)), x, 8)
    for bits in (0, 17):
        with pytest.raises(InvalidArgument, match="refuses"):
            best.samples(np.zeros((2, 2, 192)), best.to_map(narrow_map(1, 4, 4, 48)), bits)


def test_numbers_out_of_range(best: CompiledEngine) -> None:
    x, one = best.to_map(wide_map(1, 4, 4, 5)), np.ones(1, np.int64)
    for multiplier in (0, 257, 1 << 32):
        with pytest.raises(InvalidArgument, match=rf"multipliers {multiplier} to \d+ are outside 1 to 256"):
            best.multiply_wide(x, one * multiplier, one)
    for shift in (0, 23):
        with pytest.raises(InvalidArgument, match=r"shifts \d+ to \d+ are outside 1 to 22"):
            best.multiply_wide(x, one, one * shift)
    layer = random_layer(1, 5, 7, 3, Activation.WIDE)
    narrowing = NarrowLayer(np.zeros((KNOTS, 5), int), np.ones(5, int), Activation.CLAMP)
    for bad in (
        replace(layer, shift=layer.shift * 0),
        replace(layer, shift=layer.shift * 0 + 23),
        replace(layer, gain=22),
        replace(narrowing, shift=narrowing.shift - 1),
    ):
        with pytest.raises(InvalidWeights, match="outside 1 to 22"):
            best.layer(bad)
    with pytest.raises(InvalidWeights, match=r"a kernel of \(5, 5\): 1x1 or 3x3"):
        best.layer(replace(layer, weight=np.zeros((7, 5, 5, 5), np.int8)))
    for weight in (-128, 300):
        with pytest.raises(InvalidWeights, match=f"{weight}.* reach past 127"):
            best.layer(replace(layer, weight=np.full((7, 5, 3, 3), weight)))


def test_biases_and_shifts_of_other_outputs(best: CompiledEngine) -> None:
    """What would be read past their ends."""
    layer = random_layer(1, 5, 40, 3, Activation.WIDE)
    narrowing = NarrowLayer(np.zeros((KNOTS, 40), int), np.ones(40, int), Activation.CLAMP)
    for bad, message in (
        (replace(layer, shift=layer.shift[:7]), r"bias \(9, 40\) and shift \(7,\) of 40 outputs"),
        (replace(layer, bias=layer.bias[:, :1]), r"bias \(9, 1\) and shift \(40,\) of 40 outputs"),
        (replace(layer, bias=layer.bias[:8]), r"bias \(8, 40\)"),
        (replace(narrowing, bias=narrowing.bias[:, :7]), r"bias \(9, 7\) and shift \(40,\)"),
        (replace(narrowing, shift=narrowing.shift[:1]), r"bias \(9, 40\) and shift \(1,\)"),
    ):
        with pytest.raises(InvalidWeights, match=message):
            best.layer(bad)


def test_threads_and_instructions_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="threads=0: at least 1"):
        CompiledEngine(threads=0)
    monkeypatch.setenv(CHOICE, "off")
    with pytest.raises(MissingDependency, match=r"compiled kernel .* the numpy engine"):
        CompiledEngine()


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 13), (8, 12)])
def test_exact_convolutions_of_any_size(compiled: CompiledEngine, size: tuple[int, int]) -> None:
    """Rows that end within six positions, blocks that are not full; planes side by side in one map."""
    random = np.random.default_rng(1)
    for kernels in ((3, 3), (1, 3), (1,)):
        planes = [random.integers(-999, 999, (o, 5, k, k)) for o, k in zip((9, 3), kernels, strict=False)]
        x = random.integers(-(1 << 18), 1 << 18, (*size, 5 * len(planes)))
        found = compiled.exact_convolution(planes)(compiled.exact_map(x))
        np.testing.assert_array_equal(found, REFERENCE.exact_convolution(planes)(x))


def test_exact_convolutions_refuse(compiled: CompiledEngine) -> None:
    with pytest.raises(InvalidWeights, match=r"a kernel of \(5, 5\)"):
        compiled.exact_convolution([np.ones((2, 3, 5, 5), np.int32)])
    with pytest.raises(InvalidArgument, match="a map of 2 channels: the planes have 3"):
        compiled.exact_convolution([np.ones((2, 3, 1, 1), np.int32)])(np.zeros((4, 4, 2)))
