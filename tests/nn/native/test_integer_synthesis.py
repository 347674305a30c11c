"""The integer synthesis: the samples of docs/model.md on every engine, and what training sees."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.kernel.library import CHOICE as KERNEL
from latentcodec.nn.exact.choice import torch_engine
from latentcodec.nn.exact.compiled_engine import CompiledEngine
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import Activation, IntegerLayer, LayerSpec, NarrowLayer, NarrowSpec
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL, OCTAVE
from latentcodec.nn.layers import signed_log
from latentcodec.nn.native.config import FRACTION, MEAN_LIMIT, PATCH, TransformConfig
from latentcodec.nn.native.integer_model import signed_logs
from latentcodec.nn.native.integer_synthesis import IntegerSynthesis, table_shapes
from latentcodec.nn.native.synthesis import LOG_BITS, correction, synthesis_layers
from latentcodec.nn.native.transform import Analysis, Synthesis, wide_logs
from latentcodec.weights import native_modules
from latentcodec.weights.native import NativeWeights
from tests import model_reference
from tests.conftest import photograph
from tests.kernel import built
from tests.nn.exact.engine_cases import wrong_int8
from tests.nn.exact.reference_engine import ReferenceEngine

CPU = torch.device("cpu")
Ints = npt.NDArray[np.int32]


@cache
def compiled() -> Engine[Any]:
    """On the kernel of this checkout's sources, unless a path says which."""
    with pytest.MonkeyPatch.context() as patch:
        if os.sep not in os.environ.get(KERNEL, ""):
            patch.setenv(KERNEL, str(built.kernel()))
        return CompiledEngine(threads=2)


ENGINES: dict[str, Callable[[], Engine[Any]]] = {
    "numpy": NumpyEngine,
    "torch float32": lambda: torch_engine("cpu", False),
    "torch int8": lambda: torch_engine("cpu", True),
    "compiled": compiled,
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=wrong_int8) if n == "torch int8" else n for n in ENGINES],
)
def engine(request: pytest.FixtureRequest) -> Engine[Any]:
    return ENGINES[request.param]()


@pytest.fixture(scope="module")
def shipped(weights: NativeWeights, engine: Engine[Any]) -> IntegerSynthesis[Any]:
    return weights.integer_synthesis(engine)


@pytest.fixture(scope="module")
def on_numpy(weights: NativeWeights) -> IntegerSynthesis[Any]:
    return weights.integer_synthesis(NumpyEngine())


@pytest.fixture(scope="module")
def trainable(weights: NativeWeights) -> Synthesis:
    return native_modules.synthesis(weights, CPU)


@pytest.fixture(scope="module")
def analysis(weights: NativeWeights) -> Analysis:
    return native_modules.analysis(weights, CPU)


def latents_like_a_picture_s(seed: int, channels: int, size: tuple[int, int]) -> Ints:
    """Mostly small, larger in the first channels, none a whole number."""
    random = np.random.default_rng(seed)
    spread = 60 / (1 + np.arange(channels))[:, None, None]
    values = random.laplace(0, 16 * spread, (channels, *size)) + random.normal(0, 2, (channels, *size))
    return np.rint(values).astype(np.int32).clip(-MEAN_LIMIT, MEAN_LIMIT)


def planes(seed: int, channels: int, size: tuple[int, int]) -> Iterator[Ints]:
    """Latents of all kinds that a decoder may meet."""
    yield latents_like_a_picture_s(seed, channels, size)
    yield np.zeros((channels, *size), np.int32)
    random = np.random.default_rng(seed)
    yield random.integers(-MEAN_LIMIT, MEAN_LIMIT + 1, (channels, *size)).astype(np.int32)
    yield random.choice(np.array([-MEAN_LIMIT, MEAN_LIMIT], np.int32), (channels, *size))


@dataclass(frozen=True)
class Case:
    """Latents at a level, and the samples that docs/model.md makes of them."""

    plane: Ints
    level: int
    bits: int
    expected: npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def cases(weights: NativeWeights) -> list[Case]:
    found = []
    for size, levels in (((1, 1), (0, 777, 4000)), ((1, 5), (1, 2250)), ((9, 7), (3999,))):
        for number, plane in enumerate(planes(levels[0], weights.config.transform.latents, size)):
            bits = (8, 16, 12, 8)[number]
            for level in levels:
                expected = model_reference.synthesise(weights, plane.astype(np.int64), level, bits)
                found.append(Case(plane, level, bits, expected))
    return found


def test_every_engine_gives_the_samples_of_the_specification(
    shipped: IntegerSynthesis[Any], cases: list[Case]
) -> None:
    for case in cases:
        found = shipped(case.plane, case.level, case.bits)
        assert found.dtype == np.uint16
        _, height, width = case.plane.shape
        assert found.shape == (PATCH * height, PATCH * width, 3)
        assert np.array_equal(found, case.expected)


def test_samples_have_8_bits_where_nothing_is_said(shipped: IntegerSynthesis[Any]) -> None:
    plane = latents_like_a_picture_s(1, shipped.config.latents, (2, 3))
    assert np.array_equal(shipped(plane, 1234), shipped(plane, 1234, 8))
    assert shipped(plane, 1234).max() <= 255


def integer_correction(model: IntegerSynthesis[Any], plane: Ints, level: int) -> npt.NDArray[Any]:
    """The residual branch alone: (2 h, 2 w, 48)."""
    _, input_gain, stream_gain, _ = model._multipliers(level)
    wide = correction(
        model.engine,
        model._layers,
        lambda logs: model.engine.multiply_wide(logs, *input_gain),
        lambda stream: model.engine.multiply_wide(stream, *stream_gain),
        model.config.synthesis_blocks,
        model.engine.to_map(signed_logs(model._logs, plane.transpose(1, 2, 0))),
        level,
    )
    return model.engine.to_array(wide)


@pytest.mark.parametrize("level", range(0, MAX_LEVEL + 1, LEVELS_PER_KNOT))
def test_at_the_knots_training_has_the_integers_of_a_decoder(
    on_numpy: IntegerSynthesis[Any], trainable: Synthesis, analysis: Analysis, level: int
) -> None:
    assert not trainable.training
    at = torch.tensor([float(level)])
    for plane in planes(level, on_numpy.config.latents, (5, 4)):
        logs = torch.from_numpy(signed_logs(on_numpy._logs, plane)) * 2.0**-LOG_BITS
        with torch.no_grad():
            ours = trainable.correction(logs[None], at)[0].permute(1, 2, 0)
        assert np.array_equal(ours.long().numpy(), integer_correction(on_numpy, plane, level))
    # What a decoder limits besides lies far outside of pictures.
    plane = of_a_photograph(analysis, level)
    assert np.abs(shown(trainable, plane, level) - on_numpy(plane, level)).max() <= 1


def test_training_s_logarithms_are_those_of_the_table(on_numpy: IntegerSynthesis[Any]) -> None:
    """But for the few that lie in the middle of two integers, as far as float32 can tell."""
    magnitudes = torch.arange(MEAN_LIMIT + 1)
    logs = wide_logs(signed_log(magnitudes.float() / FRACTION)).numpy()
    difference = np.abs(logs - on_numpy._logs[MEAN_LIMIT:])
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 0.01


@pytest.mark.parametrize("level", [3, 1111, 2750, 3777])
def test_between_the_knots_they_differ_by_rounding_alone(
    on_numpy: IntegerSynthesis[Any], trainable: Synthesis, analysis: Analysis, level: int
) -> None:
    plane = of_a_photograph(analysis, level)
    difference = np.abs(shown(trainable, plane, level) - on_numpy(plane, level))
    # A bias that is interpolated and rounded otherwise moves an activation by one unit, here and there.
    assert difference.mean() < 2
    assert difference.max() < 40


def of_a_photograph(analysis: Analysis, level: int) -> Ints:
    """Latents as an encoder has them before it rounds."""
    x = torch.from_numpy(photograph("coffee", 96, 64)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = analysis(x, torch.tensor([float(level)]))[0]
    return (FRACTION * y).round().to(torch.int32).numpy()


def shown(synthesis: Synthesis, plane: Ints, level: int) -> npt.NDArray[np.float32]:
    """What training shows of latents, in 8-bit samples."""
    y = torch.from_numpy(plane)[None].float() / FRACTION
    with torch.no_grad():
        x = synthesis(y, torch.tensor([float(level)]))[0].permute(1, 2, 0)
    return np.rint(255 * x.numpy()).clip(0, 255)


@pytest.mark.parametrize("level", [0, 2777])
def test_a_piece_with_its_halo_gives_what_the_whole_gives(shipped: IntegerSynthesis[Any], level: int) -> None:
    halo = shipped.config.synthesis_halo
    height, width = halo + 2, 2 * halo + 3
    plane = next(planes(level, shipped.config.latents, (height, width)))
    whole = shipped(plane, level, 16)
    for y0, x0, y1, x1 in ((0, 0, 2, 3), (1, halo, 2, halo + 1), (height - 1, width - 2, height, width)):
        top, left = max(0, y0 - halo), max(0, x0 - halo)
        piece = shipped(plane[:, top : y1 + halo, left : x1 + halo], level, 16)
        inner = piece[8 * (y0 - top) : 8 * (y1 - top), 8 * (x0 - left) : 8 * (x1 - left)]
        assert np.array_equal(inner, whole[8 * y0 : 8 * y1, 8 * x0 : 8 * x1])


def test_less_than_the_halo_is_not_enough(on_numpy: IntegerSynthesis[Any]) -> None:
    """The halo is no larger than it must be: with one less a picture would have seams."""
    halo, channels = on_numpy.config.synthesis_halo, on_numpy.config.latents
    differ = 0
    for seed in range(4):
        plane = 4 * latents_like_a_picture_s(seed, channels, (1, halo + 8)).clip(-2000, 2000)
        whole = on_numpy(plane, 4000, 16)[:, : 8 * 8]
        differ += not np.array_equal(on_numpy(plane[:, :, : 8 + halo - 1], 4000, 16)[:, : 8 * 8], whole)
        assert np.array_equal(on_numpy(plane[:, :, : 8 + halo], 4000, 16)[:, : 8 * 8], whole)
    assert differ


def test_more_bits_refine_the_same_picture(shipped: IntegerSynthesis[Any]) -> None:
    channels = shipped.config.latents
    for level in (0, 3333):
        for plane in planes(level, channels, (1, 2)):
            coarse = shipped(plane, level).astype(int)
            for bits in (9, 10, 12, 16):
                most = (1 << bits) - 1
                fine = shipped(plane, level, bits).astype(int)
                assert fine.max() <= most
                # Both are nearest to the same number: half a step of each apart, at most.
                apart = np.abs(fine * 255 - coarse * most)
                assert (2 * apart <= most + 255).all()
                if bits == 16:
                    assert ((coarse == 0) | (coarse == 255) | (apart * 2 <= most)).all()


CONFIGS = [
    TransformConfig(luma=8, chroma=4, fine=8, coarse=12, synthesis_blocks=1),
    TransformConfig(luma=5, chroma=1, fine=4, coarse=9, synthesis_blocks=2),
]


def random_parts(
    config: TransformConfig, seed: int
) -> tuple[dict[str, IntegerLayer | NarrowLayer], dict[str, Any]]:
    """A valid synthesis of no special kind, its gains now and then at their bounds."""
    random = np.random.default_rng(seed)

    def layer(spec: LayerSpec | NarrowSpec) -> IntegerLayer | NarrowLayer:
        if isinstance(spec, NarrowSpec):
            bias = random.integers(-5000, 5000, (KNOTS, spec.channels), np.int32)
            return NarrowLayer(bias, random.integers(1, 9, spec.channels, np.int8), spec.activation)
        shape = spec.outputs, spec.inputs, spec.kernel, spec.kernel
        return IntegerLayer(
            random.integers(-127, 128, shape, np.int8),
            random.integers(-50_000, 50_000, (KNOTS, spec.outputs), np.int32),
            random.integers(spec.gain + 3, spec.gain + 12, spec.outputs, np.int8),
            spec.gain,
            spec.activation,
        )

    ranges = {
        "log_gain": (-16, 24),
        "input_log_gain": (-15, 3),
        "stream_log_gain": (-3, 4),
        "log_scale": (-15, 7),
    }
    tables: dict[str, Any] = {}
    for name, shape in table_shapes(config).items():
        if name in ranges:
            low, high = (octaves * OCTAVE for octaves in ranges[name])
            tables[name] = random.integers(low, high, shape, np.int32)
        else:
            tables[name] = random.integers(-32767, 32768, shape).astype(np.int16)
    table = np.sort(random.integers(0, 32768, MEAN_LIMIT + 1)).astype(np.int16)
    table[0] = 0
    layers = {name: layer(spec) for name, spec in synthesis_layers(config).items()}
    return layers, tables | {"log_table": table}


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from(CONFIGS),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(0, MAX_LEVEL),
    st.integers(8, 16),
)
@pytest.mark.parametrize("name", ["numpy", "torch float32", "compiled"])
def test_any_valid_synthesis_is_the_same_on_all_engines(
    name: str, seed: int, config: TransformConfig, size: tuple[int, int], level: int, bits: int
) -> None:
    parts = random_parts(config, seed)
    specified = IntegerSynthesis(config, *parts, ReferenceEngine())
    ours = IntegerSynthesis(config, *parts, ENGINES[name]())
    for plane in planes(seed, config.latents, size):
        assert np.array_equal(ours(plane, level, bits), specified(plane, level, bits))


def test_layers_are_those_of_the_picture_at_the_top() -> None:
    config = CONFIGS[1]
    specs = synthesis_layers(config)
    assert [name for name in specs if name.startswith("blocks.1")] == [
        "blocks.1.narrow",
        "blocks.1.conv1",
        "blocks.1.conv2",
    ]
    assert specs["in.narrow"] == NarrowSpec(7, Activation.CLAMP)
    assert specs["in.conv"] == LayerSpec(7, 9, 3, 4, Activation.WIDE)
    assert specs["up.conv"] == LayerSpec(9, 16, 1, 4, Activation.WIDE)
    assert specs["out.conv"] == LayerSpec(4, 48, 3, 4, Activation.WIDE)
    assert specs["up.narrow"] == NarrowSpec(9, Activation.CLAMP)
