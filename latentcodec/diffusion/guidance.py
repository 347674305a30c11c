"""Classifier-free guidance: x0 = unconditional + scale (conditional - unconditional).

A denoiser is linear in its network's output, so guiding x0 equals guiding epsilon or v. Ho and Salimans,
"Classifier-free diffusion guidance" (2022); scale 1 is the conditional one alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentcodec.diffusion.prediction import Denoiser


def guide(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Guidance by two denoisers, run one after the other: slower than a batch, in half its memory."""
    if scale == 1:
        return conditional

    def denoise(x: Tensor, sigma: float) -> Tensor:
        without = unconditional(x, sigma)
        return without + scale * (conditional(x, sigma) - without)

    return denoise


def guide_batch(pair: Denoiser, scale: float) -> Denoiser:
    """Guidance by one denoiser of a batch of 2B: the first half unconditional, the second conditional."""

    def denoise(x: Tensor, sigma: float) -> Tensor:
        without, with_condition = pair(torch.cat([x, x]), sigma).chunk(2)
        return without + scale * (with_condition - without)

    return denoise
