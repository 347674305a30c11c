"""AutoencoderKL against diffusers', tiny in every run and at full size in the slow tests."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch

from latentcodec.nn.stable_diffusion.autoencoder import (
    FLUX_VAE,
    SD3_VAE,
    SD_VAE,
    SDXL_VAE,
    X4_VAE,
    AutoencoderConfig,
    AutoencoderKL,
)
from tests.parity.conftest import Check
from tests.parity.oracle import random_on, sharing

TINY = {
    "SD 1.x, 2.x": replace(SD_VAE, channels=(4, 8, 8, 12), groups=2),
    "SDXL": replace(SDXL_VAE, channels=(32, 64, 64)),
    "x4 upscaler": replace(X4_VAE, channels=(32, 64, 64)),
    "SD 3": replace(SD3_VAE, channels=(8, 16), groups=4),
    "FLUX.1": replace(FLUX_VAE, channels=(8, 16), groups=4),
    "one level, one block": replace(SD_VAE, channels=(8,), groups=4, blocks=1),
}


def reference_of(config: AutoencoderConfig) -> diffusers.AutoencoderKL:
    """diffusers' network of our configuration."""
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(config.channels),
        up_block_types=("UpDecoderBlock2D",) * len(config.channels),
        block_out_channels=config.channels,
        layers_per_block=config.blocks,
        latent_channels=config.latents,
        norm_num_groups=config.groups,
        use_quant_conv=config.quant_convolutions,
        use_post_quant_conv=config.quant_convolutions,
        scaling_factor=config.scale,
        shift_factor=config.shift,
    )


def compare(
    name: str, size: str, config: AutoencoderConfig, dtype: torch.dtype, side: int, batch: int, check: Check
) -> None:
    """Mean, variance and decoded picture of one network with one set of weights."""
    reference = random_on(lambda: reference_of(config), dtype)
    ours = sharing(lambda: AutoencoderKL(config), dict(reference.state_dict()))
    generator = torch.Generator().manual_seed(1)
    height, width = side, side + config.downscale
    picture = torch.rand(batch, 3, height, width, generator=generator, dtype=dtype)
    expected = reference.encode(picture * 2 - 1).latent_dist
    found = ours.posterior(picture)
    scale, shift = config.scale, config.shift
    check(f"AutoencoderKL {name}", size, found.mean, (expected.mean - shift) * scale)
    assert torch.equal(found.mean, ours.encode(picture))
    torch.testing.assert_close(found.log_variance.exp(), expected.var * scale**2, rtol=1e-3, atol=0)
    latent = torch.randn(found.mean.shape, generator=generator, dtype=dtype) * scale
    decoded = reference.decode(latent / scale + shift).sample
    check(f"AutoencoderKL {name}", size, ours.decode(latent) * 2 - 1, decoded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TINY)
def test_tiny_configurations(name: str, dtype: torch.dtype, check: Check) -> None:
    compare(name, "tiny", TINY[name], dtype, 32, 2, check)


@pytest.mark.release
@pytest.mark.parametrize(
    ("name", "config", "side"),
    [("SD 1.x, 2.x", SD_VAE, 256), ("x4 upscaler", X4_VAE, 128), ("FLUX.1", FLUX_VAE, 128)],
)
def test_full_configurations(name: str, config: AutoencoderConfig, side: int, check: Check) -> None:
    compare(name, "full", config, torch.float32, side, 1, check)
