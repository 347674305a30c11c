"""Refinement: gradient steps on the latents through the decoder, before they are quantised.

    z ─► + uniform noise of a step ─► decode ─► squared error ─┐
    └─► how far from what its neighbours say ─► bits ──────────┴─► Adam on z

Encoders of small autoencoders are approximations, and none of them knows the picture's rate: a few steps move
the latents to where the decoder shows the picture better for the same bits. Decoders do not notice.

A gradient needs what the decoder computed on its way, 1.6 MB a position with Stable Diffusion's and 0.15 MB
with the TAESD family. A piece of vae_tiles that would keep more than MEMORY goes through in parts:

    piece ─► decode ─► statistics of its group norms ─► fixed: for each part, with a halo of its own,
                                                     decode ─► error of its samples ─► adds to the gradient
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.codec.arguments import REFINED_FROM
from latentcodec.codec.autoencoder.fixed_norms import fix_norms
from latentcodec.codec.autoencoder.latent import LatentCodec, to_tensor
from latentcodec.codec.autoencoder.vae_tiles import HALO, cores
from latentcodec.codec.planes import LatentBox, with_halo
from latentcodec.codec.values import scalar
from latentcodec.codec.values.coder import Floats
from latentcodec.container.autoencoder import ScalarQuantiser
from latentcodec.nn.device import full_precision
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderKL
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TinyAutoencoder
from latentcodec.picture.picture import Pixels

Autoencoder = AutoencoderKL | TinyAutoencoder
Array = TypeVar("Array", Tensor, Floats)

STEPS = (*[0] * REFINED_FROM, 4, 8, 20, 40, 80, 200)  # gradient steps, by effort
MEMORY = 2_200_000_000  # bytes that the decoder may keep for a gradient
_SAMPLE = 20  # side of the piece that shows how much; up to 16, convolutions keep more
_RATE = 0.1925  # nats: a bit is worth 2 ln 2 / 12 squared steps at high rates; over ln 2, and a little more
_PACE = 0.12  # steps that Adam moves a latent at first
_NEIGHBOURS = 0.15  # what each of the four says of the one between
_SEED = 1
_LEAST = 20  # side of a part with its halo, however much it keeps
_PART_HALO = 6  # with 5, taef2's parts gain what its pieces do


def refine(
    codec: LatentCodec,
    latents: Floats,
    pixels: Pixels,
    quantiser: ScalarQuantiser,
    iterations: int,
    *,
    peak: int = 255,
) -> Floats:
    """Latents (channels, h, w) that are better encodings of `pixels` (H, W, 3) with these steps.

    peak: the sample that is white.

    Planes of several pieces are refined piece by piece, each with the halo of its neighbours held fixed.
    """
    _, height, width = latents.shape
    out = latents.copy()
    scale = codec.downscale
    budget = MEMORY / _kept_bytes(codec, codec.module)
    for core in cores(width, height):
        piece = x0, y0, x1, y1 = with_halo(core, HALO, width, height)
        inside = core[0] - x0, core[1] - y0, core[2] - x0, core[3] - y0
        parts = [Part((0, 0, x1 - x0, y1 - y0), (0, 0, x1 - x0, y1 - y0))]
        if (x1 - x0) * (y1 - y0) > budget:
            parts = split(inside, x1 - x0, y1 - y0, MEMORY / _kept_bytes(codec, _fixed(codec)))
        target = to_tensor(pixels[y0 * scale : y1 * scale, x0 * scale : x1 * scale], codec.device, peak)[0]
        refined = _refine_piece(codec, _cut(out, piece), target, quantiser, iterations, inside, parts)
        _cut(out, core)[:] = _cut(refined, inside)
    return out


class Part(NamedTuple):
    """What of a piece is decoded at once, and what of that counts."""

    seen: LatentBox
    counts: LatentBox


def split(core: LatentBox, width: int, height: int, positions: float) -> list[Part]:
    """Parts of a piece of width x height, alike in size: each sees at most so many positions, but 20 a side.

    What they count is the core, each position once, and around it half of a part's halo, which latents at its
    border show in.
    """
    largest = max(int(positions**0.5), _LEAST) - 2 * _PART_HALO
    x0, y0, x1, y1 = core
    across, down = (-(-size // -(-size // largest)) for size in (x1 - x0, y1 - y0))
    parts = []
    for y in range(y0, y1, down):
        for x in range(x0, x1, across):
            own = x, y, min(x + across, x1), min(y + down, y1)
            left, top, right, bottom = with_halo(own, _PART_HALO // 2, width, height)
            counts = (
                left if x == x0 else own[0],
                top if y == y0 else own[1],
                right if own[2] == x1 else own[2],
                bottom if own[3] == y1 else own[3],
            )
            parts.append(Part(with_halo(own, _PART_HALO, width, height), counts))
    return parts


def _cut(plane: Array, box: LatentBox, scale: int = 1) -> Array:
    """The box of a plane (channels, h * scale, w * scale), a view."""
    x0, y0, x1, y1 = (edge * scale for edge in box)
    return plane[:, y0:y1, x0:x1]


def _fixed(codec: LatentCodec, latents: Tensor | None = None) -> Autoencoder:
    """The autoencoder with the statistics of these latents' (channels, h, w) decoding, or of small ones'."""
    if latents is None:
        latents = torch.zeros((codec.latents, _LEAST, _LEAST), device=codec.device)
    return fix_norms(codec.module, lambda network: network.decode(latents[None]))


def _kept_bytes(codec: LatentCodec, network: Autoencoder) -> float:
    """What the decoder keeps for a gradient, in bytes a latent position: measured on a small plane."""
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage

    with full_precision(codec.device), torch.inference_mode(False), torch.enable_grad():
        plane = torch.zeros((1, codec.latents, _SAMPLE, _SAMPLE), device=codec.device, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing):
            network.decode(plane)
    for weight in network.parameters():
        storages.pop(weight.untyped_storage().data_ptr(), None)
    return max(sum(storage.nbytes() for storage in storages.values()) / _SAMPLE**2, 1.0)


def _refine_piece(
    codec: LatentCodec,
    latents: Floats,
    target: Tensor,
    quantiser: ScalarQuantiser,
    iterations: int,
    core: LatentBox,
    parts: Sequence[Part],
) -> Floats:
    device, scale = codec.device, codec.downscale
    steps = torch.from_numpy(scalar.steps(quantiser)).float().to(device)
    start = torch.from_numpy(scalar.scale(quantiser, latents)).float().to(device)
    nothing = np.zeros((len(latents), 1, 1), np.int64)
    offsets = torch.from_numpy(scalar.dequantise(quantiser, nothing)).float().to(device)
    inside = torch.zeros_like(start)
    _cut(inside, core)[:] = 1
    noise = torch.Generator().manual_seed(_SEED)
    with full_precision(device), torch.inference_mode(False), torch.enable_grad():
        weight = _error_weight(lambda scaled: codec.module.decode((scaled * steps + offsets)[None])[0], start)
        z = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([z], lr=_PACE, betas=(0.9, 0.95))
        for iteration in range(iterations):
            optimiser.param_groups[0]["lr"] = _PACE * (1 - iteration / iterations) ** 0.5
            optimiser.zero_grad()
            rounding = torch.rand(z.shape, generator=noise).sub(0.5).to(device)
            noisy = ((z.detach() + rounding) * steps + offsets).requires_grad_()
            network = codec.module if len(parts) == 1 else _fixed(codec, noisy.detach())
            for seen, counts in parts:
                decoded = network.decode(_cut(noisy, seen)[None])[0]
                counted = counts[0] - seen[0], counts[1] - seen[1], counts[2] - seen[0], counts[3] - seen[1]
                error = _cut(decoded, counted, scale) - _cut(target, counts, scale)
                (error.square().sum() * weight).backward()  # type: ignore[no-untyped-call]
            rate = _RATE * (1 + (z - _expected(z)).abs() * 2).log().mul(inside).sum()
            rate.backward()  # type: ignore[no-untyped-call]
            if z.grad is not None and noisy.grad is not None:
                z.grad = (z.grad + noisy.grad * steps) * inside
            optimiser.step()
        refined: Floats = (z.detach() * steps + offsets).double().cpu().numpy()
    return refined if np.isfinite(refined).all() else latents


def _error_weight(decode: Callable[[Tensor], Tensor], start: Tensor) -> float:
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
