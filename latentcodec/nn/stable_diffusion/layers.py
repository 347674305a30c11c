"""Building blocks that the diffusion family's networks share; parameter names are those of its files.

x ─► norm ─► silu ─► conv ─► [+ time embedding] ─► norm ─► silu ─► conv ─► + [1x1] x      ResnetBlock
x ─► pad ─► conv, stride 2                       Downsample        x ─► nearest ─► conv      Upsample
t ─► [cos, sin] (float32) ─► [+ condition] ─► linear ─► silu ─► linear                  TimeEmbedding
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MATRIX_PRODUCT_POSITIONS = 256  # measured: the products win up to 16x16, and lose from 32x32
CHANNELS_LAST_NORM_POSITIONS = 4096
NORM_PARTS = 8
MAX_PERIOD = 10_000  # of the sinusoids: Vaswani et al., "Attention is all you need" (2017)


def fast_layout(x: Tensor) -> Tensor:
    """(B, C, H, W) in the memory layout that convolutions are fastest in; the values stay.

    Channels-last on the CPU (measured: 1.3 times as fast in float32, 3 times in bfloat16), and on CUDA
    where tensor cores do half precision.
    """
    if x.device.type == "cpu" or x.dtype in (torch.float16, torch.bfloat16):
        return x.contiguous(memory_format=torch.channels_last)
    return x.contiguous()


def sinusoid(positions: Tensor, channels: int) -> Tensor:
    """Positions of any shape (...) -> (..., channels) float32: cosines, then sines.

    Always float32: half precision has no room for 999 times a frequency.
    """
    half = channels // 2
    exponents = (
        -math.log(MAX_PERIOD) * torch.arange(half, dtype=torch.float32, device=positions.device) / half
    )
    angles = positions.float()[..., None] * exponents.exp()
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class GroupNorm(nn.GroupNorm):
    """PyTorch's, accurate for maps of any size.

    On the CPU its channels-last kernel adds a whole map up in one float32: measured, the relative error is
    1e-6 at 128x128 and 4e-5 at 512x512 (the other layout's: 6e-8). Large maps take the other one, an eighth
    of the groups at a time where there is no gradient: the copies would be the network's peak of memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.shape[2] * x.shape[3] <= CHANNELS_LAST_NORM_POSITIONS:
            return super().forward(x)
        if torch.is_grad_enabled():
            return fast_layout(super().forward(x.contiguous()))
        out = torch.empty_like(x, memory_format=torch.channels_last)
        at_once = -(-self.num_groups // NORM_PARTS)
        channels = self.num_channels // self.num_groups * at_once
        for first in range(0, self.num_channels, channels):
            own = slice(first, first + channels)
            part = x[:, own].contiguous()
            groups = part.shape[1] * self.num_groups // self.num_channels
            out[:, own] = F.group_norm(part, groups, self.weight[own], self.bias[own], self.eps)
        return out


class Convolution(nn.Conv2d):
    """3x3, (B, inputs, H, W) -> (B, outputs, H / stride, W / stride), padded all around.

    On the CPU a small map under many channels is a matrix product in float32: oneDNN's convolutions
    rearrange the weights at every call, which there takes longer than the arithmetic (1280 channels at
    8x8: 2.4 times). In half precision they do not.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = ((side - 1) // self.stride[0] + 1 for side in x.shape[2:])
        small = len(x) * height * width <= MATRIX_PRODUCT_POSITIONS
        if not small or x.device.type != "cpu" or x.element_size() < 4:
            return super().forward(x)
        patches = F.unfold(x, 3, padding=1, stride=self.stride).transpose(1, 2)
        tokens = F.linear(patches, self.weight.flatten(1), self.bias)
        return tokens.reshape(len(x), height, width, -1).permute(0, 3, 1, 2)


class TimeEmbedding(nn.Module):
    """(B, inputs) -> (B, width): linear, silu, linear. A condition of `condition` channels may join first."""

    def __init__(self, inputs: int, width: int, condition: int = 0) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)
        self.cond_proj = nn.Linear(condition, inputs, bias=False) if condition else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        if self.cond_proj is not None and condition is not None:
            x = x + self.cond_proj(condition)
        embedding: Tensor = self.linear_2(F.silu(self.linear_1(x)))
        return embedding


class ResnetBlock(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H, W), with an activated time embedding (B, time) where time > 0."""

    def __init__(self, inputs: int, outputs: int, *, groups: int, eps: float, time: int = 0) -> None:
        super().__init__()
        self.norm1 = GroupNorm(groups, inputs, eps)
        self.conv1 = Convolution(inputs, outputs)
        self.time_emb_proj = nn.Linear(time, outputs) if time else None
        self.norm2 = GroupNorm(groups, outputs, eps)
        self.conv2 = Convolution(outputs, outputs)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h: Tensor = self.conv1(norm_silu(self.norm1, x))
        if self.time_emb_proj is not None:
            h = h.add_(self.time_emb_proj(time)[:, :, None, None])
        h = norm_silu(self.norm2, h)  # a name of its own would keep one map more while conv2 runs
        h = self.conv2(h)
        return h.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


def norm_silu(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """silu(norm(x))."""
    return F.silu(norm(x), inplace=True)


class Downsample(nn.Module):
    """(B, C, H, W) -> (B, C, H/2, W/2): a convolution of stride 2.

    The autoencoder pads one row below and one column right (`one_sided`), the UNet all around.
    """

    def __init__(self, channels: int, *, one_sided: bool) -> None:
        super().__init__()
        self.one_sided = one_sided
        self.conv = (
            nn.Conv2d(channels, channels, 3, stride=2) if one_sided else Convolution(channels, channels, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)) if self.one_sided else x)
        return out


class Upsample(nn.Module):
    """(B, C, h, w) -> (B, C, H, W): nearest neighbours, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(channels, channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = x.shape[2:]
        large = len(x) * height * width > MATRIX_PRODUCT_POSITIONS
        if large and x.device.type == "cpu" and x.element_size() >= 4 and size == (2 * height, 2 * width):
            return _double_and_convolve(x, self.conv.weight, self.conv.bias)
        if x.is_cuda and 4 * x.numel() >= 2**31:  # its channels-last kernel counts in int32: pytorch#141831
            x = x.contiguous()
        out: Tensor = self.conv(F.interpolate(x, size=size))
        return out


def _double_and_convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 convolution of the doubled map with 4/9 of the arithmetic, and without the doubled map.

    The 3x3 neighbourhood of an output holds 2x2 different inputs, at one of four offsets; the taps that meet
    the same input are added first. Measured: 1.6 times as fast.
    """
    batch, _, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1))
    out = torch.empty(
        (batch, len(weight), 2 * height, 2 * width),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    for row, rows in enumerate(_merged_taps(weight, 2)):
        for column, kernel in enumerate(_merged_taps(rows, 3)):
            window = padded[:, :, row : row + height + 1, column : column + width + 1]
            out[:, :, row::2, column::2] = F.conv2d(window, kernel, bias)
    return out


def _merged_taps(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Three taps along an axis as the two that even outputs see, and the two that odd outputs see."""
    first, middle, last = weight.chunk(3, axis)
    return torch.cat([first, middle + last], axis), torch.cat([first + middle, last], axis)
