"""The training loss: (bits per pixel + lambda * D) / sqrt(lambda), D of MSE, MS-SSIM and visible difference.

D lives on the scale of the mean squared error of 8-bit values. The division by sqrt(lambda) makes the
gradients of all qualities alike in size, so that one batch can hold all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.layers import lambda_of_level
from latentcodec.nn.perceptual import VISIBLE_SCALE, visible_difference
from latentcodec.nn.structure import MS_SSIM_SCALE, ms_ssim


def rate_distortion_loss(
    x: Tensor,
    decoded: Tensor,
    bits: Tensor,
    level: Tensor,
    structure: float,
    visible: float,
    difference: Callable[[Tensor, Tensor], Tensor] = visible_difference,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, and its parts without gradients.

    x, decoded (B, 3, H, W); bits, level (B,); structure, visible: the shares of MS-SSIM and of the visible
    difference in the distortion; difference: what computes the latter, such as a compiled form.
    """
    weight = lambda_of_level(level)
    mse = F.mse_loss(decoded, x, reduction="none").mean((1, 2, 3)) * 255**2
    structural = 1 - ms_ssim(x, decoded)
    seen = difference(x, decoded)
    distortion = (1 - structure - visible) * mse + structure * MS_SSIM_SCALE * structural
    distortion = distortion + visible * VISIBLE_SCALE * seen
    bpp = bits / (x.shape[-2] * x.shape[-1])
    loss = ((bpp + weight * distortion) / weight.sqrt()).mean()
    parts = {"loss": loss, "bpp": bpp.mean(), "mse": mse.mean(), "ms_ssim": 1 - structural.mean()}
    parts["visible"] = seen.mean()
    return loss, {k: v.detach() for k, v in parts.items()}
