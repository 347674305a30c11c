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

from latentcodec.nn.constants import DeviceConstant

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al.: the exponents of the five scales
SCALES = len(MS_SSIM_WEIGHTS)
_EXPONENTS = DeviceConstant(MS_SSIM_WEIGHTS)
MS_SSIM_SCALE = 1300.0  # 1 - MS-SSIM times this is of the size of the MSE of the same codec
SIGMA = 1.5
_BLOCK = 128  # values that a blur's matrix makes at once
_C1, _C2 = 0.01**2, 0.03**2


def ms_ssim(x: Tensor, y: Tensor, window: int = 7) -> Tensor:
    """(B,) MS-SSIM of (B, C, H, W) in 0..1; sides of at least 16 * window. Whole windows only."""
    scores = []
    for scale in range(SCALES):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        rows, columns = (_banded(side, window, x.device) for side in x.shape[-2:])
        blurred = (rows @ moment @ columns.t() for moment in moments(x, y))
        similarity = _similarity(*blurred, last=scale == SCALES - 1)
        scores.append(similarity.mean((2, 3)).clamp(min=1e-3))
    weights = _EXPONENTS.on(x.device)
    return torch.exp((torch.stack(scores).log() * weights[:, None, None]).sum(0)).mean(1)


def structure_cells(x: Tensor, y: Tensor, cell: int) -> Tensor:
    """(B, H / cell, W / cell), near 1 - MS-SSIM of each cell of cell x cell pixels, a multiple of 16.

    x, y: (B, C, H, W) in 0..1, sides multiples of `cell`. The sum of the scales' lacks by their exponents, to
    which the product of powers comes near where little is lacking; windows of 7, renormalised at borders. The
    finest scale, half of the work, is left out: its exponent goes to the next.
    """
    finest, *weights = MS_SSIM_WEIGHTS
    weights[0] += finest
    total = torch.zeros(1, device=x.device)
    for scale, weight in enumerate(weights, 1):
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        similarity = _similarity(*(blur(moment, 3) for moment in moments(x, y)), last=scale == SCALES - 1)
        total = total + weight * F.avg_pool2d((1 - similarity).mean(1), cell >> scale)
    return total


def moments(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """What is blurred: x (which has no gradients), and y, x^2 + y^2 and x y, stacked."""
    return x, torch.stack([y, x * x + y * y, x * y])


def _similarity(mean_x: Tensor, others: Tensor, *, last: bool) -> Tensor:
    """Contrast and structure at each window, of blurred moments; at the last scale times luminance."""
    mean_y, squares, product = others.unbind(0)
    cross = mean_x * mean_y
    energy = mean_x * mean_x + mean_y * mean_y
    contrast: Tensor = (2 * (product - cross) + _C2) / (squares - energy + _C2)
    return contrast * (2 * cross + _C1) / (energy + _C1) if last else contrast


def _banded(size: int, window: int, device: torch.device) -> Tensor:
    """(size - window + 1, size) matrix of a Gaussian blur, valid positions only."""
    kernel = _gaussian(window // 2, device)
    count = size - window + 1
    column, row = torch.arange(size, device=device), torch.arange(count, device=device)
    padded = F.pad(kernel / kernel.sum(), (0, size - window)).repeat(count, 1)
    return padded.gather(1, (column - row[:, None]) % size)


def blur(values: Tensor, radius: int) -> Tensor:
    """(..., H, W) Gaussian blur of SIGMA, cut at `radius` and renormalised at the borders."""
    return _blur_rows(_blur_rows(values, radius).transpose(-2, -1), radius).transpose(-2, -1)


def _blur_rows(values: Tensor, radius: int) -> Tensor:
    """In blocks: a matrix of the whole side would take time and memory by its square."""
    size, device = values.shape[-1], values.device
    block = min(size, _BLOCK)
    kernel = _gaussian(radius, device)
    place = torch.arange(block + 2 * radius, device=device) - torch.arange(block, device=device)[:, None]
    band = kernel[place.clamp(0, 2 * radius)] * ((place >= 0) & (place <= 2 * radius))

    def banded(rows: Tensor) -> Tensor:
        padded = F.pad(rows, (radius, radius + -size % block))
        blocks = padded.unfold(-1, block + 2 * radius, block)
        blurred = blocks.reshape(-1, block + 2 * radius) @ band.t()  # one product, not one for each plane
        return blurred.view(*rows.shape[:-1], -1)[..., :size]

    return banded(values) / banded(torch.ones(size, device=device))


def _gaussian(radius: int, device: torch.device) -> Tensor:
    """(2 radius + 1,), not normalised."""
    distance = torch.arange(-radius, radius + 1, dtype=torch.float32, device=device)
    return torch.exp(-(distance**2) / (2 * SIGMA**2))
