"""The convolutional front of the hybrid vision transformer: ResNet-50 in BiT's manner, three of its stages.

    picture (B,3,H,W) ─► conv 7x7, stride 2 ─► norm ─► relu ─► max 3x3, stride 2 ─► stage ─► stage ─► stage
                                                                                     1/4      1/8      1/16

    block:  x ─┬─► conv 1x1 ─► conv 3x3 [stride 2] ─► conv 1x1 ─► + ─► relu      each conv with a group norm,
               └─► [conv 1x1, in a stage's first block] ──────────┘              relu between them

Every convolution standardises its weights (https://arxiv.org/abs/1903.10520) and pads as TensorFlow's "SAME":
with stride 2 and even sides the odd column is on the right and at the bottom. Kolesnikov et al. 2020, "Big
Transfer", https://arxiv.org/abs/1912.11370. The names of the parameters are those of transformers'
`BitModel`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STANDARD_EPSILON = 1e-8
NORM_EPSILON = 1e-5
BOTTLENECK = 4  # the middle of a block is narrower by this factor


class Backbone(nn.Module):
    """Pictures to features at 1/4, 1/8 and 1/16."""

    def __init__(self, stem: int, widths: tuple[int, ...], depths: tuple[int, ...], groups: int) -> None:
        super().__init__()
        self.embedder = nn.ModuleDict(
            {"convolution": _Conv(3, stem, 7, stride=2), "norm": _norm(stem, groups)}
        )
        stages = nn.ModuleList()
        inputs = stem
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks = nn.Sequential()
            for block in range(depth):
                stride = 2 if index and not block else 1
                blocks.append(_Block(inputs, width, stride, groups, shortcut=not block))
                inputs = width
            stages.append(nn.ModuleDict({"layers": blocks}))
        self.encoder: Any = nn.ModuleDict({"stages": stages})

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), sides multiples of 16 -> one (B, C, h, w) a stage."""
        x = F.relu(self.embedder["norm"](self.embedder["convolution"](x)))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, stride=2)  # nothing is below the zeros of the padding
        features = []
        for stage in self.encoder["stages"]:
            x = stage["layers"](x)
            features.append(x)
        return features


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, groups: int, *, shortcut: bool) -> None:
        super().__init__()
        narrow = outputs // BOTTLENECK
        self.downsample = None
        if shortcut:
            self.downsample = nn.Sequential()
            self.downsample.add_module("conv", _Conv(inputs, outputs, 1, stride))
            self.downsample.add_module("norm", _norm(outputs, groups))
        self.conv1, self.norm1 = _Conv(inputs, narrow, 1), _norm(narrow, groups)
        self.conv2, self.norm2 = _Conv(narrow, narrow, 3, stride), _norm(narrow, groups)
        self.conv3, self.norm3 = _Conv(narrow, outputs, 1), _norm(outputs, groups)

    def forward(self, x: Tensor) -> Tensor:
        change = F.relu(self.norm1(self.conv1(x)))
        change = F.relu(self.norm2(self.conv2(change)))
        change = self.norm3(self.conv3(change))
        return F.relu(change + (x if self.downsample is None else self.downsample(x)))


class _Conv(nn.Conv2d):
    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, bias=False)
        total = max(kernel - stride, 0)  # for sides that are multiples of the stride
        self.margins = (total // 2, total - total // 2) * 2

    def forward(self, x: Tensor) -> Tensor:
        before, after = self.margins[:2]
        if before != after:
            x = F.pad(x, self.margins)
            before = 0
        return F.conv2d(x, self._standardised(), stride=self.stride, padding=before)

    def _standardised(self) -> Tensor:
        """The weights with mean 0 and variance 1 over each output's inputs; in float32 at least."""
        weight = self.weight.to(torch.promote_types(self.weight.dtype, torch.float32))
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), correction=0, keepdim=True)
        return ((weight - mean) * torch.rsqrt(variance + STANDARD_EPSILON)).to(self.weight.dtype)


def _norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, channels, eps=NORM_EPSILON)
