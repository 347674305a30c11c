"""How far two pictures are from each other to the eye: the sum that SSIMULACRA 2 maps to its score.

    RGB ─► linear ─► halved up to four times ─► X, Y, B - Y of each scale ─► blurred means, squares, products
                                            ─► maps: structure, edges added, edges lost
                                            ─► mean and 4-norm of each map, or of each of its cells
                                            ─► weighted sum

Jon Sneyers, "SSIMULACRA 2" (2022). picture/similarity/ssimulacra2.py has the metric itself, and its
constants. Here it has gradients and takes crops: blurs are renormalised at the borders, and the sixth scale,
whose weights are below 0.1, is left out with them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.constants import DeviceConstant
from latentcodec.nn.structure import blur, moments
from latentcodec.picture.similarity.ssimulacra2 import BIAS, NOISE, OPSINS, WEIGHTS
from latentcodec.picture.similarity.ssimulacra2 import SCALES as ALL_SCALES

SCALES = 5
VISIBLE_SCALE = 7.0  # visible_difference times this is of the size of the MSE of the same codec
_OPSINS = DeviceConstant(OPSINS)
_RADIUS = 5  # of its blur, whose sigma is that of SSIM
_LEAST = 1e-14  # keeps the 4-norm's gradient finite where pictures agree
# Rows X, Y, B - Y; columns the scales; of each: structure (mean, peak), edges added (same), lost (same).
_WEIGHTS = DeviceConstant(
    tuple(
        tuple(
            tuple(
                round(WEIGHTS.get(((plane * ALL_SCALES + scale) * 2 + norm) * 3 + kind, 0.0), 7)
                for kind in range(3)
                for norm in range(2)
            )
            for scale in range(SCALES)
        )
        for plane in range(3)
    )
)


def visible_difference(x: Tensor, y: Tensor) -> Tensor:
    """(B,) the difference of y from x, both (B, 3, H, W) sRGB in 0..1 with sides of at least 16 pixels.

    0 for equal pictures, about 1 where SSIMULACRA 2 gives 86, 3 where 67, 18 where 6. Values outside of 0..1
    count as the nearest inside.
    """
    return _difference(x, y, None)[:, 0, 0]


def visible_cells(x: Tensor, y: Tensor, cell: int) -> Tensor:
    """(B, H / cell, W / cell) the difference in each cell of cell x cell pixels, a multiple of 16.

    As visible_difference, with the mean and the 4-norm of each cell in place of the picture's; H and W are
    multiples of `cell`.
    """
    return _difference(x, y, cell)


def _difference(x: Tensor, y: Tensor, cell: int | None) -> Tensor:
    weights = _WEIGHTS.on(x.device)
    pair = _linear(torch.stack([x, y]))
    total = torch.zeros(1, device=x.device)
    for scale in range(SCALES):
        if scale:
            pair = torch.stack([F.avg_pool2d(picture, 2) for picture in pair])
        planes = slice(1, 2) if scale == 0 else slice(0, 3)  # the first scale has weights for luma alone
        maps = _maps(*_opponent(pair)[:, :, planes].unbind(0))  # (3 kinds, B, planes, h, w)
        means = _means(maps, cell, scale)
        peaks = (_means(maps.pow(4), cell, scale) + _LEAST).pow(0.25) - _LEAST**0.25
        weight = weights[planes, scale].view(-1, 3, 2).permute(2, 1, 0)[:, :, None, :, None, None]
        total = total + (means * weight[0] + peaks * weight[1]).sum((0, 2))
    return 0.9562382616834844 * total


def _means(maps: Tensor, cell: int | None, scale: int) -> Tensor:
    """Of (..., h, w): (..., 1, 1), or (..., rows, columns) of the cells that are `cell` wide at scale 0."""
    if cell is None:
        return maps.mean((-2, -1), keepdim=True)
    pooled = F.avg_pool2d(maps.flatten(0, -3), cell >> scale)
    return pooled.view(*maps.shape[:-2], *pooled.shape[-2:])


def _linear(rgb: Tensor) -> Tensor:
    """Light of sRGB values, which are clamped to 0..1."""
    rgb = rgb.clamp(0, 1)
    return torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04) + 0.055) / 1.055) ** 2.4)


def _opponent(light: Tensor) -> Tensor:
    """X, Y and B - Y, all positive: (..., 3, H, W) of linear RGB."""
    opsins = _OPSINS.on(light.device)
    mixed = torch.einsum("ij,...jhw->...ihw", opsins, light) + BIAS
    long, medium, short = (mixed ** (1 / 3) - BIAS ** (1 / 3)).unbind(-3)
    red_green, luma = 0.5 * (long - medium), 0.5 * (long + medium)
    return torch.stack([red_green * 14 + 0.42, luma + 0.01, short - luma + 0.55], -3)


def _maps(x: Tensor, y: Tensor) -> Tensor:
    """(3, B, 3, H, W) loss of structure, edges added, edges lost, from (B, 3, H, W) opponent planes."""
    mean_x, others = (blur(moment, _RADIUS) for moment in moments(x, y))
    mean_y, squares, product = others.unbind(0)
    covariance = 2 * (product - mean_x * mean_y) + NOISE
    variances = squares - mean_x * mean_x - mean_y * mean_y + NOISE
    structure = (1 - (1 - (mean_x - mean_y) ** 2) * covariance / variances).clamp(min=0)
    edges = (1 + (y - mean_y).abs()) / (1 + (x - mean_x).abs()) - 1
    return torch.stack([structure, edges.clamp(min=0), (-edges).clamp(min=0)])
