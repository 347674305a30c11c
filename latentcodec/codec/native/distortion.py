"""What the encoder's search minimises beside bits: a piece's distortion, cell by cell, with its gradients.

    y^ ─► synthesise ─┬─► squared error ─────────────────────┐
    the picture ──────┼─► structure lost (MS-SSIM) ──────────┼─► by their shares ─► each cell's distortion
                      └─► visible difference (SSIMULACRA 2) ─┘                   ─► gradients by y^

The kinds of error that training weighs, local: what the networks gave bits to for the eye's sake, squared
error alone would take away again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.device import fast_precision
from latentcodec.nn.layers import signed_log
from latentcodec.nn.native.config import FRACTION
from latentcodec.nn.native.transform import Synthesis
from latentcodec.nn.perceptual import VISIBLE_SCALE, visible_cells
from latentcodec.nn.structure import MS_SSIM_SCALE, structure_cells

# The shares of structure and visible difference; squared error has what is left. Chosen on held-out pictures:
# the greatest gain in PSNR that after a long search costs hardly anything else (docs/training.md, "Effort").
STRUCTURE = 0.1
VISIBLE = 0.05
CELL = 16  # pixels along a side of a cell of 2x2 latents


@dataclass(frozen=True)
class Slopes:
    """What a picture says of a tile's latents.

    distortion (h/2, w/2), sides rounded up: of each cell, on the scale of MSE of 8-bit values, pixels that do
    not count being right. gradients: of the sum of cells by the latents (C, h, w) on the linear path, and
    by their signed logarithms, which is what the residual branch sees; none where they were not asked for.
    """

    distortion: Tensor
    gradients: tuple[Tensor, ...]


def measure(
    synthesis: Synthesis,
    latents: Tensor,
    level: int,
    pixels: Tensor,
    core: tuple[slice, slice],
    *,
    gray: bool,
    gradients: bool,
) -> Slopes:
    """The Slopes of a piece's core.

    synthesis: the decoder's integers, with gradients. latents (C, h, w) in sixteenths; pixels (4, 8h, 8w):
    the picture in 0..1, and 1 where a pixel counts, else 0. core: rows and columns of latents, whose sides
    begin at whole cells; the rest is halo.
    """
    device = synthesis.skip.device
    with fast_precision(device), torch.inference_mode(False), torch.set_grad_enabled(gradients):
        y = (latents.to(device).float() / FRACTION).requires_grad_(gradients)
        compressed = signed_log(y.detach()).requires_grad_(gradients)
        at = torch.tensor([float(level)], device=device)
        decoded = synthesis(y[None], at, compressed[None])
        if gray:
            decoded = decoded.mean(1, keepdim=True)
        # Copies: the caller's may be tensors of inference mode, which autograd cannot keep.
        with torch.autocast(device.type, enabled=False):
            cells = _distortion(pixels[None, :3].clone(), decoded.float(), pixels[None, 3:].clone())
        by_latents = torch.autograd.grad(cells.sum(), (y, compressed)) if gradients else ()
    rows, columns = (slice(side.start // 2, -(-side.stop // 2)) for side in core)
    return Slopes(cells.detach()[rows, columns], tuple(part[:, core[0], core[1]] for part in by_latents))


def _distortion(x: Tensor, decoded: Tensor, counts: Tensor) -> Tensor:
    """(rows, columns) of cells: x (1, 3, h, w), decoded (1, 1 or 3, h, w), counts (1, 1, h, w)."""
    missing = (0, -x.shape[3] % CELL, 0, -x.shape[2] % CELL)
    error = F.pad((decoded - x) * counts, missing)
    x = F.pad(x, missing, mode="replicate")
    y = x + error
    squared = 255**2 * F.avg_pool2d(error.square().mean(1), CELL)[0]
    structure = MS_SSIM_SCALE * structure_cells(x, y, CELL)[0]
    visible = VISIBLE_SCALE * visible_cells(x, y, CELL)[0]
    return (1 - STRUCTURE - VISIBLE) * squared + STRUCTURE * structure + VISIBLE * visible
