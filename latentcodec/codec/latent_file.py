"""Files of other autoencoders than the native model: writing one picture's, and reading.

Picture ─► latents, sensitivities (once) ─► level ─► steps, offsets ─► [refine] ─► tiles ─► File
File ─► V chunk ─► the autoencoder, by name, checked by its fingerprint ─► LatentReader ─► decode_with
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentcodec.chunks import DEFAULT_LIMITS, Limits
from latentcodec.codec import palette, scalar
from latentcodec.codec.arguments import DEFAULT_EFFORT, PALETTE, REFINED_FROM, SCALAR
from latentcodec.codec.autoencoder_chunk import AutoencoderChunk, ScalarQuantiser
from latentcodec.codec.cleanup import Cleaner
from latentcodec.codec.cleanup_file import CleanupRequest, decided, plain_latents, undecided
from latentcodec.codec.encoder import BaseEncoder, Encoded
from latentcodec.codec.latent import CodedTile, LatentCodec, Pixels, file_chunk
from latentcodec.codec.planes import empty_plane, latent_box
from latentcodec.codec.prior import LatentPrior, prior_for
from latentcodec.codec.refine import STEPS, refine
from latentcodec.codec.scalar import Floats
from latentcodec.codec.steps import choose_steps, sensitivities
from latentcodec.container import File, Header, Tile, default_tile_size, pack
from latentcodec.errors import InvalidArgument
from latentcodec.image import Picture

_REFINED_EVERY = 400  # levels: a refinement serves the levels around it


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
        cleanup: CleanupRequest | None = None,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """quantiser: "scalar", or "palette", which has one rate. effort: 1 to 9, see refine.STEPS.

        prior: codes the scalar's latents in place of the adaptive coder. cleanup: what to store for one at
        decode. Raises WeightsMismatch where the prior was fitted to another autoencoder, InvalidArgument
        where the UNet does not work on this one's latents, and as BaseEncoder does.
        """
        if cleanup is not None:
            cleanup.unet.check(codec)
        if prior is not None:
            prior.check(codec.chunk(None))
        super().__init__(picture, codec.downscale, strip=strip, limits=limits)
        self.codec, self.quantiser, self.effort, self.prior = codec, quantiser, effort, prior
        self.cleanup = cleanup
        self._latents = codec.analyse(self._padded)
        self._sensitivities: Floats | None = None
        self._refined: dict[int, Floats] = {}

    def _encode(self, level: int, *, rough: bool = False) -> tuple[Encoded, Tensor]:
        picture, codec = self.picture, self.codec
        steps = self._steps(level) if self.quantiser == SCALAR else None
        prior = self.prior if steps is not None else None
        chunk = codec.chunk(steps) if prior is None else replace(codec.chunk(steps), prior=prior.hash)
        header = Header(
            width=picture.width,
            height=picture.height,
            channels=picture.channels,
            depth=8,
            model_number=codec.number,
            networks_hash=codec.networks_hash(chunk),
            synthesis_hash=chunk.fingerprint[:4],
            quality_level=level,
            tile_size=default_tile_size(picture.width, picture.height),
        )
        latents = self._latents if steps is None else self._refine(level)
        plane = empty_plane(codec.latents, picture.width, picture.height, codec.downscale)
        tiles = []
        for number, box in enumerate(header.tile_grid()):
            x0, y0, x1, y1 = latent_box(box, codec.downscale)
            chunk.check_tile(y1 - y0, x1 - x0)
            coded = _code(codec, prior, steps, level, latents[:, y0:y1, x0:x1])
            plane[:, y0:y1, x0:x1] = torch.from_numpy(coded.values)
            tiles.append(Tile(number, coded.digest, self._alpha(number, box), coded.stream))
        file = File(header, tiles, self._profile, self._exif, self._xmp, autoencoder=chunk.pack())
        if self.cleanup is not None:
            file = replace(file, cleanup=undecided(self.cleanup, header, chunk, latents, plane))
        return Encoded(file, pack(file)), plane

    def complete(self, file: File) -> File:
        """The file with the amounts of its clean-up, where one was asked for: they take no more bytes."""
        if self.cleanup is None:
            return file
        _, plane = self._encode(file.header.quality_level)  # attempts do not keep theirs
        return decided(self.cleanup, self.codec, file, plane, self.picture)

    def _synthesise(self, plane: Tensor, file: File) -> Pixels:
        return self.codec.synthesise_picture(plane, file.header, file_chunk(file))

    def _steps(self, level: int) -> ScalarQuantiser:
        if self._sensitivities is None:
            self._sensitivities = sensitivities(self.codec, self._latents)
        steps = choose_steps(level, self._sensitivities, self._latents.mean((1, 2)))
        # A prior has centres of its own.
        return steps if self.prior is None else replace(steps, offsets=(0,) * len(steps.offsets))

    def _refine(self, level: int) -> Floats:
        """The latents, refined for about this level."""
        iterations = STEPS[self.effort]
        if not iterations:
            return self._latents
        near = round(level / _REFINED_EVERY) * _REFINED_EVERY
        if near not in self._refined:
            steps = self._steps(near)
            self._refined[near] = refine(self.codec, self._latents, self._padded, steps, iterations)
        return self._refined[near]


def _code(
    codec: LatentCodec,
    prior: LatentPrior | None,
    steps: ScalarQuantiser | None,
    level: int,
    latents: Floats,
) -> CodedTile:
    if steps is not None:
        scaled = scalar.scale(steps, latents)
        return codec.encode_tile(scaled) if prior is None else prior.encode_tile(scaled, steps, level)
    stream, values = palette.quantise(latents)
    return CodedTile(stream, palette.digest(values), values.astype(np.int64))


class LatentReader:
    """Reads an autoencoder's file, for decode_with."""

    def __init__(
        self,
        codec: LatentCodec,
        header: Header,
        chunk: AutoencoderChunk,
        prior: LatentPrior | None = None,
        cleaner: Cleaner | None = None,
    ) -> None:
        """prior: one that is loaded; the file's is looked for in the store if it is not this.

        cleaner: the file's clean-up, if it is to be cleaned up.

        Raises WeightsMismatch, MalformedFile, UnknownModel and InvalidWeights.
        """
        codec.check(header, chunk)
        self.prior = prior_for(chunk, codec.device, prior)
        self.codec, self.header, self.chunk = codec, header, chunk
        self.cleaner = cleaner
        self.patch, self.latents = codec.downscale, codec.latents
        self.blank = 0 if chunk.scalar is not None else palette.COLOURS // 2

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[Tensor, bool]:
        """As decoder.Reader says; values."""
        if self.prior is None:
            values, complete = self.codec.decode_tile(
                self.chunk, tile.stream, tile.digest, height, width, partial=partial, name=name
            )
        else:
            values, complete = self.prior.decode_tile(
                self.chunk,
                self.header.quality_level,
                tile.stream,
                tile.digest,
                height,
                width,
                partial=partial,
                name=name,
            )
        return torch.from_numpy(values), complete

    def synthesise(self, plane: Tensor, missing: Collection[int]) -> npt.NDArray[np.uint8]:
        """As decoder.Reader says. Pictures with missing tiles are not cleaned up."""
        change = None
        if self.cleaner is not None and not missing:
            change = self.cleaner.change(plain_latents(self.chunk, plane))
        return self.codec.synthesise_picture(plane, self.header, self.chunk, missing, change)


def check_quantiser(quantiser: str, effort: int, asked: Collection[str], prior: LatentPrior | None) -> None:
    """Raise InvalidArgument for a quantiser that there is none of, or that has nothing of what is asked for.

    asked: names of a quality or target that the user gave.
    """
    if quantiser not in (SCALAR, PALETTE):
        raise InvalidArgument(f"quantiser {quantiser!r}: use {SCALAR} or {PALETTE}")
    if quantiser == SCALAR:
        return
    if asked:
        raise InvalidArgument(f"{', '.join(asked)}: the palette has one rate; leave it out")
    if prior is not None:
        raise InvalidArgument(f"prior {prior.hash.hex()}: the palette is coded without one; leave it out")
    if STEPS[effort]:
        raise InvalidArgument(
            f"effort {effort}: the palette has no refinement, which begins at {REFINED_FROM}; leave it out"
        )
