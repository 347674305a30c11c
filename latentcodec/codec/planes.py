"""Planes of latents, and boxes of them: how a picture of any size is seen in bounded pieces.

    pixels ─► pad_to_patches ─► tiles, pieces (squares) ─► latent_box ─► with_halo ─► what a network sees

The native networks have a finite receptive field; with its halo a tile gives what the whole picture gives, so
there are no seams and memory is bounded by the tile.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latentcodec.container.header import Box
from latentcodec.picture.picture import Pixels

PATCH = 8
LatentPlane = NDArray[np.int16]
"""The integers of a picture's latents (channels, h, w)."""
LatentBox = tuple[int, int, int, int]
"""A rectangle of latents: columns x0..x1 - 1, rows y0..y1 - 1, as x0, y0, x1, y1."""


def squares(width: int, height: int, side: int) -> list[LatentBox]:
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


def with_halo(box: LatentBox, halo: int, width: int, height: int) -> LatentBox:
    """The box grown by `halo` on each side, cut at the plane's borders."""
    x0, y0, x1, y1 = box
    return max(x0 - halo, 0), max(y0 - halo, 0), min(x1 + halo, width), min(y1 + halo, height)


def latent_box(box: Box, patch: int = PATCH) -> LatentBox:
    """A pixel box in latents: starts are multiples of `patch`, ends are rounded up."""
    x0, y0, x1, y1 = box
    return x0 // patch, y0 // patch, -(-x1 // patch), -(-y1 // patch)


def empty_plane(channels: int, width: int, height: int, patch: int = PATCH) -> LatentPlane:
    """The latent plane of a picture of width x height pixels: (C, H/patch, W/patch) int16, zeros."""
    # Zeros take memory only where they are written to.
    return np.zeros((channels, -(-height // patch), -(-width // patch)), np.int16)
