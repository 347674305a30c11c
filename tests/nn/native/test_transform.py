"""The transforms: an orthonormal start, halos that are large enough, quality without jumps."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.integer import TrainableIntegerConv
from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL, OCTAVE, powers_of_two
from latentcodec.nn.layers import lambda_of_level, signed_log
from latentcodec.nn.native.config import FRACTION, MEAN_LIMIT, PATCH, TransformConfig
from latentcodec.nn.native.synthesis import LOG_BITS
from latentcodec.nn.native.transform import (
    LARGEST_LOG_SCALE,
    NARROWEST_STEP,
    START_ACTIVATION,
    WIDEST_STEP,
    Analysis,
    Synthesis,
    block_transform,
    bound_gains,
    eight_bits,
    initial_input_log_gain,
    initial_log_gain,
    initial_log_scale,
    initial_stream_log_gain,
    linear_channels,
    log_activation,
    wide_logs,
    zigzag,
)
from latentcodec.weights import native_modules
from latentcodec.weights.native import NativeWeights
from latentcodec.weights.native_modules import SCALE_BITS
from tests.conftest import photograph

CPU = torch.device("cpu")


def level_of(value: float) -> Tensor:
    return torch.tensor([value])


def test_block_transform_is_orthonormal() -> None:
    for luma, chroma in ((64, 24), (64, 64), (10, 1)):
        matrix = block_transform(luma, chroma)
        assert matrix.shape == (luma + 2 * chroma, 3 * PATCH * PATCH)
        assert torch.allclose(matrix @ matrix.T, torch.eye(len(matrix)), atol=1e-6)


def test_block_transform_is_a_dct_of_opponent_colours() -> None:
    matrix = block_transform(64, 24)
    block = torch.rand(3, 8, 8)
    coefficients = matrix @ block.flatten()
    planes = [
        block.sum(0) / math.sqrt(3),
        (block[0] - block[2]) / math.sqrt(2),
        (2 * block[1] - block[0] - block[2]) / math.sqrt(6),
    ]
    place = 0
    for plane, count in zip(planes, (64, 24, 24), strict=True):
        expected = torch.from_numpy(dctn(plane.numpy(), norm="ortho"))
        for i, j in zigzag()[:count]:
            assert coefficients[place].item() == pytest.approx(expected[i, j].item(), abs=1e-5)
            place += 1


def test_zigzag_rises_by_radius_and_has_every_frequency() -> None:
    order = zigzag()
    assert sorted(order) == [(i, j) for i in range(8) for j in range(8)]
    radii = [i * i + j * j for i, j in order]
    assert radii == sorted(radii)


def band_limited(height: int, width: int) -> Tensor:
    """A picture whose chroma lies within the 24 lowest frequencies of each block: (1, 3, H, W)."""
    torch.manual_seed(2)
    luma, chroma = torch.rand(64, 1) - 0.5, (torch.rand(48, 1) - 0.5) * 0.2
    vectors = torch.cat([luma, chroma]) * torch.rand(112, height // 8 * (width // 8))
    blocks = block_transform(64, 24).T @ vectors
    planes = F.pixel_shuffle(blocks.view(1, 192, height // 8, width // 8), 8)
    return 0.5 + 0.1 * planes


@pytest.mark.parametrize("level", [0.0, 777.0, 4000.0])
def test_an_untrained_model_returns_what_it_is_given(level: float) -> None:
    config = TransformConfig(fine=16, coarse=16, analysis_coarse=16)
    analysis, synthesis = Analysis(config), Synthesis(config)
    x = band_limited(24, 40)
    with torch.no_grad():
        y = analysis(x, level_of(level))
        assert y.shape == (1, config.latents, 3, 5)
        assert torch.allclose(synthesis(y, level_of(level)), x, atol=1e-5)


def test_what_an_untrained_model_loses_is_fine_chroma_alone() -> None:
    config = TransformConfig(fine=16, coarse=16, analysis_coarse=16)
    pixels = torch.from_numpy(photograph("coffee", 160, 96)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        out = Synthesis(config)(Analysis(config)(pixels, level_of(3000)), level_of(3000))
    assert torch.allclose(out.sum(1), pixels.sum(1), atol=1e-4)  # luma is whole
    assert ((out - pixels) ** 2).mean() < 1e-4


def test_initial_gains_are_the_steps_of_high_rate_theory() -> None:
    gains = initial_log_gain(3)
    assert gains.shape == (KNOTS, 3)
    lambdas = lambda_of_level(torch.arange(KNOTS) * float(LEVELS_PER_KNOT))
    steps = (-gains[:, 0]).exp() * 255
    assert torch.allclose(steps**2 * lambdas, torch.full((KNOTS,), 26.0), rtol=1e-4)


def test_an_untrained_correction_has_scales_that_files_hold() -> None:
    scales = initial_log_scale()
    assert scales.shape == (KNOTS, 48)
    assert (scales < LARGEST_LOG_SCALE).all()
    assert torch.allclose((scales.exp() * 8).log(), -initial_log_gain(48), atol=1e-5)
    # The shift of a stored scale, docs/model.md, "Powers of two".
    octaves = math.floor(LARGEST_LOG_SCALE / math.log(2) + SCALE_BITS)
    assert 7 - octaves == 1


def test_calibration_starts_activations_above_their_rounding() -> None:
    config = TransformConfig(fine=16, coarse=24, synthesis_blocks=2)
    torch.manual_seed(4)
    synthesis = Synthesis(config)
    level = torch.linspace(0, MAX_LEVEL, 8)
    y = torch.distributions.Laplace(0.0, 1.0).sample((8, config.latents, 6, 6))
    y *= 30 / (1 + torch.arange(config.latents))[:, None, None]
    synthesis.calibrate(y, level)
    names = {layer: n for n, layer in synthesis.layers.items() if isinstance(layer, TrainableIntegerConv)}
    seen: dict[str, float] = {}

    def note(layer: torch.nn.Module, inputs: object, output: Tensor) -> None:
        seen[names[layer]] = float(output.std()) / 2**layer.gain  # in units of a narrow activation

    for layer in names:
        layer.register_forward_hook(note)
    with torch.no_grad():
        synthesis.correction(signed_log(y), level)
    assert seen.pop("out/conv") == 0  # still: it starts as the block transform
    assert len(seen) == 2 + 2 * 3
    for name, spread in seen.items():
        # Activations bend what was spread evenly before; a block adds a third to its stream.
        assert 3 < spread < 2 * START_ACTIVATION, name


def test_no_channel_is_closed() -> None:
    """Gains that training moved too far come back to the bounds; all others stay as they are."""
    config = TransformConfig(luma=4, chroma=2)
    analysis, synthesis = Analysis(config), Synthesis(config)
    uniform = initial_log_gain(config.latents)
    with torch.no_grad():
        for log_gain in (analysis.log_gain, synthesis.log_gain):
            log_gain[:, 0] -= 5
            log_gain[:, 1] += 5
        synthesis.log_scale[:, 2] += 5
    bound_gains(analysis, synthesis)
    kept = [channel for channel in range(48) if channel != 2]
    assert torch.equal(synthesis.log_scale[:, kept], initial_log_scale()[:, kept])
    assert synthesis.log_scale[:, 2].tolist() == pytest.approx(
        [min(LARGEST_LOG_SCALE, value + 5) for value in initial_log_scale()[:, 2].tolist()]
    )
    for log_gain, expected in (
        (analysis.log_gain, (1 / WIDEST_STEP, math.exp(5), 1.0)),
        (synthesis.log_gain, (math.exp(-5), 1 / NARROWEST_STEP, 1.0)),
    ):
        ratio = (log_gain - uniform).exp().detach()
        for channel, value in enumerate(expected):
            assert torch.allclose(ratio[:, channel], torch.full((KNOTS,), value), rtol=1e-4)


@pytest.fixture(scope="module")
def transforms(weights: NativeWeights) -> tuple[Analysis, Synthesis]:
    return native_modules.analysis(weights, CPU), native_modules.synthesis(weights, CPU)


def test_the_shipped_weights_close_no_channel(transforms: tuple[Analysis, Synthesis]) -> None:
    analysis, synthesis = transforms
    uniform = initial_log_gain(len(analysis.log_gain[0]))
    assert float((uniform - analysis.log_gain).max()) <= math.log(WIDEST_STEP) + 0.01
    assert float((synthesis.log_gain - uniform).max()) <= -math.log(NARROWEST_STEP) + 0.01


def shaken(module: Analysis | Synthesis) -> Analysis | Synthesis:
    """Weights of an untrained module that let every path show: no zeros, nothing tiny."""
    torch.manual_seed(5)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            torch.nn.init.normal_(parameter, std=2 / parameter[0].numel() ** 0.5)
    return module.requires_grad_(False)


def reach(difference: Tensor) -> Tensor:
    """Where a difference is more than what a kernel that works in blocks of pixels may round otherwise."""
    return (difference > 1e-5 * difference.max()).nonzero().flatten()


CONFIGS = [
    TransformConfig(fine=8, coarse=8, analysis_coarse=8),
    TransformConfig(fine=8, coarse=8, analysis_coarse=8, analysis_blocks=1, synthesis_blocks=1),
    TransformConfig(fine=8, coarse=8, analysis_coarse=8, analysis_blocks=3, synthesis_blocks=4),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_a_latent_reaches_as_far_as_the_synthesis_halo(config: TransformConfig) -> None:
    synthesis = shaken(Synthesis(config))
    halo, side = config.synthesis_halo, 2 * config.synthesis_halo + 7
    y = torch.randn(1, config.latents, side, side)
    middle = side // 2
    changed = y.clone()
    changed[:, :, middle, middle] += 30
    difference = (synthesis(changed, level_of(2000)) - synthesis(y, level_of(2000))).abs().amax((0, 1))
    for reached in (reach(difference.amax(1)), reach(difference.amax(0))):
        first, last = int(reached.min()) // PATCH, int(reached.max()) // PATCH
        assert middle - first <= halo
        assert last - middle <= halo
        assert max(middle - first, last - middle) == halo  # not larger than it needs to be


@pytest.mark.parametrize("config", CONFIGS)
def test_a_pixel_reaches_as_far_as_the_analysis_halo(config: TransformConfig) -> None:
    analysis = shaken(Analysis(config))
    halo, side = config.analysis_halo, 2 * config.analysis_halo + 7
    x = torch.rand(1, 3, side * PATCH, side * PATCH)
    middle = side // 2
    for offset in (0, PATCH - 1):
        changed = x.clone()
        changed[:, :, middle * PATCH + offset, middle * PATCH + offset] += 5
        difference = (analysis(changed, level_of(2000)) - analysis(x, level_of(2000))).abs().amax((0, 1))
        reached = reach(difference.amax(1))
        assert middle - int(reached.min()) <= halo
        assert int(reached.max()) - middle <= halo


def test_shipped_halos_give_a_piece_what_the_whole_gives(
    weights: NativeWeights, transforms: tuple[Analysis, Synthesis]
) -> None:
    analysis, synthesis = transforms
    config = weights.config.transform
    x = torch.from_numpy(photograph(width=256, height=192)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = analysis(x, level_of(3000))
        top, left, halo = 10, 9, config.analysis_halo
        piece = x[:, :, (top - halo) * 8 : (top + 4 + halo) * 8, (left - halo) * 8 : (left + 4 + halo) * 8]
        part = analysis(piece, level_of(3000))[:, :, halo : halo + 4, halo : halo + 4]
        assert torch.allclose(part, y[:, :, top : top + 4, left : left + 4], atol=1e-3)
        halo = config.synthesis_halo
        out = synthesis(y, level_of(3000))
        piece = y[:, :, top - halo : top + 4 + halo, left - halo : left + 4 + halo]
        inner = slice(halo * 8, (halo + 4) * 8)
        part = synthesis(piece, level_of(3000))[:, :, inner, inner]
        whole = out[:, :, top * 8 : (top + 4) * 8, left * 8 : (left + 4) * 8]
        assert torch.allclose(part, whole, atol=1e-4)


def test_quality_has_no_jumps(transforms: tuple[Analysis, Synthesis]) -> None:
    analysis, synthesis = transforms
    x = torch.from_numpy(photograph(width=64, height=64)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        for level in (0, 499, 500, 1999, 2000, 3500, MAX_LEVEL - 1):
            y, after = (analysis(x, level_of(value)) for value in (level, level + 1))
            # One level is 0.05 % of a step of gain; the networks may add to it, but not jump.
            assert (after - y).abs().max() < 0.02 * y.abs().max()
            change = synthesis(after, level_of(level + 1)) - synthesis(y, level_of(level))
            # Activations round anew at every level: noise, 0.007 at the lowest, where steps are 2 in size.
            assert change.square().mean().sqrt() < 0.02
            assert change.mean().abs() < 0.003
            assert change.abs().max() < 0.1


def test_log_activations_are_odd_and_narrow() -> None:
    latents = torch.arange(-MEAN_LIMIT, MEAN_LIMIT + 1) / FRACTION
    values = log_activation(signed_log(latents))
    assert torch.equal(values, values.round())
    assert torch.equal(values.flip(0), -values)
    assert (values.diff() >= 0).all()
    assert values.max() == 127


def test_wide_logs_are_odd_and_finer() -> None:
    latents = torch.arange(-MEAN_LIMIT, MEAN_LIMIT + 1) / FRACTION
    logs = signed_log(latents)
    values = wide_logs(logs)
    assert torch.equal(values, values.round())
    assert torch.equal(values.flip(0), -values)
    assert (values.diff() >= 0).all()
    assert (values.diff()[latents[1:].abs() < 200] > 0).all()  # a sixteenth can be told
    assert values.max() < 32767
    assert (values * 2.0**-LOG_BITS - logs).abs().max() <= 2.0 ** -(LOG_BITS + 1)


def test_gains_of_logarithms_and_stream_undo_each_other() -> None:
    together = (initial_input_log_gain() + initial_stream_log_gain()).exp2()
    assert torch.allclose(together[:, 0].log(), torch.linspace(0, -math.log(11), KNOTS), atol=1e-5)
    # What logarithms reach becomes a narrow activation of 127, worth 1/16 each.
    reached = 127 / 16 / initial_input_log_gain().exp2()
    assert reached[[0, -1], 0].tolist() == pytest.approx([2.5, 6.2], rel=1e-4)


def test_eight_bits_are_those_of_an_integer_multiplier() -> None:
    octaves = torch.linspace(-8, 8, 4001)
    rounded = eight_bits(octaves.exp2())
    assert ((rounded / octaves.exp2() - 1).abs() <= 2.0**-8 + 1e-6).all()
    mantissa = rounded / torch.exp2(torch.floor(torch.log2(rounded)) - 7)
    assert torch.equal(mantissa, mantissa.round())
    logarithms = np.round(octaves.numpy().astype(np.float64) * OCTAVE).astype(np.int64)
    power, exponent = powers_of_two(logarithms)
    stored = np.ldexp(((power + 65536) >> 17).astype(np.float64), exponent - 7)
    # A power at the very middle of two multipliers may go either way in float32.
    assert np.mean(stored != rounded.numpy()) < 0.005


def test_a_branch_of_other_logs_gets_the_gradient_apart() -> None:
    """What the encoder's search relies on: the linear path's slope by y, the branch's by the logarithms."""
    config = TransformConfig(luma=4, chroma=2, fine=8, coarse=8, synthesis_blocks=1)
    synthesis = shaken(Synthesis(config))
    y = 3 * torch.randn(1, config.latents, 3, 4, generator=torch.Generator().manual_seed(1))
    whole = synthesis(y, level_of(1000))
    leaf, logs = y.clone().requires_grad_(), signed_log(y).requires_grad_()
    apart = synthesis(leaf, level_of(1000), logs)
    assert torch.equal(apart, whole)
    by_y, by_logs = torch.autograd.grad(apart.sum(), (leaf, logs))
    with torch.no_grad():
        rise = synthesis(2 * y, level_of(1000), signed_log(y)) - whole  # linear, as the branch stays
    assert float((by_y * y).sum()) == pytest.approx(float(rise.sum()), rel=1e-3)
    assert by_logs.abs().sum() > 0


def test_linear_channels_stay_float32_under_autocast() -> None:
    x, matrix = torch.randn(1, 64, 4, 4), torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        out = linear_channels(x, matrix)
    assert out.dtype == torch.float32
    assert torch.equal(out, linear_channels(x, matrix))
