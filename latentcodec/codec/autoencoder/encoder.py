"""Encodes a picture for an autoencoder.

Picture ─► latents, sensitivities (once) ─► level ─► steps, offsets ─► V chunk ─► ValueCoder
                     └─► [refined] ─► tiles ─► ValueCoder ─► streams ─► File [with a clean-up's d chunk]
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from latentcodec.codec.arguments import DEFAULT_EFFORT
from latentcodec.codec.autoencoder.latent import LatentCodec, file_chunk
from latentcodec.codec.autoencoder.refine import STEPS, refine
from latentcodec.codec.autoencoder.steps import choose_steps, sensitivities
from latentcodec.codec.encoder import BaseEncoder
from latentcodec.codec.planes import LatentPlane, empty_plane, latent_box
from latentcodec.codec.targets import Encoded
from latentcodec.codec.values.choice import asked_chunk, coder_for
from latentcodec.codec.values.coder import BoxLatents, Floats, ValueCoder, latents_of
from latentcodec.codec.values.prior import LatentPrior
from latentcodec.container.autoencoder import PALETTE, SCALAR, AutoencoderChunk, ScalarQuantiser
from latentcodec.container.chunks import DEFAULT_LIMITS, Limits
from latentcodec.container.file import File, Header, Tile, default_tile_size, pack
from latentcodec.container.header import too_thin
from latentcodec.errors import InvalidArgument, UnsupportedImage
from latentcodec.picture.picture import Picture, Pixels

_REFINED_EVERY = 400  # levels: a refinement serves the levels around it


class StoredCleanup(Protocol):
    """What an encoder stores for a clean-up at decode; codec/cleanup/file.py has it."""

    def check(self, codec: LatentCodec) -> None:
        """Raise InvalidArgument where the clean-up does not work on this autoencoder's latents."""

    def undecided(self, codec: LatentCodec, header: Header, latents: Floats, decoded: Floats) -> bytes:
        """The d chunk's payload before its amounts are known, of as many bytes as with them.

        latents, decoded: (channels, h, w), those that were coded, and what a decoder has of them.
        """

    def decided(self, codec: LatentCodec, file: File, latents_of: BoxLatents, picture: Picture) -> File:
        """The file with its amounts. latents_of: what a decoder has; picture: the source."""


class LatentEncoder(BaseEncoder):
    """A picture for an autoencoder."""

    def __init__(
        self,
        codec: LatentCodec,
        picture: Picture,
        *,
        quantiser: str = SCALAR,
        effort: int = DEFAULT_EFFORT,
        prior: LatentPrior | None = None,
        cleanup: StoredCleanup | None = None,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        latents: Floats | None = None,
    ) -> None:
        """quantiser: "scalar", or "palette", which has one rate. effort: 1 to 9, see refine.STEPS.

        latents: (channels, h, w) to be coded in place of those that the autoencoder gives the picture, which
        is what they decode to.
        prior: codes the scalar's latents in place of the adaptive coder. cleanup: what to store for one at
        decode. Raises WeightsMismatch where the prior was fitted to another autoencoder, InvalidArgument
        where the clean-up does not work on this one's latents, UnsupportedImage for a picture that is too
        thin, and as BaseEncoder does.
        """
        self._asked = asked_chunk(codec.chunk(), prior)
        if cleanup is not None:
            cleanup.check(codec)
        if too_thin(picture.width, picture.height):
            raise UnsupportedImage(
                f"{picture.width} x {picture.height} pixels: for an autoencoder this picture would be mostly "
                "padding; use the native model, which keeps it without loss"
            )
        super().__init__(picture, codec.downscale, strip=strip, limits=limits)
        self.codec, self.quantiser, self.prior, self.cleanup = codec, quantiser, prior, cleanup
        self._iterations = 0 if quantiser == PALETTE else STEPS[effort]
        if latents is None:
            self._latents = codec.analyse(self._padded, picture.peak)
        else:
            self._latents = self._given(latents)
        self._sensitivities: Floats | None = None
        self._refined: dict[int, Floats] = {}

    def _given(self, latents: Floats) -> Floats:
        """The caller's latents. Raises InvalidArgument for those of another picture."""
        scale = self.codec.downscale
        needed = (self.codec.latents, *(side // scale for side in self._padded.shape[:2]))
        if latents.shape != needed or not np.isfinite(latents).all():
            raise InvalidArgument(
                f"latents of shape {latents.shape}: expected finite numbers of shape {needed}, as this "
                f"picture has with {self.codec.name}"
            )
        return latents.astype(np.float64)

    def _encode(self, level: int, *, rough: bool = False) -> tuple[Encoded, LatentPlane]:
        picture, codec = self.picture, self.codec
        chunk = self._chunk(level)
        coder = self._coder(chunk, level)
        header = Header(
            width=picture.width,
            height=picture.height,
            channels=picture.channels,
            depth=picture.bit_depth,
            model_number=codec.number,
            networks_hash=coder.networks_hash,
            synthesis_hash=chunk.fingerprint[:4],
            quality_level=level,
            tile_size=default_tile_size(picture.width, picture.height),
        )
        latents = self._refine(level)
        plane = empty_plane(codec.latents, picture.width, picture.height, codec.downscale)
        tiles = []
        for number, box in enumerate(header.tile_grid()):
            x0, y0, x1, y1 = latent_box(box, codec.downscale)
            chunk.check_tile(y1 - y0, x1 - x0)
            coded = coder.encode(latents[:, y0:y1, x0:x1])
            plane[:, y0:y1, x0:x1] = coded.values
            tiles.append(Tile(number, coded.digest, self._alpha(number, box), coded.stream))
        file = File(header, tiles, autoencoder=chunk.pack(), **self._metadata)
        if self.cleanup is not None:
            stored = self.cleanup.undecided(codec, header, latents, coder.dequantise(plane))
            file = replace(file, cleanup=stored)
        return Encoded(file, pack(file)), plane

    def complete(self, file: File) -> File:
        """The file with the amounts of its clean-up, where one was asked for: they take no more bytes."""
        if self.cleanup is None:
            return file
        _, plane = self._encode(file.header.quality_level)  # attempts do not keep theirs
        return self.cleanup.decided(self.codec, file, self._latents_of(plane, file), self.picture)

    def _synthesise(self, plane: LatentPlane, file: File) -> Pixels:
        return self.codec.synthesise_picture(self._latents_of(plane, file), file.header)

    def _latents_of(self, plane: LatentPlane, file: File) -> BoxLatents:
        return latents_of(self._coder(file_chunk(file), file.header.quality_level), plane)

    def _coder(self, chunk: AutoencoderChunk, level: int) -> ValueCoder:
        return coder_for(chunk, level, self.codec.device, self.prior)

    def _chunk(self, level: int) -> AutoencoderChunk:
        """What a file of this level says of its latents."""
        return self._asked if self.quantiser == PALETTE else replace(self._asked, scalar=self._steps(level))

    def _steps(self, level: int) -> ScalarQuantiser:
        if self._sensitivities is None:
            self._sensitivities = sensitivities(self.codec, self._latents)
        # Offsets bring the means to whole values; a prior has shifts for that, tile by tile.
        means = np.zeros(self.codec.latents) if self._asked.prior else self._latents.mean((1, 2))
        return choose_steps(level, self._sensitivities, means)

    def _refine(self, level: int) -> Floats:
        """The latents, refined for about this level."""
        if not self._iterations:
            return self._latents
        near = round(level / _REFINED_EVERY) * _REFINED_EVERY
        if near not in self._refined:
            steps = self._steps(near)
            self._refined[near] = refine(
                self.codec, self._latents, self._padded, steps, self._iterations, peak=self.picture.peak
            )
        return self._refined[near]
