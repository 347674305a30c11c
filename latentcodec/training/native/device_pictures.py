"""Training pictures in the memory of the device that trains, and batches that are cut there.

    photographs ─► at up to five scales ─┐
                                         ├─► one flat uint8 tensor ─► crops(count): cut, flip, turn ─► gray
    drawn crops, made by processes ──────┘        chosen by the root of their area; drawn ones by their share

Nothing here waits for the host once the pictures are there, so a CUDA graph can hold it. The crops' kinds and
shares are those of training.data, but for scales: there they are any, here they are SCALES.
"""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentcodec.errors import TrainingError
from latentcodec.nn.knots import MAX_LEVEL
from latentcodec.picture.picture import Pixels
from latentcodec.training.data import GRAY_SHARE, MIRRORED_SHARE, TURN_SHARES
from latentcodec.training.drawn import drawn_crops

SCALES = (
    (1.0, None),
    (0.84, Image.Resampling.LANCZOS),
    (0.71, Image.Resampling.BICUBIC),
    (0.6, Image.Resampling.BOX),
    (0.5, Image.Resampling.LANCZOS),
)
DRAWINGS = 1800  # drawn crops that are kept
_MOST_WORKERS = 12
_FEW = 32  # drawn crops that are not worth a process


class DevicePictures:
    """Pictures on a device, from which batches of random crops are taken there."""

    def __init__(
        self,
        photographs: Sequence[Pixels],
        crop: int,
        device: torch.device,
        *,
        drawn: float = 0.0,
        drawings: int = DRAWINGS,
        seed: int = 0,
    ) -> None:
        """photographs: uint8 (H, W, 3), both sides at least `crop`; drawn: the share of crops that are drawn,
        of which `drawings` different ones are made. Raises TrainingError where the device lacks the memory.
        """
        drawings = drawings if drawn else 0
        shapes = [
            shape for pixels in photographs for shape, _ in scaled_shapes(*pixels.shape[:2], smallest=crop)
        ]
        self._photographed = len(shapes)
        shapes += [(crop, crop)] * drawings
        sizes = np.array([3 * height * width for height, width in shapes], dtype=np.int64)
        starts = np.cumsum(sizes) - sizes
        try:
            self._flat = torch.empty(int(sizes.sum()), dtype=torch.uint8, device=device)
        except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, another one on a CPU
            raise TrainingError(
                f"{len(photographs)} pictures at up to {len(SCALES)} scales take {sizes.sum() / 1e9:.2f} GB, "
                f"more than {device} has free; train on fewer or smaller ones"
            ) from error
        pictures = _prepared(photographs, crop, drawings, seed)
        for start, pixels in zip(starts.tolist(), pictures, strict=True):
            flat = torch.from_numpy(np.array(pixels, copy=True).reshape(-1))
            self._flat[start : start + len(flat)].copy_(flat)
        self.crop, self.device, self.bytes = crop, device, int(sizes.sum())
        self._starts = torch.from_numpy(starts).to(device)
        self._sides = torch.tensor(shapes, dtype=torch.int64).to(device)
        self._cumulative = torch.from_numpy(np.cumsum(choice_shares(shapes, self._photographed, drawn))).to(
            device
        )
        self._turns = torch.tensor(np.cumsum(TURN_SHARES)[:-1], dtype=torch.float32).to(device)

    def crops(self, count: int) -> tuple[Tensor, Tensor]:
        """`count` random crops, uint8 (count, crop, crop, 3), and which of them are drawn, bool (count,).

        Those of photographs are mirrored and turned at random.
        """
        size, device = self.crop, self.device
        chance = torch.rand(count, device=device, dtype=torch.float64)
        chosen = torch.searchsorted(self._cumulative, chance).clamp(max=len(self._cumulative) - 1)
        drawn = chosen >= self._photographed
        height, width = self._sides[chosen].unbind(1)
        top, left = _below(height - size + 1), _below(width - size + 1)
        turn = torch.searchsorted(self._turns, torch.rand(count, device=device), right=True)
        turn = (turn * ~drawn)[:, None, None]  # no torch.where with a number, which comes from the host
        mirrored = ((torch.rand(count, device=device) < MIRRORED_SHARE) & ~drawn)[:, None, None]
        # Which pixel of the piece goes where; first mirrored, then turned, as in training.data.random_crop.
        place = torch.arange(size, device=device)
        row, column = place[None, :, None], place[None, None, :]
        across = turn % 2 == 1
        y, x = torch.where(across, column, row), torch.where(across, row, column)
        y = torch.where(turn >= 2, size - 1 - y, y)
        x = torch.where(((turn == 1) | (turn == 2)) ^ mirrored, size - 1 - x, x)
        pixel = (top[:, None, None] + y) * width[:, None, None] + left[:, None, None] + x
        first = self._starts[chosen][:, None, None] + 3 * pixel
        return self._flat[first[..., None] + torch.arange(3, device=device)], drawn

    def batch(self, count: int) -> Tensor:
        """`count` crops, some of photographs made gray: float (count, 3, crop, crop) in 0..1."""
        crops, drawn = self.crops(count)
        x = crops.permute(0, 3, 1, 2).float().div_(255)
        gray = (torch.rand(count, device=self.device) < GRAY_SHARE) & ~drawn
        return torch.where(gray[:, None, None, None], x.mean(1, keepdim=True), x).contiguous()


def stratified_levels(count: int, device: torch.device) -> Tensor:
    """Quality levels (count,), one in each of `count` equal parts of their range, in random order.

    The ends get a little more than their part.
    """
    level = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    level = ((1.04 * level - 0.02) * MAX_LEVEL).clamp(0, MAX_LEVEL)
    return level[torch.rand(count, device=device).argsort()]


def choice_shares(shapes: Sequence[tuple[int, int]], photographed: int, drawn: float) -> np.ndarray:
    """With what probability each picture is chosen: float64, their sum is 1.

    shapes: (height, width), the first `photographed` of them photographs, which go by the root of their area.
    The others are drawn and together have the probability `drawn`.
    """
    shares = np.sqrt(np.array([height * width for height, width in shapes], dtype=np.float64))
    photographs, drawings = shares[:photographed], shares[photographed:]
    photographs *= (1 - drawn if len(drawings) else 1.0) / photographs.sum()
    if len(drawings):
        drawings *= drawn / drawings.sum()
    return shares


def scaled_shapes(
    height: int, width: int, *, smallest: int
) -> list[tuple[tuple[int, int], Image.Resampling | None]]:
    """(height, width) at each of SCALES with both sides `smallest` or more, and how to reduce to it."""
    scaled = [((round(height * scale), round(width * scale)), method) for scale, method in SCALES]
    return [(shape, method) for shape, method in scaled if min(shape) >= smallest]


def _below(limit: Tensor) -> Tensor:
    """Random integers from 0 to limit - 1, each as often; limit (B,) int64."""
    chance = torch.rand(limit.shape, device=limit.device, dtype=torch.float64)
    return torch.minimum((chance * limit).long(), limit - 1)


def _prepared(photographs: Sequence[Pixels], crop: int, drawings: int, seed: int) -> Iterator[Pixels]:
    """All photographs at all their scales, then the drawn crops, which are made meanwhile."""

    def scaled(pixels: Pixels) -> list[Pixels]:
        image = Image.fromarray(pixels)
        return [
            pixels if method is None else np.asarray(image.resize((width, height), method))
            for (height, width), method in scaled_shapes(*pixels.shape[:2], smallest=crop)
        ]

    cores = os.cpu_count() or 1
    workers = min(_MOST_WORKERS, cores - 1, drawings // _FEW)
    drawing = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) if workers > 1 else None
    try:
        jobs = (
            [drawing.submit(drawn_crops, crop, seed, range(k, drawings, workers)) for k in range(workers)]
            if drawing
            else []
        )
        with ThreadPoolExecutor(cores) as threads:
            for start in range(0, len(photographs), 4 * cores):  # not all at once: they take memory
                for scales in threads.map(scaled, photographs[start : start + 4 * cores]):
                    yield from scales
        try:
            parts = [job.result() for job in jobs]
        except (BrokenProcessPool, OSError) as error:
            warnings.warn(f"drawing crops in this process, as others failed: {error}", stacklevel=2)
            parts = []
        yield from (pixels for part in parts or [drawn_crops(crop, seed, range(drawings))] for pixels in part)
    finally:
        if drawing:
            drawing.shutdown(cancel_futures=True)
