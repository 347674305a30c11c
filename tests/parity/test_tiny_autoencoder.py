"""The TAESD family against diffusers' AutoencoderTiny. TAEF2's mid-block norm has no reference there."""

from __future__ import annotations

import re

import pytest
import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from latentcodec.nn.stable_diffusion.tiny_autoencoder import (
    TAEF1,
    TAESD,
    TAESD3,
    TAESDXL,
    TinyAutoencoder,
    TinyAutoencoderConfig,
)
from tests.parity.conftest import Check
from tests.parity.oracle import random_on


def published_keys(reference: AutoencoderTiny) -> dict[str, Tensor]:
    """Its keys as the published files have them: the decoder's first layer saturates and counts there."""
    state = {re.sub(r"^encoder\.layers\.", "encoder.", k): v for k, v in reference.state_dict().items()}
    return {
        re.sub(r"^decoder\.layers\.(\d+)", lambda m: f"decoder.{int(m[1]) + 1}", k): v
        for k, v in state.items()
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "config"), [("TAESD", TAESD), ("TAESDXL", TAESDXL), ("TAESD3", TAESD3), ("TAEF1", TAEF1)]
)
def test_tiny_autoencoders(
    name: str, config: TinyAutoencoderConfig, dtype: torch.dtype, check: Check
) -> None:
    reference = random_on(lambda: AutoencoderTiny(latent_channels=config.latents), dtype)
    ours = TinyAutoencoder(config).to(dtype).requires_grad_(False)
    ours.load_state_dict(published_keys(reference))
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(2, 3, 40, 56, generator=generator, dtype=dtype)
    latent = 3 * torch.randn(2, config.latents, 5, 7, generator=generator, dtype=dtype)
    check(name, "full", ours.encode(picture), reference.encode(picture * 2 - 1).latents)
    check(name, "full", ours.decode(latent) * 2 - 1, reference.decode(latent).sample)
