"""The training loss: (bits per pixel + lambda * D) / sqrt(lambda), D of MSE, MS-SSIM and visible difference.

D lives on the scale of the mean squared error of 8-bit values. The division by sqrt(lambda) makes the
gradients of all qualities alike in size, so that one batch can hold all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.layers import lambda_of_level
from latentcodec.training.perceptual import visible_difference

# 1 - MS-SSIM, and visible_difference, times these are of the size of the MSE of the same codec.
MS_SSIM_SCALE = 1300.0
VISIBLE_SCALE = 7.0
# Wang et al., "Multiscale structural similarity" (2003): the exponents of the five scales.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def _window(size: int, sigma: float) -> Tensor:
    x = torch.arange(size, dtype=torch.float32) - size // 2
    g = torch.exp(-(x**2) / (2 * sigma**2))
    return g / g.sum()


def ms_ssim(x: Tensor, y: Tensor, window: int = 7, sigma: float = 1.5) -> Tensor:
    """(B,) MS-SSIM of (B, C, H, W) in 0..1; sides of at least 16 * window.

    Blurs are banded matrix products, several times faster on a CPU than depthwise convolutions.
    """
    scores = []
    kernel = _window(window, sigma).to(x.device)
    for scale in range(5):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        blur_rows = _banded(kernel, x.shape[-2])
        blur_columns = blur_rows if x.shape[-1] == x.shape[-2] else _banded(kernel, x.shape[-1])
        stack = blur_rows @ torch.stack([x, y, x * x + y * y, x * y]) @ blur_columns.t()
        mean_x, mean_y, squares, product = stack.unbind(0)
        cross = mean_x * mean_y
        energy = mean_x * mean_x + mean_y * mean_y
        contrast = (2 * (product - cross) + 0.03**2) / (squares - energy + 0.03**2)
        if scale < 4:
            scores.append(contrast.mean((2, 3)).clamp(min=1e-3))
        else:
            luminance = (2 * cross + 0.01**2) / (energy + 0.01**2)
            scores.append((luminance * contrast).mean((2, 3)).clamp(min=1e-3))
    weights = torch.tensor(MS_SSIM_WEIGHTS, device=x.device)
    return torch.exp((torch.stack(scores).log() * weights[:, None, None]).sum(0)).mean(1)


def _banded(kernel: Tensor, size: int) -> Tensor:
    """(size - k + 1, size) matrix that correlates with `kernel`, valid positions only."""
    count = size - kernel.numel() + 1
    column, row = torch.arange(size, device=kernel.device), torch.arange(count, device=kernel.device)
    padded = F.pad(kernel, (0, size - kernel.numel())).repeat(count, 1)
    return padded.gather(1, (column - row[:, None]) % size)


def rate_distortion_loss(
    x: Tensor, decoded: Tensor, bits: Tensor, level: Tensor, structure: float, visible: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its parts without gradients.

    x, decoded (B, 3, H, W); bits, level (B,); structure, visible: the shares of MS-SSIM and of the visible
    difference in the distortion.
    """
    weight = lambda_of_level(level)
    mse = F.mse_loss(decoded, x, reduction="none").mean((1, 2, 3)) * 255**2
    structural = 1 - ms_ssim(x, decoded)
    seen = visible_difference(x, decoded)
    distortion = (1 - structure - visible) * mse + structure * MS_SSIM_SCALE * structural
    distortion = distortion + visible * VISIBLE_SCALE * seen
    bpp = bits / (x.shape[-2] * x.shape[-1])
    loss = ((bpp + weight * distortion) / weight.sqrt()).mean()
    parts = {"loss": loss, "bpp": bpp.mean(), "mse": mse.mean(), "ms_ssim": 1 - structural.mean()}
    parts["visible"] = seen.mean()
    return loss, {k: v.detach() for k, v in parts.items()}
