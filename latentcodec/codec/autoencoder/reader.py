"""Reads an autoencoder's file.

File ─► V chunk ─► the autoencoder (models.py), checked by its fingerprint ─┐
            └─► ValueCoder ─────────────────────────────────────────────────┴─► LatentReader ─► decode_with
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.planes import LatentPlane
from latentcodec.codec.values.choice import coder_for
from latentcodec.codec.values.coder import BoxLatents, ValueCoder, Values, latents_of
from latentcodec.codec.values.prior import LatentPrior
from latentcodec.container.autoencoder import AutoencoderChunk
from latentcodec.container.file import Header, Tile
from latentcodec.errors import WeightsMismatch
from latentcodec.picture.picture import Pixels


class LatentCleaner(Protocol):
    """Cleans up the latents of one file; codec/cleanup has it."""

    def change(self, latents_of: BoxLatents, /) -> npt.NDArray[np.float32] | None:
        """What is to be added to the latents, (channels, h, w); None where it is nothing."""


def file_coder(
    header: Header, chunk: AutoencoderChunk, device: torch.device, prior: LatentPrior | None = None
) -> ValueCoder:
    """The coder of a file's latents. Raises WeightsMismatch where this version has other tables, and as
    coder_for does."""
    coder = coder_for(chunk, header.quality_level, device, prior)
    if header.networks_hash != coder.networks_hash:
        raise WeightsMismatch(
            f"the file was coded with tables of hash {header.networks_hash.hex()}, this version has "
            f"{coder.networks_hash.hex()}: decode it with the latentcodec version that wrote it"
        )
    return coder


class LatentReader:
    """Reads an autoencoder's file, for decode_with."""

    def __init__(
        self,
        codec: LatentCodec,
        header: Header,
        chunk: AutoencoderChunk,
        prior: LatentPrior | None = None,
        cleaner: LatentCleaner | None = None,
    ) -> None:
        """prior: one that is loaded; the file's is looked for in the store if it is not this.

        cleaner: the file's clean-up, if it is to be cleaned up.

        Raises WeightsMismatch, MalformedFile, UnknownModel and InvalidWeights.
        """
        codec.check(header, chunk)
        self.coder = file_coder(header, chunk, codec.device, prior)
        self.codec, self.header, self.chunk, self.cleaner = codec, header, chunk, cleaner
        self.patch, self.latents, self.blank = codec.downscale, codec.latents, self.coder.blank
        self.threads = 1

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[Values, bool]:
        """As decoder.Reader says; values."""
        self.chunk.check_tile(height, width)
        return self.coder.decode(tile.stream, tile.digest, height, width, partial=partial, name=name)

    def synthesise(self, plane: LatentPlane, missing: Collection[int]) -> Pixels:
        """As decoder.Reader says. Pictures with missing tiles are not cleaned up."""
        latents = latents_of(self.coder, plane)
        change = self.cleaner.change(latents) if self.cleaner is not None and not missing else None
        return self.codec.synthesise_picture(latents, self.header, missing, change)
