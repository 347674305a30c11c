"""Files of other autoencoders than the native model: writing one picture's, and reading.

Picture ─► latents, sensitivities (once) ─► level ─► steps, offsets ─► [refine] ─► tiles ─► File
File ─► V chunk ─► the autoencoder, by name, checked by its fingerprint ─► LatentReader ─► decode_with
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentcodec.chunks import DEFAULT_LIMITS, Limits
from latentcodec.codec import palette, scalar
from latentcodec.codec.autoencoder_chunk import AutoencoderChunk, ScalarQuantiser
from latentcodec.codec.encoder import BaseEncoder, Encoded
from latentcodec.codec.latent import CodedTile, LatentCodec, Pixels, file_chunk
from latentcodec.codec.planes import empty_plane, latent_box
from latentcodec.codec.refine import EFFORTS, refine
from latentcodec.codec.scalar import Floats
from latentcodec.codec.steps import choose_steps, sensitivities
from latentcodec.container import File, Header, Tile, default_tile_size, pack
from latentcodec.errors import InvalidArgument
from latentcodec.image import Picture

_REFINED_EVERY = 400  # levels: a refinement serves the levels around it

SCALAR, PALETTE = "scalar", "palette"


class LatentEncoder(BaseEncoder):
    """A picture for an autoencoder."""

    def __init__(
        self,
        codec: LatentCodec,
        picture: Picture,
        *,
        quantiser: str = SCALAR,
        effort: int = 0,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """quantiser: "scalar", or "palette", which has one rate. effort: 0 to 4, see refine.EFFORTS.

        Raises as BaseEncoder does.
        """
        super().__init__(picture, codec.downscale, strip=strip, limits=limits)
        self.codec, self.quantiser, self.effort = codec, quantiser, effort
        self._latents = codec.analyse(self._padded)
        self._sensitivities: Floats | None = None
        self._refined: dict[int, Floats] = {}

    def _encode(self, level: int) -> tuple[Encoded, Tensor]:
        picture, codec = self.picture, self.codec
        steps = self._steps(level) if self.quantiser == SCALAR else None
        chunk = codec.chunk(steps)
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
            coded = _code(codec, steps, latents[:, y0:y1, x0:x1])
            plane[:, y0:y1, x0:x1] = torch.from_numpy(coded.values)
            tiles.append(Tile(number, coded.digest, self._alpha(number, box), coded.stream))
        file = File(header, tiles, self._profile, self._exif, self._xmp, autoencoder=chunk.pack())
        return Encoded(file, pack(file)), plane

    def _synthesise(self, plane: Tensor, file: File) -> Pixels:
        return self.codec.synthesise_picture(plane, file.header, file_chunk(file))

    def _steps(self, level: int) -> ScalarQuantiser:
        if self._sensitivities is None:
            self._sensitivities = sensitivities(self.codec, self._latents)
        return choose_steps(level, self._sensitivities, self._latents.mean((1, 2)))

    def _refine(self, level: int) -> Floats:
        """The latents, refined for about this level."""
        if not EFFORTS[self.effort]:
            return self._latents
        near = round(level / _REFINED_EVERY) * _REFINED_EVERY
        if near not in self._refined:
            iterations = EFFORTS[self.effort]
            steps = self._steps(near)
            self._refined[near] = refine(self.codec, self._latents, self._padded, steps, iterations)
        return self._refined[near]


def _code(codec: LatentCodec, steps: ScalarQuantiser | None, latents: Floats) -> CodedTile:
    if steps is not None:
        return codec.encode_tile(scalar.scale(steps, latents))
    stream, values = palette.quantise(latents)
    return CodedTile(stream, palette.digest(values), values.astype(np.int64))


class LatentReader:
    """Reads an autoencoder's file, for decode_with."""

    def __init__(self, codec: LatentCodec, header: Header, chunk: AutoencoderChunk) -> None:
        """Raises WeightsMismatch, MalformedFile."""
        codec.check(header, chunk)
        self.codec, self.header, self.chunk = codec, header, chunk
        self.patch, self.latents = codec.downscale, codec.latents
        self.blank = 0 if chunk.scalar is not None else palette.COLOURS // 2

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[Tensor, bool]:
        """As decoder.Reader says; values."""
        values, complete = self.codec.decode_tile(
            self.chunk, tile.stream, tile.digest, height, width, partial=partial, name=name
        )
        return torch.from_numpy(values), complete

    def synthesise(self, plane: Tensor, missing: Collection[int]) -> npt.NDArray[np.uint8]:
        """As decoder.Reader says."""
        return self.codec.synthesise_picture(plane, self.header, self.chunk, missing)


def check_options(quantiser: str, effort: int) -> None:
    """Raise InvalidArgument for options that there are none of."""
    if quantiser not in (SCALAR, PALETTE):
        raise InvalidArgument(f"quantiser {quantiser!r}: use {SCALAR} or {PALETTE}")
    if effort not in range(len(EFFORTS)):
        raise InvalidArgument(f"effort {effort!r}: it goes from 0 to {len(EFFORTS) - 1}")
    if effort and quantiser == PALETTE:
        raise InvalidArgument(f"effort {effort}: only the {SCALAR} quantiser has one")
