"""What codes the latents of a file, tile by tile: one protocol, with three coders behind it.

    latents (channels, h, w) ─► encode ─► stream, digest ─► T chunk
    T chunk ─► decode ─► values: integers ─► dequantise ─► latents

    AdaptiveCoder (adaptive_coder.py)   multiples of a step; a context model that learns while it codes
    PriorCoder    (prior.py)            the same, and a network that was fitted to the autoencoder
    PaletteCoder  (palette.py)          pictures of 256 colours

Which one a file has follows from its V chunk: choice.py. Values depend on the stream and on integer tables
alone, so that every machine decodes the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from latentcodec.codec.planes import LatentBox, LatentPlane

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.int64]
BoxLatents = Callable[[LatentBox], npt.NDArray[np.float32]]
"""Gives the latents (channels, h, w) of a box of a picture's plane."""


@dataclass(frozen=True)
class CodedTile:
    """stream and digest as in a T chunk; values (channels, h, w), what a decoder gets."""

    stream: bytes
    digest: int
    values: Values


class ValueCoder(Protocol):
    """Codes the latents of one file."""

    @property
    def networks_hash(self) -> bytes:
        """Four bytes over what determines the symbols besides the stream, as the file's header has them."""

    @property
    def blank(self) -> int:
        """The value of latents that are missing."""

    def encode(self, latents: Floats) -> CodedTile:
        """Code a tile's latents (channels, h, w)."""

    def decode(
        self,
        stream: bytes,
        digest: int,
        height: int,
        width: int,
        *,
        partial: bool = False,
        name: str = "tile",
    ) -> tuple[Values, bool]:
        """Values (channels, height, width) of a stream, and whether it was whole.

        With partial=True an early end gives what the coder expects for the rest instead of an error; of a
        palette nothing is left. Raises TruncatedFile, MalformedFile and ChecksumMismatch, naming the tile.
        """

    def dequantise(self, values: npt.NDArray[np.integer]) -> Floats:
        """The latents of values, both (channels, h, w)."""


def latents_of(coder: ValueCoder, plane: LatentPlane) -> BoxLatents:
    """The latents of a plane of values (channels, h, w), box by box: all at once would take much memory."""

    def latents(box: LatentBox) -> npt.NDArray[np.float32]:
        x0, y0, x1, y1 = box
        return coder.dequantise(plane[:, y0:y1, x0:x1]).astype(np.float32)

    return latents
