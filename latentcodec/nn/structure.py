"""How alike two pictures are in structure: MS-SSIM with gradients, of whole pictures and cell by cell.

    x, y ─► halved up to four times ─► blurred means, squares, products ─► contrast [x luminance]
                                    ─► means ─► product of powers                      ms_ssim
                                    ─► means of each cell ─► weighted sum of the lacks  structure_cells

Wang et al., "Multiscale structural similarity for image quality assessment" (2003). Blurs are banded matrix
products, several times faster on a CPU than depthwise convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al.: the exponents of the five scales
SCALES = len(MS_SSIM_WEIGHTS)
MS_SSIM_SCALE = 1300.0  # 1 - MS-SSIM times this is of the size of the MSE of the same codec
SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def ms_ssim(x: Tensor, y: Tensor, window: int = 7) -> Tensor:
    """(B,) MS-SSIM of (B, C, H, W) in 0..1; sides of at least 16 * window. Whole windows only."""
    scores = []
    for scale in range(SCALES):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        rows = _banded(x.shape[-2], window, x.device)
        columns = rows if x.shape[-1] == x.shape[-2] else _banded(x.shape[-1], window, x.device)
        similarity = _similarity(x, y, rows, columns, last=scale == SCALES - 1)
        scores.append(similarity.mean((2, 3)).clamp(min=1e-3))
    weights = torch.tensor(MS_SSIM_WEIGHTS, device=x.device)
    return torch.exp((torch.stack(scores).log() * weights[:, None, None]).sum(0)).mean(1)


def structure_cells(x: Tensor, y: Tensor, cell: int) -> Tensor:
    """(B, H / cell, W / cell), near 1 - MS-SSIM of each cell of cell x cell pixels, a multiple of 16.

    x, y: (B, C, H, W) in 0..1, sides multiples of `cell`. The sum of the scales' lacks by their exponents, to
    which the product of powers comes near where little is lacking; windows of 7, renormalised at borders.
    """
    total = torch.zeros(1, device=x.device)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        rows = renormalised_blur(x.shape[-2], 3, x.device)
        columns = renormalised_blur(x.shape[-1], 3, x.device)
        similarity = _similarity(x, y, rows, columns, last=scale == SCALES - 1)
        total = total + weight * F.avg_pool2d((1 - similarity).mean(1), cell >> scale)
    return total


def _similarity(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor, *, last: bool) -> Tensor:
    """Contrast and structure at each window of (B, C, H, W); at the last scale times luminance."""
    stack = rows @ torch.stack([x, y, x * x + y * y, x * y]) @ columns.t()
    mean_x, mean_y, squares, product = stack.unbind(0)
    cross = mean_x * mean_y
    energy = mean_x * mean_x + mean_y * mean_y
    contrast: Tensor = (2 * (product - cross) + _C2) / (squares - energy + _C2)
    return contrast * (2 * cross + _C1) / (energy + _C1) if last else contrast


def _banded(size: int, window: int, device: torch.device) -> Tensor:
    """(size - window + 1, size) matrix of a Gaussian blur, valid positions only."""
    x = torch.arange(window, dtype=torch.float32, device=device) - window // 2
    kernel = torch.exp(-(x**2) / (2 * SIGMA**2))
    count = size - window + 1
    column, row = torch.arange(size, device=device), torch.arange(count, device=device)
    padded = F.pad(kernel / kernel.sum(), (0, size - window)).repeat(count, 1)
    return padded.gather(1, (column - row[:, None]) % size)


def renormalised_blur(size: int, radius: int, device: torch.device) -> Tensor:
    """(size, size) matrix of a Gaussian blur, renormalised at the borders."""
    position = torch.arange(size, dtype=torch.float32, device=device)
    distance = position - position[:, None]
    kernel = torch.exp(-(distance**2) / (2 * SIGMA**2)) * (distance.abs() <= radius)
    return kernel / kernel.sum(1, keepdim=True)
