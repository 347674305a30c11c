"""Tiles and halos: a picture of any size through networks that see a bounded piece at a time.

    pixels ─► pad to 8 ─► for each tile: crop with halo ─► analyse ─► cut the halo off ─► y of the tile
    latent plane ─► for each tile: crop with halo ─► synthesise ─► cut the halo off ─► pixels

The networks have a finite receptive field; with its halo a tile gives what the whole picture gives, so there
are no seams and memory is bounded by the tile.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PATCH = 8
Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1


def squares(width: int, height: int, side: int) -> list[Box]:
    """The boxes of width x height, row by row; those at the right and below may be smaller."""
    return [
        (x, y, min(x + side, width), min(y + side, height))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def pad_to_patches(pixels: Pixels, patch: int = PATCH) -> Pixels:
    """Repeat the last row and column until both sides are multiples of `patch`."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, -height % patch), (0, -width % patch), (0, 0)), mode="edge")


def with_halo(box: Box, halo: int, width: int, height: int) -> Box:
    """The box grown by `halo` on each side, cut at the plane's borders."""
    x0, y0, x1, y1 = box
    return max(x0 - halo, 0), max(y0 - halo, 0), min(x1 + halo, width), min(y1 + halo, height)


def latent_box(box: Box, patch: int = PATCH) -> Box:
    """A pixel box in latents: starts are multiples of `patch`, ends are rounded up."""
    x0, y0, x1, y1 = box
    return x0 // patch, y0 // patch, -(-x1 // patch), -(-y1 // patch)


def analyse_tile(pixels: Pixels, box: Box, halo: int, analyse: Callable[[Pixels], Tensor]) -> Tensor:
    """y (C, h, w) of a tile.

    pixels: the whole picture, sides multiples of 8; box: the tile in latents; halo: in latents.
    """
    height, width = pixels.shape[0] // PATCH, pixels.shape[1] // PATCH
    x0, y0, x1, y1 = with_halo(box, halo, width, height)
    y = analyse(pixels[y0 * PATCH : y1 * PATCH, x0 * PATCH : x1 * PATCH])
    return y[:, box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]


def synthesise_tile(latents: Tensor, box: Box, halo: int, synthesise: Callable[[Tensor], Pixels]) -> Pixels:
    """Pixels (8h, 8w, 3) of a tile from the latent plane (C, H, W); box and halo in latents."""
    height, width = latents.shape[1:]
    x0, y0, x1, y1 = with_halo(box, halo, width, height)
    pixels = synthesise(latents[:, y0:y1, x0:x1])
    top, left = (box[1] - y0) * PATCH, (box[0] - x0) * PATCH
    return pixels[top : top + (box[3] - box[1]) * PATCH, left : left + (box[2] - box[0]) * PATCH]


def empty_plane(channels: int, width: int, height: int, patch: int = PATCH) -> Tensor:
    """The latent plane of a picture of width x height pixels: (C, H/patch, W/patch) int16, zeros."""
    # numpy's zeros, unlike PyTorch's, take memory only where they are written to.
    return torch.from_numpy(np.zeros((channels, -(-height // patch), -(-width // patch)), np.int16))
