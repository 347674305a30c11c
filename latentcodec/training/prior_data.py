"""What a prior is fitted to: an autoencoder's latents of random crops, computed once and kept in memory.

pictures ─► random crops ─► encode ─► latents, sensitivities (LatentSet)
LatentSet ─► batch(step): windows, levels ─► the encoder's own steps ─► latents in steps
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from latentcodec.codec import scalar
from latentcodec.codec.latent import LatentCodec
from latentcodec.codec.steps import choose_steps, sensitivities
from latentcodec.errors import TrainingError
from latentcodec.nn.layers import MAX_LEVEL
from latentcodec.training.data import random_crop, unreadable

CROP = 32  # side of a crop in latent positions
WINDOW = 24  # side of what a batch takes of a crop; a multiple of 4
_PROBE = 16  # side of the part of a crop that sensitivities are measured on: the costliest part of it

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LatentSet:
    """latents (N, C, CROP, CROP) float32; shows (N, C), the sensitivities of steps.py."""

    latents: npt.NDArray[np.float32]
    shows: Floats

    @cached_property
    def centres(self) -> Floats:
        """(C,) each channel's mean."""
        centres: Floats = self.latents.mean((0, 2, 3), dtype=np.float64)
        return centres

    def batch(self, seed: int, step: int, count: int) -> tuple[Tensor, Tensor]:
        """Latents in steps, centres taken off (count, C, WINDOW, WINDOW), and levels (count,) of step `step`.

        Every batch covers the whole range of levels, the lowest first.
        """
        rng = np.random.default_rng((seed, step))
        levels = np.rint((np.arange(count) + rng.random(count)) / count * MAX_LEVEL).astype(int)
        return self._scaled(rng.integers(len(self.latents), size=count), levels, WINDOW, rng)

    def at_level(self, level: int, count: int) -> Tensor:
        """The first `count` crops at one level: latents in steps (count, C, CROP, CROP)."""
        chosen = np.arange(min(count, len(self.latents)))
        return self._scaled(chosen, np.full(len(chosen), level), CROP, np.random.default_rng(0))[0]

    def _scaled(
        self, chosen: Longs, levels: Longs, side: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        centres, windows = self.centres, []
        for index, level in zip(chosen.tolist(), levels.tolist(), strict=True):
            top, left = rng.integers(CROP - side + 1, size=2).tolist()
            window = self.latents[index, :, top : top + side, left : left + side] - centres[:, None, None]
            windows.append(window / scalar.steps(choose_steps(level, self.shows[index], centres)))
        return torch.from_numpy(np.stack(windows)).float(), torch.from_numpy(levels).float()


def gather_latents(
    codec: LatentCodec,
    paths: list[Path],
    seed: int,
    count: int,
    seconds: float | None = None,
    stopped: Callable[[], object] = lambda: False,
) -> LatentSet:
    """Latents of `count` random crops of pictures; of fewer, but at least 8, where `seconds` run out.

    Ends early when stopped() is true, too. Pictures smaller than a crop are passed over. Raises TrainingError
    naming a file that is no picture, or where none is large enough.
    """
    rng, side = np.random.default_rng(seed), CROP * codec.downscale
    latents: list[npt.NDArray[np.float32]] = []
    shows: list[Floats] = []
    begun = time.monotonic()
    order, small = rng.permutation(len(paths)).tolist(), 0
    while len(latents) < count and not stopped():
        if len(latents) >= 8 and seconds is not None and time.monotonic() - begun > seconds:
            break
        path = paths[order[(len(latents) + small) % len(order)]]
        try:
            with Image.open(path) as image:
                pixels = np.array(image.convert("RGB"))
        except Exception as error:  # Pillow's decoders raise almost anything on damaged data
            raise unreadable(path, error) from error
        if min(pixels.shape[:2]) < side:
            small += 1
            if small >= len(paths) and not latents:
                raise TrainingError(f"no picture of {len(paths)} has both sides of at least {side} pixels")
            continue
        latent = codec.analyse(np.ascontiguousarray(random_crop(pixels, side, rng)))
        low, high = (CROP - _PROBE) // 2, (CROP + _PROBE) // 2
        shows.append(sensitivities(codec, latent[:, low:high, low:high]))
        latents.append(latent.astype(np.float32))
    if not latents:
        raise TrainingError("stopped before there were any latents to fit a prior to")
    return LatentSet(np.stack(latents), np.stack(shows))
