"""Export: tables that cost what the model thinks, a file that loads, hashes that tell what changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.knots import OCTAVE
from latentcodec.nn.native.config import FRACTION, LAPPING_UNIT, ROWS
from latentcodec.nn.native.entropy_model import SMALLEST_SCALE
from latentcodec.nn.native.integer_synthesis import LAPPING_BITS, SKIP_BITS
from latentcodec.nn.native.model import NativeModel
from latentcodec.training.native.export import (
    TOTAL,
    WIDEST,
    build_tables,
    export,
    integer_tensors,
    synthesis_tensors,
)
from latentcodec.weights.native import NativeWeights, read_weights
from tests.conftest import native_codec, photograph, psnr, tiny_config

MIXTURES = [(0.18, 1.76), (0.5, 3.0), (0.02, 6.0), (0.9, 1.05)]  # weight and relative width of the tail


def mixture(weight: float, ratio: float) -> tuple[float, float, float]:
    core = (1 - weight + weight * ratio**2) ** -0.5
    return weight, core, core * ratio


def probabilities(row: int, parts: tuple[float, float, float], reach: int) -> np.ndarray:
    """Of the integers -reach..reach, in double precision."""
    weight, core, tail = parts
    deviation = SMALLEST_SCALE * 2 ** (row / 6)

    def mass(n: int) -> float:
        return sum(
            share
            / 2
            * (
                math.erfc((abs(n) - 0.5) / (deviation * width * math.sqrt(2)))
                - math.erfc((abs(n) + 0.5) / (deviation * width * math.sqrt(2)))
            )
            for share, width in ((1 - weight, core), (weight, tail))
        )

    half = [mass(n) for n in range(reach + 1)]
    return np.array([*half[:0:-1], *half])


def test_rows_sum_up_and_are_symmetric() -> None:
    for parts in MIXTURES:
        rows = build_tables(*mixture(*parts))
        assert len(rows) == ROWS
        assert rows[0] == [TOTAL]
        for row in rows[1:]:
            *values, escape = row
            assert sum(row) == TOTAL
            assert min(row) >= 1
            assert values == values[::-1]
            assert len(values) % 2 == 1
            assert len(values) <= 2 * WIDEST + 1
            assert values[len(values) // 2] >= max(values) - 2  # rounding is made up for at the middle
            assert escape < TOTAL // 8


def escape_bits(distance: int) -> int:
    """An escape's bytes: the zigzag distance in groups of seven bits."""
    return 8 * max(1, math.ceil(distance.bit_length() / 7))


@pytest.mark.parametrize("parts", MIXTURES[:2])
def test_coding_by_the_tables_costs_what_the_mixture_says(parts: tuple[float, float]) -> None:
    reach = 2500
    rows = build_tables(*mixture(*parts))
    for number in range(4, ROWS - 6, 3):
        p = probabilities(number, mixture(*parts), reach)
        entropy = -(p[p > 0] * np.log2(p[p > 0])).sum()
        *values, escape = rows[number]
        n = len(values) // 2
        lengths = np.array(
            [
                16 - math.log2(values[k + n])
                if abs(k) <= n
                else 16 - math.log2(escape) + escape_bits(2 * (abs(k) - n - 1) + (k < 0))
                for k in range(-reach, reach + 1)
            ]
        )
        assert (p * lengths).sum() <= 1.001 * entropy + 1e-4, number


@pytest.fixture(scope="module")
def exported(tiny_model: NativeModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.safetensors"
    export(tiny_model, {"steps": 40, "pictures": "samples"}, path)
    return path


def test_the_file_loads_and_codes(exported: Path, tiny_model: NativeModel) -> None:
    weights = read_weights(exported)
    assert weights.config == tiny_model.config == tiny_config()
    assert weights.card == {"steps": 40, "pictures": "samples"}
    codec = native_codec(weights)
    pixels = photograph("coffee", 96, 64)
    y = codec.analyse(pixels, 3000)
    tile = codec.encode_tile(y, 3000)
    assert np.array_equal(codec.decode_tile(tile.stream, tile.digest, 3000, 8, 12).latents, tile.latents)
    with torch.no_grad():
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
        ours = tiny_model.analysis(x, torch.tensor([3000.0]))[0]
    assert np.allclose(y, ours.numpy(), atol=0.05)  # float16 weights


def test_exporting_twice_gives_the_same_weights(
    exported: Path, tiny_model: NativeModel, tmp_path: Path
) -> None:
    export(tiny_model, {"pictures": "samples", "steps": 40}, tmp_path / "again.safetensors")
    first, again = read_weights(exported), read_weights(tmp_path / "again.safetensors")
    assert (first.number, first.config, first.card) == (again.number, again.config, again.card)
    assert first.tensors.keys() == again.tensors.keys()
    for name, tensor in first.tensors.items():
        assert tensor.tobytes() == again.tensors[name].tobytes(), name


def copy(model: NativeModel) -> NativeModel:
    other = NativeModel(model.config)
    other.load_state_dict(model.state_dict())
    return other.requires_grad_(False)


def hashes(model: NativeModel, path: Path) -> tuple[bytes, bytes]:
    export(model, {}, path)
    weights: NativeWeights = read_weights(path)
    return weights.networks_hash, weights.synthesis_hash


CHANGES: dict[str, tuple[Callable[[NativeModel], Tensor], str]] = {
    "context weight": (lambda m: m.entropy.layers["context1_in"].conv.weight, "networks"),
    "context bias": (lambda m: m.entropy.layers["context3_mid"].bias, "networks"),
    "hyper synthesis": (lambda m: m.entropy.layers["hyper_up"].conv.weight, "networks"),
    "row offset": (lambda m: m.entropy.row_offset, "networks"),
    "hyper row": (lambda m: m.entropy.hyper_row, "networks"),
    "mixture": (lambda m: m.entropy.tail_logit, "networks"),
    "synthesis weight": (lambda m: m.synthesis.layers["in/conv"].conv.weight, "synthesis"),
    "synthesis bias": (lambda m: m.synthesis.layers["fine/conv1"].bias, "synthesis"),
    "narrowing": (lambda m: m.synthesis.layers["out/narrow"].bias, "synthesis"),
    "block transform": (lambda m: m.synthesis.skip, "synthesis"),
    "lapping": (lambda m: m.synthesis.lapping.planes[1], "synthesis"),
    "inverse gain": (lambda m: m.synthesis.log_gain, "synthesis"),
    "scale": (lambda m: m.synthesis.log_scale, "synthesis"),
    "gain of the logarithms": (lambda m: m.synthesis.input_log_gain, "synthesis"),
    "gain of the stream": (lambda m: m.synthesis.stream_log_gain, "synthesis"),
    "analysis": (lambda m: m.analysis.conv_in.weight, "none"),
    "hyper analysis": (lambda m: m.entropy.analysis.conv_in.weight, "none"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_hashes_tell_what_changed(tiny_model: NativeModel, tmp_path: Path, kind: str) -> None:
    networks, synthesis = hashes(tiny_model, tmp_path / "a.safetensors")
    model = copy(tiny_model)
    part, what = CHANGES[kind]
    part(model).mul_(1.2).add_(0.05)
    after = hashes(model, tmp_path / "b.safetensors")
    assert (after[0] != networks) == (what == "networks")
    assert (after[1] != synthesis) == (what == "synthesis")


def test_offsets_far_outside_are_clamped_not_wrapped(tiny_model: NativeModel) -> None:
    model = copy(tiny_model)
    model.entropy.row_offset.fill_(1e9)
    model.entropy.hyper_row.fill_(-1e9)
    tensors = integer_tensors(model.entropy)
    assert tensors["integer.row_offset"].min() == tensors["integer.row_offset"].max() > 0
    assert tensors["integer.hyper_row"].max() < 0


def test_what_a_decoder_shows_is_what_training_does(exported: Path, tiny_model: NativeModel) -> None:
    """At a knot: the integers of the branch are the same, and the block transform is rounded finely."""
    synthesis = read_weights(exported).integer_synthesis(NumpyEngine())
    x = torch.from_numpy(photograph("coffee", 96, 64)).permute(2, 0, 1)[None] / 255
    for level in (0, 2000, 4000):
        at = torch.tensor([float(level)])
        with torch.no_grad():
            latents, _, _ = tiny_model.entropy(tiny_model.analysis(x, at), at, relaxed=False)
            shown = tiny_model.synthesis(latents, at)[0].permute(1, 2, 0)
        found = synthesis((latents[0] * FRACTION).to(torch.int32).numpy(), level)
        samples = (shown * 255).round().clamp(0, 255).numpy()
        # A logarithm in the middle of two integers may move an activation by one.
        assert np.mean(np.abs(samples - found) > 1) < 0.01


def test_an_untrained_model_can_be_exported(tmp_path: Path) -> None:
    """Every start lies within a decoder's bounds, and gives the block transform."""
    torch.manual_seed(1)
    export(NativeModel(tiny_config()), {}, tmp_path / "new.safetensors")
    codec = native_codec(read_weights(tmp_path / "new.safetensors"), NumpyEngine())
    pixels = photograph("coffee", 64, 64)
    for level in (0, 4000):
        y = codec.analyse(pixels, level)
        shown = codec.synthesise(np.rint(FRACTION * y).astype(np.int32), level)
        assert psnr(pixels, shown) > 25  # of 40 channels


def test_the_fixed_point_is_finer_than_what_it_stands_for(tiny_model: NativeModel) -> None:
    tensors = synthesis_tensors(tiny_model.synthesis)
    skip = tensors["synthesis.skip"] * 2.0**-SKIP_BITS
    assert np.abs(skip - tiny_model.synthesis.skip.numpy()).max() <= 2.0 ** -(SKIP_BITS + 1)
    for index, plane in enumerate(tiny_model.synthesis.lapping.planes):
        stored = tensors[f"synthesis.lapping.planes.{index}"] * 2.0**-LAPPING_BITS
        assert np.abs(stored - LAPPING_UNIT * plane.numpy()).max() <= 2.0 ** -(LAPPING_BITS + 1)
    # Octaves: of a latent's sixteenth to a 64th of an 8-bit step, and of a wide unit to a 256th of one.
    step = 255 * 64 / 16 * (-tiny_model.synthesis.log_gain).exp().numpy()
    assert np.allclose(2.0 ** (tensors["synthesis.log_gain"] / OCTAVE), step, rtol=1e-4)
    scale = 255 * tiny_model.synthesis.log_scale.exp().numpy()
    assert np.allclose(2.0 ** (tensors["synthesis.log_scale"] / OCTAVE), scale, rtol=1e-4)
    # Logarithms have 12 fractional bits, and wide maps 8.
    gains = 2.0 ** (tensors["synthesis.input_log_gain"] / OCTAVE)
    assert np.allclose(gains * 16, tiny_model.synthesis.input_log_gain.exp2().numpy(), rtol=1e-4)
    gains = 2.0 ** (tensors["synthesis.stream_log_gain"] / OCTAVE)
    assert np.allclose(gains, tiny_model.synthesis.stream_log_gain.exp2().numpy(), rtol=1e-4)


BEYOND: dict[str, tuple[Callable[[NativeModel], Tensor], float, str]] = {
    "context0_in": (lambda m: m.entropy.layers["context0_in"].bias, 1e6, "an accumulator can reach"),
    "in.conv": (lambda m: m.synthesis.layers["in/conv"].bias, 1e6, "an accumulator can reach"),
    "fine.narrow": (lambda m: m.synthesis.layers["fine/narrow"].bias, 1e5, "a sum can reach"),
    "skip": (lambda m: m.synthesis.skip, 1.0, "32768 in 2\\^-15 is past the limit of 32767"),
    "lapping.planes.2": (lambda m: m.synthesis.lapping.planes[2], 10.0, "in 2\\^-14 is past the limit"),
    "log_gain": (lambda m: m.synthesis.log_gain, -12.0, "shifts .* are outside 1 to 40"),
    "log_scale": (lambda m: m.synthesis.log_scale, 1.0, "shifts .* are outside 1 to 22"),
    "input_log_gain": (lambda m: m.synthesis.input_log_gain, 11.0, "shifts .* are outside 1 to 22"),
    "stream_log_gain": (lambda m: m.synthesis.stream_log_gain, 7.0, "shifts .* are outside 1 to 22"),
}


@pytest.mark.parametrize("name", BEYOND)
def test_weights_that_break_a_bound_are_not_exported(
    tiny_model: NativeModel, tmp_path: Path, name: str
) -> None:
    model = copy(tiny_model)
    part, value, message = BEYOND[name]
    part(model).fill_(value)
    with pytest.raises(InvalidWeights, match=f"{name}: .*{message}"):
        export(model, {}, tmp_path / "bad.safetensors")
    assert not list(tmp_path.iterdir())
