"""What engines do with maps besides layers: the integers of docs/model.md, as far out as they get."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import MAX_SHIFT, WIDE_LIMIT, Activation
from tests.nn.exact.engine_cases import (
    REFERENCE,
    exact_array,
    mixed,
    narrow_layer,
    narrow_maps,
    random_layer,
    wide_maps,
)
from tests.nn.exact.reference_engine import Array


def test_maps_are_what_they_were_made_of(engine: Engine[Any]) -> None:
    for x in (*narrow_maps(1, (3, 4, 5)), *wide_maps(2, (2, 3, 7))):
        for array in (x, x.astype(np.int16), x.astype(np.int32), x[:, ::-1], x.transpose(1, 0, 2)):
            back = engine.to_array(engine.to_map(array))
            assert np.issubdtype(back.dtype, np.integer)
            assert np.array_equal(back, array)


def test_joins_and_shuffles(engine: Engine[Any]) -> None:
    parts = [mixed(seed, (3, 5, channels), 127) for seed, channels in enumerate((4, 1, 12))]
    joined = engine.join([engine.to_map(part) for part in parts])
    assert np.array_equal(engine.to_array(joined), np.concatenate(parts, 2))
    assert np.array_equal(engine.to_array(engine.join([engine.to_map(parts[0])])), parts[0])
    for size in ((3, 5), (1, 1), (1, 4)):
        for limit in (127, WIDE_LIMIT):
            x = mixed(3, (*size, 12), limit)
            shuffled = engine.to_array(engine.shuffle(engine.to_map(x)))
            assert np.array_equal(shuffled, REFERENCE.shuffle(x))
            assert shuffled[-1, -1].tolist() == x[-1, -1, 3::4].tolist()


def test_sums_of_maps(engine: Engine[Any]) -> None:
    for change in wide_maps(5, (4, 5, 6)):
        for stream in wide_maps(7, (4, 5, 6)):
            found = engine.to_array(engine.add_wide(engine.to_map(stream), engine.to_map(change)))
            assert np.array_equal(found, REFERENCE.add_wide(stream, change))
        for h in narrow_maps(9, (4, 5, 6)):
            found = engine.to_array(engine.add_leaky(engine.to_map(h), engine.to_map(change)))
            assert np.array_equal(found, REFERENCE.add_leaky(h, change))
    ramp = np.arange(-300, 300).reshape(10, 10, 6)
    found = engine.to_array(engine.add_leaky(engine.to_map(np.zeros_like(ramp)), engine.to_map(ramp)))
    assert np.array_equal(found, REFERENCE.add_leaky(np.zeros_like(ramp), ramp))


def test_products_of_wide_maps(engine: Engine[Any]) -> None:
    multipliers, shifts = np.array([1, 2, 127, 128, 129, 255, 256]), np.arange(1, MAX_SHIFT + 1)
    by_channel = np.stack(np.meshgrid(multipliers, shifts), -1).reshape(-1, 2).T
    for x in wide_maps(3, (4, 6, by_channel.shape[1])):
        found = engine.to_array(engine.multiply_wide(engine.to_map(x), *by_channel))
        assert np.array_equal(found, REFERENCE.multiply_wide(x, *by_channel))
    one = np.array([181]), np.array([9])
    for x in wide_maps(4, (4, 6, 11)):
        found = engine.to_array(engine.multiply_wide(engine.to_map(x), *one))
        assert np.array_equal(found, REFERENCE.multiply_wide(x, *one))
    halves = np.arange(-40, 40).reshape(4, 4, 5)  # times 3 / 2: many lie in the middle, and round up
    found = engine.to_array(engine.multiply_wide(engine.to_map(halves), np.array([3]), np.array([1])))
    assert np.array_equal(found, (3 * halves + 1) >> 1)


def test_exact_products(engine: Engine[Any]) -> None:
    random = np.random.default_rng(6)
    for limit in (1 << 18, (1 << 22) - 1, 1 << 52):
        # Mantissas of log_gain, latents as large as they get, and sums as large as they may be.
        for most, multipliers in ((8191, (1 << 24, 1 << 25)), (1 << 51, (1, 2)), (1 << 27, (1, 1 << 24))):
            x = np.stack([mixed(seed, (3, 4), most) for seed in range(80)], 2)
            x[0, 0], x[0, 1] = most, -most
            multiplier, shift = random.integers(*multipliers, 80), 1 + np.arange(80) % 40
            found = engine.multiply_exact(engine.exact_map(x), multiplier, shift, limit)
            expected = REFERENCE.multiply_exact(x, multiplier, shift, limit)
            assert np.array_equal(exact_array(engine, found), expected)
    halves = np.arange(-32, 32).reshape(2, 4, 8)
    found = engine.multiply_exact(engine.exact_map(halves), np.ones(1, np.int64), np.array([2]), 1 << 20)
    assert np.array_equal(exact_array(engine, found), (halves + 2) >> 2)


def test_exact_convolutions(engine: Engine[Any]) -> None:
    for kernel, sizes in ((3, ((5, 5), (3, 3), (3, 3))), (1, ((20, 11),)), (3, ((1, 1), (2, 4)))):
        planes = [
            mixed(seed, (*size, kernel, kernel), 32767).astype(np.int16) for seed, size in enumerate(sizes)
        ]
        convolution = engine.exact_convolution(planes)
        for size in ((4, 3), (1, 1), (1, 600)):
            x = mixed(9, (*size, sum(inputs for _, inputs in sizes)), 1 << 19)
            x[0, 0] = 1 << 19
            found = exact_array(engine, convolution(engine.exact_map(x)))
            assert np.array_equal(found, REFERENCE.exact_convolution(planes)(x))
            total = exact_array(engine, engine.add_exact(engine.exact_map(x), engine.exact_map(-2 * x)))
            assert np.array_equal(total, -x)


def test_exact_convolutions_at_their_bound(engine: Engine[Any]) -> None:
    """Sums that just stay below 2^53, of odd numbers: no bit of them may be lost."""
    weight = np.full((2, 130, 3, 3), 32767, np.int16)
    weight[1] = np.where(np.arange(130)[:, None, None] % 2, -1, 1)
    most = (1 << 53) // (32767 * 130 * 9) - 1
    x = np.full((3, 3, 130), most)
    assert (1 << 53) * 0.99 < 32767 * 130 * 9 * most < 1 << 53
    found = exact_array(engine, engine.exact_convolution([weight])(engine.exact_map(x)))
    assert np.array_equal(found, REFERENCE.exact_convolution([weight])(x))


@pytest.mark.parametrize("bits", range(8, 17))
def test_samples(engine: Engine[Any], bits: int) -> None:
    for x, change in sample_maps():
        found = engine.samples(engine.exact_map(x), engine.to_map(change), bits)
        assert found.dtype == np.uint16
        assert found.shape == (8 * x.shape[0], 8 * x.shape[1], 3)
        assert np.array_equal(found, REFERENCE.samples(x, change, bits))


def sample_maps() -> Iterator[tuple[Array, Array]]:
    """Patches and corrections: everywhere a sample may lie, where it rounds, and as far out as they get."""
    for size in ((1, 1), (1, 3), (3, 2)):
        fine = 2 * size[0], 2 * size[1], 48
        yield mixed(1, (*size, 192), 40_000), mixed(2, fine, 3000)
        yield mixed(3, (*size, 192), (1 << 22) - 1), mixed(4, fine, WIDE_LIMIT)
        yield (
            mixed(5, (*size, 192), (1 << 22) - 1, extreme=True),
            mixed(6, fine, WIDE_LIMIT, extreme=True),
        )
    count = 19 * 19 * 192  # all sums from black to white, and past both
    ramp = np.arange(count).reshape(19, 19, 192) - count // 2
    yield ramp, np.zeros((38, 38, 48), np.int64)


def test_no_method_changes_what_it_is_given(engine: Engine[Any]) -> None:
    narrow, wide = mixed(1, (4, 4, 48), 127), mixed(2, (4, 4, 48), WIDE_LIMIT)
    exact = mixed(3, (2, 2, 192), 1 << 20)
    convolution, narrowing = random_layer(1, 48, 4, 3), narrow_layer(1, 48)
    pointwise = random_layer(1, 48, 4, 1, activation=Activation.LEAKY)
    maps = [engine.to_map(narrow), engine.to_map(wide), engine.exact_map(exact)]
    n, w, e = maps
    planes = [mixed(4, (192, 192, 1, 1), 3).astype(np.int16)]
    for _ in range(2):
        for layer in (convolution, pointwise):
            engine.layer(layer)(n, 5)
        engine.layer(narrowing)(w, 5)
        engine.join([n]), engine.shuffle(n), engine.shuffle(w)
        engine.add_wide(w, w), engine.add_leaky(n, w), engine.add_exact(e, e)
        engine.multiply_wide(w, np.array([200]), np.array([7]))
        engine.multiply_exact(e, np.array([200]), np.array([7]), 1000)
        engine.exact_convolution(planes)(e)
        engine.samples(e, w, 8), engine.samples(e, w, 16)
    assert np.array_equal(engine.to_array(n), narrow)
    assert np.array_equal(engine.to_array(w), wide)
    assert np.array_equal(exact_array(engine, e), exact)
