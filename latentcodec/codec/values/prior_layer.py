"""A prior's integer layer, as PyTorch runs it: float32, or int64 as the reference in tests.

weights, biases, shifts ─► neighbourhoods, strip by strip ─► matrix product ─► shift ─► the same integers
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.exact.layer import IntegerLayer
from latentcodec.nn.knots import interpolate_integers

STRIP_POSITIONS = 1024  # of a neighbourhood matrix


@dataclass(frozen=True)
class RunnableLayer:
    """An IntegerLayer laid out for one device and dtype (float32, or int64 as the reference in tests)."""

    weight: Tensor  # (O, I * k * k)
    bias: NDArray[np.integer]  # (KNOTS, O)
    scale: Tensor  # (O, 1): 2^(gain - shift)
    shift: Tensor  # (O, 1) int64: shift - gain
    kernel: int

    @classmethod
    def prepare(cls, layer: IntegerLayer, device: torch.device, dtype: torch.dtype) -> RunnableLayer:
        shift = torch.from_numpy(layer.shift.astype(np.int64) - layer.gain)[:, None].to(device)
        return cls(
            torch.from_numpy(layer.weight).flatten(1).to(device=device, dtype=dtype),
            layer.bias,
            1 / (torch.ones_like(shift) << shift).float(),  # exact on every device, which exp2 need not be
            shift,
            layer.weight.shape[-1],
        )

    def __call__(self, x: Tensor, level: int) -> Tensor:
        """x (1, I, H, W), integers in -127..127 -> (1, O, H, W), integers."""
        _, _, height, width = x.shape
        if self.kernel == 1:
            accumulator = self.weight @ x[0].flatten(1)
        else:
            # In strips of rows: a neighbourhood matrix of the whole plane would be large and slow.
            padded = F.pad(x[0], (1, 1, 1, 1))
            strip = max(1, STRIP_POSITIONS // width)
            accumulator = torch.cat(
                [
                    self.weight @ patches_3x3(padded[:, top : top + strip + 2])
                    for top in range(0, height, strip)
                ],
                1,
            )
        bias = torch.from_numpy(interpolate_integers(self.bias, level))[:, None].to(x.device)
        if x.dtype == torch.int64:
            half = torch.ones_like(self.shift) << (self.shift - 1)
            out = (accumulator + bias + half) >> self.shift
        else:
            out = torch.floor((accumulator + bias.to(x.dtype)) * self.scale + 0.5)
        return out.view(1, -1, height, width)


def patches_3x3(padded: Tensor) -> Tensor:
    """(I, H + 2, W + 2) -> (I * 9, H * W): 3x3 neighbourhoods, in the order of a flattened weight."""
    windows = padded.unfold(1, 3, 1).unfold(2, 3, 1)  # (I, H, W, 3, 3)
    return windows.permute(0, 3, 4, 1, 2).reshape(padded.shape[0] * 9, -1)
