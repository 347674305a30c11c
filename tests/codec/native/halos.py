"""What tests of halos share: a network of a known reach, and a plane in boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.codec.planes import LatentBox

HALO = 3


def cut(width: int, height: int, side: int) -> list[LatentBox]:
    """A plane in boxes of at most side x side."""
    return [
        (x, y, min(x + side, width), min(y + side, height))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def blur(plane: Tensor) -> Tensor:
    """A network that reaches HALO positions, with zeros around the plane: (C, H, W) -> (C, H, W)."""
    kernel = torch.rand(1, 1, 2 * HALO + 1, 2 * HALO + 1, generator=torch.Generator().manual_seed(1))
    return F.conv2d(plane[:, None], kernel / kernel.sum(), padding=HALO)[:, 0]
