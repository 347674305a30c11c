"""Rate and distortion of a model in training form, from the code lengths of its real symbols.

pictures ─► model(relaxed=False) at each quality ─► rows of (quality, bpp, PSNR, MS-SSIM), means over pictures

Real files come out a little larger (headers, lanes, 16-bit tables): benchmarks/ measures those.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcodec.container.quality import level_of_quality
from latentcodec.errors import TrainingError
from latentcodec.nn.native.model import NativeModel
from latentcodec.nn.structure import ms_ssim
from latentcodec.picture.guard import open_image
from latentcodec.training.data import unreadable

QUALITIES = (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)
SMALLEST = 192  # pixels: a multiple of 32 that leaves all five scales of MS-SSIM their window


@dataclass(frozen=True)
class Point:
    """Means over pictures: bits per pixel, PSNR in dB over RGB, MS-SSIM."""

    quality: float
    bpp: float
    psnr: float
    ms_ssim: float


def check_pictures(paths: list[Path]) -> None:
    """Raise TrainingError, naming the file, unless all are pictures that can be evaluated."""
    for path in paths:
        try:
            with path.open("rb") as file, open_image(file, str(path)) as image:
                width, height = image.size
        except Exception as error:  # Pillow raises almost anything on damaged headers
            raise unreadable(path, error) from error
        if min(width, height) < SMALLEST:
            raise TrainingError(
                f"{path}: {width}x{height} pixels, but evaluation needs {SMALLEST} a side; "
                "take it out of the folder"
            )


def load(path: Path) -> Tensor:
    """A picture (1, 3, H, W) in 0..1, cut at the centre to sides that are multiples of 32."""
    try:
        with path.open("rb") as file, open_image(file, str(path)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # ... and on damaged data
        raise unreadable(path, error) from error
    height, width = (side // 32 * 32 for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    pixels = pixels[top : top + height, left : left + width]
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


@torch.no_grad()
def zero_branches(model: NativeModel) -> None:
    """Silence the convolutional branches of both transforms: what is left is the lapped block transform."""
    for layer in (model.analysis.conv_out, model.synthesis.layers["out/conv"]):
        for parameter in layer.parameters():
            parameter.zero_()


@torch.no_grad()
def evaluate(
    model: NativeModel,
    paths: list[Path],
    qualities: tuple[float, ...] = QUALITIES,
    progress: Callable[[int, int], None] | None = None,
) -> list[Point]:
    """A rate-distortion curve over pictures of at least SMALLEST pixels a side. Raises TrainingError."""
    check_pictures(paths)
    model.eval()
    device = next(model.parameters()).device
    sums = np.zeros((len(qualities), 3))
    for done, path in enumerate(paths):
        x = load(path).to(device)
        for i, quality in enumerate(qualities):
            level = torch.tensor([float(level_of_quality(quality))], device=device)
            decoded, bits = model(x, level, relaxed=False)
            decoded = (decoded * 255).round().clamp(0, 255) / 255
            mse = float(((decoded - x) ** 2).mean())
            score = float(ms_ssim(x, decoded, window=11))
            sums[i] += (float(bits) / (x.shape[2] * x.shape[3]), -10 * np.log10(max(mse, 1e-10)), score)
        if progress:
            progress(done + 1, len(paths))
    model.train()
    return [Point(q, *(float(v) for v in row / len(paths))) for q, row in zip(qualities, sums, strict=True)]
