"""Refinement: gradient steps on the latents through the decoder, before they are quantised.

    z ─► + uniform noise of a step ─► decode ─► squared error ─┐
    └─► how far from what its neighbours say ─► bits ──────────┴─► Adam on z

Encoders of small autoencoders are approximations, and none of them knows the picture's rate: a few steps move
the latents to where the decoder shows the picture better for the same bits. Decoders do not notice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.codec import scalar
from latentcodec.codec.autoencoder_chunk import ScalarQuantiser
from latentcodec.codec.scalar import Floats
from latentcodec.codec.vae_tiles import CORE, HALO, WHOLE
from latentcodec.nn.device import full_precision

if TYPE_CHECKING:
    from latentcodec.codec.latent import LatentCodec, Pixels

EFFORTS = (0, 8, 24, 72, 200)  # gradient steps of each effort
_RATE = 0.1925  # nats: a bit is worth 2 ln 2 / 12 squared steps at high rates; over ln 2, and a little more
_PACE = 0.12  # steps that Adam moves a latent at first
_NEIGHBOURS = 0.15  # what each of the four says of the one between
_SEED = 1


def refine(
    codec: LatentCodec, latents: Floats, pixels: Pixels, quantiser: ScalarQuantiser, iterations: int
) -> Floats:
    """Latents (channels, h, w) that are better encodings of `pixels` (H, W, 3) with these steps.

    Planes of several pieces are refined piece by piece, each with the halo of its neighbours held fixed.
    """
    _, height, width = latents.shape
    out = latents.copy()
    whole = height * width <= WHOLE
    across = width if whole else CORE
    down = height if whole else CORE
    for y in range(0, height, down):
        for x in range(0, width, across):
            x0, y0 = max(x - HALO, 0), max(y - HALO, 0)
            x1, y1 = min(x + across + HALO, width), min(y + down + HALO, height)
            core = slice(y - y0, min(y + down, height) - y0), slice(x - x0, min(x + across, width) - x0)
            scale = codec.downscale
            target = pixels[y0 * scale : y1 * scale, x0 * scale : x1 * scale]
            piece = _refine_piece(codec, out[:, y0:y1, x0:x1], target, quantiser, iterations, core)
            out[:, y : y + down, x : x + across] = piece[:, core[0], core[1]]
    return out


def _refine_piece(
    codec: LatentCodec,
    latents: Floats,
    pixels: Pixels,
    quantiser: ScalarQuantiser,
    iterations: int,
    core: tuple[slice, slice],
) -> Floats:
    from latentcodec.codec.latent import to_tensor

    device = codec.device
    steps = torch.from_numpy(scalar.steps(quantiser)).float().to(device)
    start = torch.from_numpy(scalar.scale(quantiser, latents)).float().to(device)
    offsets = (
        torch.from_numpy(scalar.dequantise(quantiser, np.zeros_like(latents, np.int64))).float().to(device)
    )
    target = to_tensor(pixels, device)[0]
    inside = torch.zeros_like(start)
    inside[:, core[0], core[1]] = 1
    noise = torch.Generator().manual_seed(_SEED)
    with full_precision(device), torch.inference_mode(False), torch.enable_grad():
        decode = _decoder(codec, steps, offsets)
        weight = _error_weight(decode, start, target)
        z = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([z], lr=_PACE, betas=(0.9, 0.95))
        for iteration in range(iterations):
            optimiser.param_groups[0]["lr"] = _PACE * (1 - iteration / iterations) ** 0.5
            rounding = torch.rand(z.shape, generator=noise).sub(0.5).to(device)
            error = (decode(z + rounding) - target).square().sum() * weight
            loss = error + _RATE * (1 + (z - _expected(z)).abs() * 2).log().mul(inside).sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            z.grad = z.grad * inside if z.grad is not None else None
            optimiser.step()
        moved = (z.detach() * steps + offsets).double().cpu().numpy()
    found: Floats = moved if np.isfinite(moved).all() else latents
    return found


def _decoder(codec: LatentCodec, steps: Tensor, offsets: Tensor) -> Callable[[Tensor], Tensor]:
    def decode(scaled: Tensor) -> Tensor:
        return codec.module.decode((scaled * steps + offsets)[None])[0]

    return decode


def _error_weight(decode: Callable[[Tensor], Tensor], start: Tensor, target: Tensor) -> float:
    """One over the squared error of the picture that a squared error of one step makes.

    Measured by what uniform rounding, a twelfth of a squared step a latent, adds to the picture's error.
    """
    noise = torch.rand(start.shape, generator=torch.Generator().manual_seed(_SEED + 1)).sub(0.5).to(start)
    with torch.no_grad():
        added = (decode(start + noise) - decode(start)).square().sum()
    return start.numel() / 12 / max(float(added), 1e-12)


def _expected(z: Tensor) -> Tensor:
    """What the four neighbours say of each latent; part of the loss, hence not detached."""
    padded = F.pad(z[None], (1, 1, 1, 1), mode="replicate")[0]
    around = padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1] + padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:]
    return _NEIGHBOURS * around
