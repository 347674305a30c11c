"""The transforms: an orthonormal start, halos that are large enough, quality without jumps."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.layers import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL, lambda_of_level
from latentcodec.nn.native.transform import (
    NARROWEST_STEP,
    PATCH,
    WIDEST_STEP,
    Analysis,
    Synthesis,
    TransformConfig,
    block_transform,
    bound_gains,
    initial_log_gain,
    linear_channels,
    zigzag,
)
from latentcodec.weights.native import NativeWeights
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


def test_no_channel_is_closed() -> None:
    """Gains that training moved too far come back to the bounds; all others stay as they are."""
    config = TransformConfig(luma=4, chroma=2)
    analysis, synthesis = Analysis(config), Synthesis(config)
    uniform = initial_log_gain(config.latents)
    with torch.no_grad():
        for log_gain in (analysis.log_gain, synthesis.log_gain):
            log_gain[:, 0] -= 5
            log_gain[:, 1] += 5
    bound_gains(analysis, synthesis)
    for log_gain, expected in (
        (analysis.log_gain, (1 / WIDEST_STEP, math.exp(5), 1.0)),
        (synthesis.log_gain, (math.exp(-5), 1 / NARROWEST_STEP, 1.0)),
    ):
        ratio = (log_gain - uniform).exp().detach()
        for channel, value in enumerate(expected):
            assert torch.allclose(ratio[:, channel], torch.full((KNOTS,), value), rtol=1e-4)


@pytest.fixture(scope="module")
def transforms(weights: NativeWeights) -> tuple[Analysis, Synthesis]:
    return weights.analysis(CPU), weights.synthesis(CPU)


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
            shown = synthesis(y, level_of(level))
            assert (synthesis(after, level_of(level + 1)) - shown).abs().max() < 0.01


def test_linear_channels_stay_float32_under_autocast() -> None:
    x, matrix = torch.randn(1, 64, 4, 4), torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        out = linear_channels(x, matrix)
    assert out.dtype == torch.float32
    assert torch.equal(out, linear_channels(x, matrix))
