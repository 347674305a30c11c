"""Noise from a seed, the same on every device, and the states that a run starts from.

    seeds ─► CPU generators, one an image ─► float32 ─► device and dtype of x

An image's noise depends on its own seed alone: not on the device, the dtype or the rest of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latentcodec.errors import InvalidArgument

Noise = Callable[[Tensor], Tensor]
"""x (B, ...) -> fresh standard normal noise of x's shape, device and dtype."""


def seeded_noise(seeds: Sequence[int]) -> Noise:
    """Noise for a batch of len(seeds) images; each call goes on where the last one ended.

    The noise raises InvalidArgument for a batch of another size.
    """
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]

    def noise(x: Tensor) -> Tensor:
        if len(x) != len(generators):
            raise InvalidArgument(f"noise: {len(generators)} seeds for a batch of {len(x)}; give one each")
        images = [
            torch.randn(x.shape[1:], generator=generator, dtype=torch.float32) for generator in generators
        ]
        return torch.stack(images).to(x.device, x.dtype)

    return noise


def start_from_noise(noise: Tensor, sigma: float, *, variance_preserving: bool = True) -> Tensor:
    """A generation's first state at level `sigma`, of standard normal noise.

    By default sqrt(1 + sigma^2) n, which a network sees as variance 1: DDIM, PLMS, DPM++, LCM, leading Euler
    in diffusers, and Stability's own demo of SDXL Turbo. Else sigma n: Euler at linspace and trailing in
    diffusers. At the highest level of Stable Diffusion the two are 0.2 % apart.
    """
    return noise * (math.sqrt(1 + sigma**2) if variance_preserving else sigma)


def start_from_image(latent: Tensor, noise: Tensor, sigma: float) -> Tensor:
    """img2img's first state: the latent with noise of level `sigma`, the first level that is run."""
    return latent + sigma * noise
