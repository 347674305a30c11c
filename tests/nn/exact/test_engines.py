"""Every engine computes the integers of docs/model.md: random maps, extreme ones, and those at the bounds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.nn.exact import torch_engine
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import (
    ACCUMULATOR_LIMIT,
    MAX_SHIFT,
    WIDE_LIMIT,
    Activation,
    IntegerLayer,
    NarrowLayer,
)
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.exact.torch_engine import TorchEngine, multiplies_int8
from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL
from latentcodec.weights.native import NativeWeights
from tests.nn.exact.reference_engine import Array, ReferenceEngine
from tests.nn.exact.test_layer import narrow_layer, random_layer

CPU = torch.device("cpu")
REFERENCE = ReferenceEngine()
ON_CPU: dict[str, Engine[Any]] = {
    "numpy": NumpyEngine(),
    "torch float32": TorchEngine(CPU),
    "torch int8": TorchEngine(CPU, int8=True),
}


def int8_products_are_right() -> bool:
    """Quick they are with VNNI alone, and then chosen; right in more places, and tested there."""
    try:
        return hasattr(torch, "_int_mm") and torch_engine._right(CPU)
    except RuntimeError:
        return False


RIGHT = int8_products_are_right()
wrong_int8 = pytest.mark.skipif(not RIGHT, reason="this PyTorch has no right int8 products on this processor")
NAMES = [pytest.param(name, marks=wrong_int8) if name == "torch int8" else name for name in ON_CPU]


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine[Any]:
    return ON_CPU[request.param]


def mixed(seed: int, shape: tuple[int, ...], limit: int, *, extreme: bool = False) -> npt.NDArray[np.int64]:
    """Integers within +-limit, small and large ones; or the limits alone."""
    random = np.random.default_rng(seed)
    if extreme:
        return random.choice([-limit, limit], shape)
    spread = 2.0 ** random.uniform(0, np.log2(limit + 1), shape)
    return (random.uniform(-1, 1, shape) * spread).round().astype(np.int64).clip(-limit, limit)


def narrow_maps(seed: int, shape: tuple[int, int, int]) -> Iterator[Array]:
    yield mixed(seed, shape, 127)
    yield mixed(seed, shape, 127, extreme=True)
    for value in (127, -127):
        yield np.full(shape, value)


def wide_maps(seed: int, shape: tuple[int, int, int]) -> Iterator[Array]:
    yield mixed(seed, shape, WIDE_LIMIT)
    yield mixed(seed + 1, shape, 300)  # where activations bend
    yield mixed(seed, shape, WIDE_LIMIT, extreme=True)


def check_layer(
    engine: Engine[Any], layer: IntegerLayer | NarrowLayer, maps: Iterator[Array], *levels: int
) -> None:
    ours, specified = engine.layer(layer), REFERENCE.layer(layer)
    for x in maps:
        for level in levels:
            with engine.settings():
                found = engine.to_array(ours(engine.to_map(x), level))
            assert np.issubdtype(found.dtype, np.integer)
            assert np.array_equal(found, specified(x, level))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.tuples(st.integers(1, 40), st.integers(1, 20)),
    st.sampled_from([1, 3]),
    st.sampled_from([0, 2, 4]),
    st.sampled_from(Activation),
    st.tuples(st.integers(1, 7), st.integers(1, 40)),
    st.integers(0, MAX_LEVEL),
)
@pytest.mark.parametrize("name", NAMES)
def test_any_valid_layer_is_exact(
    name: str,
    seed: int,
    channels: tuple[int, int],
    kernel: int,
    gain: int,
    activation: Activation,
    size: tuple[int, int],
    level: int,
) -> None:
    layer = random_layer(seed, *channels, kernel, gain, activation)
    layer.validate("layer")
    check_layer(ON_CPU[name], layer, narrow_maps(seed, (*size, channels[0])), level)


@pytest.mark.parametrize("activation", Activation)
def test_narrowings_are_exact(engine: Engine[Any], activation: Activation) -> None:
    for seed in range(3):
        layer = narrow_layer(seed, 37, activation)
        check_layer(engine, layer, wide_maps(seed, (3, 5, 37)), 0, 777, MAX_LEVEL)


@pytest.mark.parametrize("activation", Activation)
def test_every_value_that_an_activation_may_get(engine: Engine[Any], activation: Activation) -> None:
    """A narrowing by a shift of 1 of all wide numbers twice, and of far more by its bias."""
    for offset in (0, 1 << 22, -(1 << 22)):
        layer = NarrowLayer(np.full((KNOTS, 64), offset, np.int32), np.ones(64, np.int8), activation)
        x = np.arange(-WIDE_LIMIT - 1, WIDE_LIMIT + 1).clip(-WIDE_LIMIT).reshape(32, 32, 64)
        check_layer(engine, layer, iter([x]), 123)


@dataclass(frozen=True)
class Case:
    """A layer at a level, a map and what comes of it."""

    layer: IntegerLayer | NarrowLayer
    level: int
    x: Array
    expected: Array


@pytest.fixture(scope="module")
def shipped_cases(weights: NativeWeights) -> list[Case]:
    cases = []
    for layer in (*weights.layers().values(), *weights.synthesis_layers().values()):
        specified = REFERENCE.layer(layer)
        for level in (0, 1999, MAX_LEVEL):
            if isinstance(layer, NarrowLayer):
                maps = wide_maps(level, (3, 2, len(layer.shift)))
            else:
                maps = narrow_maps(level, (3, 2, layer.weight.shape[1]))
            cases += [Case(layer, level, x, specified(x, level)) for x in maps]
    return cases


def test_the_shipped_layers_are_exact(engine: Engine[Any], shipped_cases: list[Case]) -> None:
    with engine.settings():
        for case in shipped_cases:
            found = engine.to_array(engine.layer(case.layer)(engine.to_map(case.x), case.level))
            assert np.array_equal(found, case.expected)


def at_the_bound(kernel: int, shift: int) -> IntegerLayer:
    """Weights of 127 and biases that bring sums to the bound, on both sides of where they round."""
    inputs = 519 if kernel == 1 else 57
    sign = np.where(np.arange(66) % 2, -1, 1)
    weight = np.tile(127 * sign[:, None, None, None], (1, inputs, kernel, kernel)).astype(np.int8)
    half = 1 << shift - 1
    room = ACCUMULATOR_LIMIT - 1 - 127 * 127 * inputs * kernel**2 - half
    assert room > 0
    # From the bound downwards, past the last number that rounds otherwise.
    bias = sign * (room - np.arange(66) // 2 * max(1, (half + 8) // 32))
    return IntegerLayer(
        weight, np.tile(bias, (KNOTS, 1)).astype(np.int32), np.full(66, shift, np.int8), 0, Activation.WIDE
    )


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("shift", [8, 9, 14])
def test_sums_at_the_bound_are_exact(engine: Engine[Any], kernel: int, shift: int) -> None:
    layer = at_the_bound(kernel, shift)
    layer.validate("layer")
    assert int(layer.bound().max()) == ACCUMULATOR_LIMIT - 1
    maps = [np.full((4, 5, layer.weight.shape[1]), value) for value in (127, -127)]
    maps.append(mixed(1, maps[0].shape, 127, extreme=True))
    check_layer(engine, layer, iter(maps), 0, 333)


@pytest.mark.parametrize("shift", [1, 8, MAX_SHIFT])
def test_narrowings_at_the_bound_are_exact(engine: Engine[Any], shift: int) -> None:
    half = 1 << shift - 1
    most = ACCUMULATOR_LIMIT - 1 - WIDE_LIMIT - half
    bias = np.concatenate([most - np.arange(40), np.arange(40) - most]).astype(np.int32)
    layer = NarrowLayer(np.tile(bias, (KNOTS, 1)), np.full(80, shift, np.int8), Activation.WIDE)
    maps = [np.full((1, 2, 80), value) for value in (WIDE_LIMIT, -WIDE_LIMIT)]
    check_layer(engine, layer, iter([*maps, mixed(4, (3, 3, 80), WIDE_LIMIT)]), 0)


@pytest.mark.parametrize("size", [(3, 1500), (700, 3), (33, 65), (1, 1), (2, 1025), (513, 1)])
def test_wide_and_tall_maps_are_cut_into_strips_without_seams(
    engine: Engine[Any], size: tuple[int, int]
) -> None:
    for kernel in (1, 3):
        layer = random_layer(3, 4, 5, kernel, activation=Activation.TENTH)
        check_layer(engine, layer, iter([mixed(2, (*size, 4), 127)]), 77)
    check_layer(engine, narrow_layer(3, 4), iter([mixed(2, (*size, 4), WIDE_LIMIT)]), 77)


def test_a_bias_is_of_its_level_whatever_was_asked_before(engine: Engine[Any]) -> None:
    x = mixed(1, (2, 3, 12), 127)
    levels = (0, 1, 499, 500, 501, 4000, 0, 2222, 500)
    check_layer(engine, random_layer(8), iter([x]), *levels)
    check_layer(engine, narrow_layer(8, 12), iter([100 * x]), *levels)


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


def exact_array(engine: Engine[Any], x: Any) -> npt.NDArray[np.int64]:
    """The integers of an exact map."""
    floats = np.asarray(x.cpu() if isinstance(x, torch.Tensor) else x)
    assert np.array_equal(floats, np.rint(floats))
    return floats.astype(np.int64)


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


def test_threads_may_share_an_engine(engine: Engine[Any]) -> None:
    layer = random_layer(4, 12, 9, 3)
    ours, specified, x = engine.layer(layer), REFERENCE.layer(layer), mixed(3, (40, 40, 12), 127)
    levels = [LEVELS_PER_KNOT * knot + 99 * knot % 7 for knot in range(8)]
    expected = {level: specified(x, level) for level in levels}
    right: list[bool] = []

    def work(first: int) -> None:
        with engine.settings():
            for level in levels[first:] + levels[:first]:
                right.append(np.array_equal(engine.to_array(ours(engine.to_map(x), level)), expected[level]))

    workers = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert right == [True] * 4 * len(levels)


def test_engines_say_what_they_are(engine: Engine[Any]) -> None:
    assert engine.name
    assert {engine: 1}[engine] == 1
    names = {name: each.name for name, each in ON_CPU.items()}
    assert names == {
        "numpy": "numpy",
        "torch float32": "torch float32 (cpu)",
        "torch int8": "torch int8 (cpu)",
    }


def test_int8_is_for_processors_that_add_in_32_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """By capability first: products without VNNI may be right too, but slow; then tried."""
    tried = multiplies_int8.__wrapped__
    monkeypatch.setattr(torch_engine, "_cpu_has_vnni", lambda: False)
    assert not tried(CPU)
    monkeypatch.setattr(torch_engine, "_cpu_has_vnni", lambda: True)
    assert tried(CPU) == RIGHT

    def saturating(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """What x86 has without VNNI: unsigned times signed, pairs added in saturating 16 bits."""
        unsigned, signed = a.long() + 128, b.long()
        pairs = unsigned[:, ::2, None] * signed[None, ::2] + unsigned[:, 1::2, None] * signed[None, 1::2]
        return (pairs.clamp(-32768, 32767).sum(1) - 128 * signed.sum(0)).int()

    def refusing(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not for this device")

    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not tried(CPU)
    monkeypatch.setattr(torch, "_int_mm", refusing)
    assert not tried(CPU)
    monkeypatch.delattr(torch, "_int_mm")
    assert not tried(CPU)


@pytest.mark.gpu
@pytest.mark.parametrize("int8", [False, True])
def test_cuda(int8: bool, shipped_cases: list[Case]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    engine = TorchEngine(torch.device("cuda"), int8=int8)
    test_the_shipped_layers_are_exact(engine, shipped_cases)
    for activation in Activation:
        test_narrowings_are_exact(engine, activation)
        test_every_value_that_an_activation_may_get(engine, activation)
        for kernel in (1, 3):
            layer = random_layer(5, 40, 20, kernel, 2, activation)
            check_layer(engine, layer, narrow_maps(5, (7, 40, 40)), 1234)
    for kernel in (1, 3):
        for shift in (8, 9, 14):
            test_sums_at_the_bound_are_exact(engine, kernel, shift)
    for shift in (1, 8, MAX_SHIFT):
        test_narrowings_at_the_bound_are_exact(engine, shift)
    for size in ((3, 1500), (700, 3), (1, 1), (300, 257)):
        test_wide_and_tall_maps_are_cut_into_strips_without_seams(engine, size)
    for bits in (8, 10, 16):
        test_samples(engine, bits)
    for check in (
        test_a_bias_is_of_its_level_whatever_was_asked_before,
        test_maps_are_what_they_were_made_of,
        test_joins_and_shuffles,
        test_sums_of_maps,
        test_products_of_wide_maps,
        test_exact_products,
        test_exact_convolutions,
        test_exact_convolutions_at_their_bound,
        test_no_method_changes_what_it_is_given,
        test_threads_may_share_an_engine,
    ):
        check(engine)
