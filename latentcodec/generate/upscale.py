"""Upscaling by four: the x4 upscaler's UNet sees the small picture itself, with a little noise.

    picture (H, W) ─► + noise of `noise_level` ─┐
    noise (4, H, W) ────────────────────────────┴─► UNet, in overlapping tiles where the picture is large
        ─► latents (4, H, W) ─► decoder of factor 4 ─► (4H, 4W)

Tiles overlap, and what the UNet predicts is mixed there at every step, so that neighbours grow into one
picture: Bar-Tal et al., "MultiDiffusion" (2023). Memory is bounded by a tile's; the size has no other limit.
Saharia et al., "Image super-resolution via iterative refinement" (2021); noise on the condition: Ho et
al., "Cascaded diffusion models" (2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from latentcodec.diffusion.noise import seeded_noise
from latentcodec.errors import InvalidArgument
from latentcodec.generate.defaults import MAX_NOISE_LEVEL, whole
from latentcodec.generate.latents import to_tensor
from latentcodec.generate.models import UPSCALER_SCHEDULE, Model
from latentcodec.generate.sampling import levels_of, start
from latentcodec.generate.text_to_image import Task, blank, conditions, run
from latentcodec.picture.picture import Pixels

FACTOR = 4
TILE = 192  # positions along a side that the UNet sees at once; it was trained on 128
OVERLAP = 32  # of neighbouring tiles
WHOLE = TILE**2


def upscale(model: Model, task: Task, pixels: Pixels, noise_level: int) -> Tensor:
    """Latents (B, C, H, W) of pictures of four times the sides of one (H, W, 3); task.size is (4W, 4H).

    noise_level: 0 to MAX_NOISE_LEVEL; more lets the model invent more. Raises as text_to_image does.
    """
    level = whole("noise_level", noise_level, 0, MAX_NOISE_LEVEL)
    if not model.unet.config.classes or model.downscale != FACTOR:
        raise InvalidArgument(
            f"{model.name} is of {model.family}, and cannot upscale by {FACTOR}: take sd-x4-upscaler"
        )
    small = to_tensor(pixels, 1, blank(model, task)).mul(2).sub(1).expand(len(task.seeds), -1, -1, -1)
    noise = seeded_noise(task.seeds)
    share = float(UPSCALER_SCHEDULE.alphas_cumprod[level])  # the picture's share of the variance
    noisy = share**0.5 * small + (1 - share) ** 0.5 * noise(small)
    condition, negative = conditions(model, task, noisy)
    labels = torch.full((len(task.seeds),), level, device=model.device)
    condition = replace(condition, labels=labels)
    negative = None if negative is None else replace(negative, labels=labels)
    levels = levels_of(task.settings, model.schedule)
    x = start(noise(blank(model, task)), task.settings, levels)
    tiled = model if x.shape[2] * x.shape[3] <= WHOLE else replace(model, call=in_tiles(model.call))
    return run(tiled, task, condition, negative, x, levels, noise)


def in_tiles(unet: Callable[..., Any], side: int = TILE, overlap: int = OVERLAP) -> Callable[..., Tensor]:
    """A UNet that is run on tiles of at most `side` positions, what it predicts mixed over the overlaps."""

    def call(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        height, width = x.shape[2:]
        total: Tensor | None = None
        weights = torch.zeros(height, width, device=x.device)
        for y, left in product(starts(height, side, overlap), starts(width, side, overlap)):
            rows, columns = slice(y, y + side), slice(left, left + side)
            predicted: Tensor = unet(x[:, :, rows, columns], *arguments, **options)
            if total is None:
                wide = torch.promote_types(predicted.dtype, torch.float32)
                total = predicted.new_zeros(len(x), predicted.shape[1], height, width, dtype=wide)
            down, across = (_fade(length, overlap).to(x.device) for length in predicted.shape[2:])
            weight = down[:, None] * across
            total[:, :, rows, columns] += weight * predicted
            weights[rows, columns] += weight
        return x if total is None else total / weights

    return call


def starts(size: int, side: int, overlap: int) -> list[int]:
    """Where tiles of `side` begin that cover `size` positions, evenly, and overlap by at least `overlap`."""
    count = max(1, -(-(size - overlap) // (side - overlap)))
    return [round(index * (size - side) / (count - 1)) for index in range(count)] if count > 1 else [0]


def _fade(length: int, overlap: int) -> Tensor:
    """(length,) weights, 1 in the middle, that fall over `overlap` positions towards both ends."""
    place = torch.arange(length) + 0.5
    return torch.minimum(place, length - place).div(overlap).clamp(max=1)
