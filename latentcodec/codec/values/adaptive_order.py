"""The order in which a tile's latents are coded, and which of those before a latent predict it.

    every 8th position ─► then for spacings s = 4, 2, 1:   B = before, numbers in coding order

         B  .  B  .         CENTRE  1: the middle of four          ROW  2: between left and right
         .  1  .  1                 inner: 4 diagonal                   inner: 4 axial
         B  .  B  .                 outer: 8 at a knight's              outer: 8 at a knight's
         .  1  .  1                        move of (1, 3)                      move of (1, 2)

                            COLUMN  3: between above and below     inner: 4 axial, outer: 4 diagonal

Half of the positions come last, when all their neighbours are known. What lies outside of the tile is
mirrored at the position; what is outside then, too, is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

COARSEST = 8  # spacing of the first positions
LAST_PARTS = 4  # of each step at spacing 1, so that it learns from itself

Indices = npt.NDArray[np.int64]
Offsets = tuple[tuple[int, int], ...]


class Kind(IntEnum):
    """How a step's positions lie among those before."""

    FIRST = 0
    CENTRE = 1
    ROW = 2
    COLUMN = 3


_DIAGONAL: Offsets = ((-1, -1), (-1, 1), (1, -1), (1, 1))
_AXIAL: Offsets = ((-1, 0), (0, -1), (0, 1), (1, 0))
_KNIGHT: Offsets = tuple((y, x) for y in (-2, -1, 1, 2) for x in (-2, -1, 1, 2) if abs(y) != abs(x))
_LONG_KNIGHT: Offsets = tuple((y, x) for y in (-3, -1, 1, 3) for x in (-3, -1, 1, 3) if abs(y) != abs(x))
# Per kind: the inner and the outer neighbours, and the first position, in units of the spacing.
_SHAPES: dict[Kind, tuple[Offsets, Offsets, tuple[int, int]]] = {
    Kind.CENTRE: (_DIAGONAL, _LONG_KNIGHT, (1, 1)),
    Kind.ROW: (_AXIAL, _KNIGHT, (0, 1)),
    Kind.COLUMN: (_AXIAL, _DIAGONAL, (1, 0)),
}


@dataclass(frozen=True)
class Part:
    """Positions that are coded together.

    level: 0 for the first positions, then 1, 2, 3 for spacings 4, 2, 1.
    positions: (n,), y * width + x.
    inner, outer: (4, n) and (4 or 8, n), the neighbours' positions; height * width where there is none. Both
        are empty for the kind FIRST.
    """

    kind: Kind
    level: int
    positions: Indices
    inner: Indices
    outer: Indices


def parts(height: int, width: int) -> Iterator[Part]:
    """All parts of a tile, in coding order; those without positions are left out."""
    first = _grid(0, 0, COARSEST, height, width)
    none = np.empty((0, first[0].size), np.int64)
    yield Part(Kind.FIRST, 0, first[0] * width + first[1], none, none)
    for level in (1, 2, 3):
        spacing = COARSEST >> level
        for kind, (inner, outer, (top, left)) in _SHAPES.items():
            y, x = _grid(top * spacing, left * spacing, 2 * spacing, height, width)
            pieces = LAST_PARTS if spacing == 1 else 1
            for piece in range(pieces):
                some = slice(y.size * piece // pieces, y.size * (piece + 1) // pieces)
                if y[some].size:
                    yield Part(
                        kind,
                        level,
                        y[some] * width + x[some],
                        _neighbours(y[some], x[some], inner, spacing, height, width),
                        _neighbours(y[some], x[some], outer, spacing, height, width),
                    )


def _grid(top: int, left: int, spacing: int, height: int, width: int) -> tuple[Indices, Indices]:
    """Rows and columns (n,) of a grid's positions, row by row."""
    y, x = np.meshgrid(np.arange(top, height, spacing), np.arange(left, width, spacing), indexing="ij")
    return y.ravel(), x.ravel()


def _neighbours(y: Indices, x: Indices, offsets: Offsets, spacing: int, height: int, width: int) -> Indices:
    """Positions (offsets, n) of the neighbours, mirrored at the borders."""
    positions = []
    for dy, dx in offsets:
        row, column = y + dy * spacing, x + dx * spacing
        row = np.where((row < 0) | (row >= height), y - dy * spacing, row)
        column = np.where((column < 0) | (column >= width), x - dx * spacing, column)
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        positions.append(np.where(inside, row * width + column, height * width))
    return np.stack(positions)
