"""AutoencoderKL: published sizes, scale and shift, half precision, gradients, errors."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.autoencoder import (
    FLUX_VAE,
    SD3_VAE,
    SD_VAE,
    SDXL_VAE,
    X4_VAE,
    AutoencoderConfig,
    AutoencoderKL,
)
from tests.nn.networks import gradient_error, parameters, perturb, relative_error

SMALL = replace(SD_VAE, channels=(8, 8, 16), groups=4)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random networks on every run."""
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("config", "count"),
    [(SD_VAE, 83_653_863), (SDXL_VAE, 83_653_863), (X4_VAE, 55_325_927), (FLUX_VAE, 83_819_683)],
)
def test_parameter_counts(config: AutoencoderConfig, count: int) -> None:
    """Published: 83.65 M for SD, 55.33 M for the x4 upscaler, 83.82 M for FLUX.1."""
    assert parameters(lambda: AutoencoderKL(config)) == count


@pytest.mark.parametrize("config", [SD_VAE, SDXL_VAE, X4_VAE, SD3_VAE, FLUX_VAE, SMALL])
def test_configs_survive_json(config: AutoencoderConfig) -> None:
    assert AutoencoderConfig.from_dict(config.to_dict()) == config


def test_which_models_need_float32() -> None:
    assert [each.needs_float32 for each in (SD_VAE, SDXL_VAE, X4_VAE)] == [False, True, True]


def test_shapes() -> None:
    model = perturb(AutoencoderKL(SMALL))
    latent = model.encode(torch.rand(2, 3, 12, 20))
    assert latent.shape == (2, 4, 3, 5)
    assert model.decode(latent).shape == (2, 3, 12, 20)


def test_scale_and_shift_are_inside() -> None:
    """The same weights under another scale: latents scale with it, pictures stay."""
    plain = perturb(AutoencoderKL(replace(SMALL, scale=1.0)))
    scaled = AutoencoderKL(replace(SMALL, scale=0.25, shift=0.5))
    scaled.load_state_dict(plain.state_dict())
    picture = torch.rand(1, 3, 8, 8)
    ours, theirs = scaled.posterior(picture), plain.posterior(picture)
    torch.testing.assert_close(ours.mean, (theirs.mean - 0.5) * 0.25)
    torch.testing.assert_close(ours.log_variance, theirs.log_variance + 2 * math.log(0.25))
    torch.testing.assert_close(scaled.decode(ours.mean), plain.decode(theirs.mean))
    assert torch.equal(ours.mean, scaled.encode(picture))


@pytest.mark.parametrize(("dtype", "limit"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
def test_half_precision_stays_near_float32(dtype: torch.dtype, limit: float) -> None:
    model = perturb(AutoencoderKL(SMALL))
    picture, latent = torch.rand(1, 3, 32, 32), torch.randn(1, 4, 8, 8) * SMALL.scale
    expected = model.encode(picture), model.decode(latent)
    model.to(dtype)
    for found, each in zip(
        (model.encode(picture.to(dtype)), model.decode(latent.to(dtype))), expected, strict=True
    ):
        assert found.dtype == dtype
        assert relative_error(found, each) < limit


def test_gradients_reach_the_latent_and_the_picture() -> None:
    model = perturb(AutoencoderKL(SMALL)).double()
    assert gradient_error(model.decode, torch.randn(1, 4, 3, 3, dtype=torch.float64)) < 1e-6
    assert gradient_error(model.encode, torch.rand(1, 3, 12, 12, dtype=torch.float64)) < 1e-6


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 8, 10), (3, 8, 8)])
def test_pictures_of_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match="multiples of 4"):
        AutoencoderKL(SMALL).encode(torch.zeros(shape))


def test_latents_of_other_shapes() -> None:
    with pytest.raises(InvalidArgument, match=r"\(1, 16, 2, 2\), expected \(batch, 4,"):
        AutoencoderKL(SMALL).decode(torch.zeros(1, 16, 2, 2))
