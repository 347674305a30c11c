"""Building blocks that the transforms and the entropy model share.

    quality level ─► interpolate_knots ─► per-channel bias or log-gain
    x ─► [+ bias(level)] ─► act ─► conv ─► act ─► conv ─► + x            ResidualBlock
    x ─► sign(x) log(1 + |x|)                                            signed_log

The quality is an integer *level* of 0 to 4000 (container/quality.py maps qualities to it). What depends on it
is stored at KNOTS equidistant levels and interpolated linearly between them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL
from latentcodec.nn.maps import residual_block

# The trade-off bpp + lambda * D (D a distortion on the 0-255 scale) that level l is trained for is
# LAMBDA_LOW * (LAMBDA_HIGH / LAMBDA_LOW) ** (l / MAX_LEVEL).
LAMBDA_LOW = 1e-4
LAMBDA_HIGH = 0.45


def lambda_of_level(level: Tensor) -> Tensor:
    """The rate-distortion trade-off of quality levels (any shape, 0 to 4000)."""
    return LAMBDA_LOW * (LAMBDA_HIGH / LAMBDA_LOW) ** (level / MAX_LEVEL)


def interpolate_knots(table: Tensor, level: Tensor) -> Tensor:
    """Linear interpolation of a knot table.

    table: (KNOTS, C) float; level: (B,) float, 0 to MAX_LEVEL. Returns (B, C, 1, 1).
    """
    position = level / LEVELS_PER_KNOT
    weights = (1 - (position[:, None] - torch.arange(KNOTS, device=level.device)).abs()).clamp(min=0)
    # Not a matrix product: autocast would round the gains to bfloat16, 0.7 dB at the highest quality.
    return (weights.to(table.dtype)[:, :, None] * table).sum(1)[:, :, None, None]


def signed_log(x: Tensor) -> Tensor:
    """sign(x) log(1 + |x|): compresses latents of any quality into a network's range."""
    # Not by sign and abs, whose gradients vanish at 0, where most latents are. (That of clamp at 0 is 1.)
    return torch.log1p(x.clamp(min=0)) - torch.log1p(F.relu(-x))


class FloatOperationsOfTensors:
    """nn.maps.FloatOperations of tensors (B, C, h, w)."""

    @staticmethod
    def leaky(x: Tensor) -> Tensor:
        """max(x, 0.1 x)."""
        return F.leaky_relu(x, 0.1)

    @staticmethod
    def signed_log(x: Tensor) -> Tensor:
        """sign(x) log(1 + |x|)."""
        return signed_log(x)

    @staticmethod
    def unshuffle(x: Tensor, side: int) -> Tensor:
        """Space to depth."""
        return F.pixel_unshuffle(x, side)


FLOAT_OPERATIONS = FloatOperationsOfTensors()


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x + bias(level))))), 3x3, zero padding: (B, C, H, W) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(KNOTS, channels))
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.conv2.weight.mul_(0.3)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        bias = interpolate_knots(self.bias, level).to(x.dtype)
        changed: Tensor = residual_block(FLOAT_OPERATIONS.leaky, self.conv1, self.conv2, x, bias)
        return changed
