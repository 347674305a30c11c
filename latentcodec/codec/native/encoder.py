"""A picture for the native model: analysed and coded tile by tile, with the search that effort asks for.

padded pixels ─► for each tile: crop with halo ─► analyse ─► cut the halo off ─► y ─► NativeCodec.encode_tile
latent plane ─► for each piece around a tile: measure ─► Slopes, which the search goes by

The analysis has a finite receptive field: with its halo a tile gives what the whole picture would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from latentcodec.codec.arguments import DEFAULT_EFFORT
from latentcodec.codec.encoder import BaseEncoder
from latentcodec.codec.lossless import pixel_tiles
from latentcodec.codec.native.coder import EncodedTile, Floats, NativeCodec
from latentcodec.codec.native.decoder import decode_file, synthesise_picture
from latentcodec.codec.native.near import NearFiles
from latentcodec.codec.planes import PATCH, LatentBox, LatentPlane, empty_plane, latent_box, with_halo
from latentcodec.codec.targets import PSNR, Attempt, Encoded, Measure
from latentcodec.container.chunks import DEFAULT_LIMITS, Limits
from latentcodec.container.file import File, Header, Tile, default_tile_size, pack
from latentcodec.container.header import too_thin
from latentcodec.nn.native.config import FRACTION
from latentcodec.parallel import in_order
from latentcodec.picture.picture import Picture, Pixels

ITERATIONS = (0, 0, 0, 1, 2, 4, 8, 16, 40)  # of the search, for efforts 1 to 9


class NativeEncoder(BaseEncoder):
    """A picture for the native model."""

    def __init__(
        self,
        codec: NativeCodec,
        picture: Picture,
        *,
        effort: int = DEFAULT_EFFORT,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """As BaseEncoder. effort: 1 to 9. Raises MissingDependency for a thin picture and no WebP."""
        super().__init__(picture, PATCH, strip=strip, limits=limits)
        self.codec, self.effort, self.limits = codec, effort, limits
        self._halo = codec.weights.config.transform.analysis_halo
        self._only_exact = self._exact(always=True) if too_thin(picture.width, picture.height) else None
        self._near: NearFiles | None = None
        if picture.bit_depth > 8 and self._only_exact is None:
            self._near = NearFiles(picture, self._alpha, self._pixel_file, self._psnr)

    @property
    def slow(self) -> bool:
        """As BaseEncoder."""
        return ITERATIONS[self.effort - 1] > 0 and self._only_exact is None

    def encode(self, level: int) -> Encoded:
        """As BaseEncoder says; a picture that is too thin for the model is kept without loss."""
        return super().encode(level) if self._only_exact is None else self._only_exact.encoded

    def attempt(self, level: int, *, measure: Measure | None, rough: bool = False) -> Attempt:
        """As BaseEncoder says; all attempts of a picture that is too thin for the model are the same."""
        if self._only_exact is not None:
            return replace(self._only_exact, level=level)
        return super().attempt(level, measure=measure, rough=rough)

    def _encode(self, level: int, *, rough: bool = False) -> tuple[Encoded, LatentPlane]:
        picture, weights = self.picture, self.codec.weights
        header = Header(
            width=picture.width,
            height=picture.height,
            channels=picture.channels,
            depth=picture.bit_depth,
            model_number=weights.number,
            networks_hash=weights.networks_hash,
            synthesis_hash=weights.synthesis_hash,
            quality_level=level,
            tile_size=default_tile_size(picture.width, picture.height),
        )
        plane = empty_plane(weights.config.transform.latents, picture.width, picture.height)
        iterations = 0 if rough else ITERATIONS[self.effort - 1]
        boxes = [latent_box(box) for box in header.tile_grid()]
        if iterations and len(boxes) > 1:
            for x0, y0, x1, y1 in boxes:  # what the search of a tile sees of those after it
                plane[:, y0:y1, x0:x1] = np.rint(FRACTION * self._analyse((x0, y0, x1, y1), level))

        def encode_tile(latents: LatentBox) -> EncodedTile:
            improve = None
            if iterations:
                from latentcodec.codec.native.tile_search import TileSearch  # it needs PyTorch

                search = TileSearch(self.codec, picture, self._padded, plane)
                improve = partial(search.improve, box=latents, level=level, iterations=iterations)
            coded = self.codec.encode_tile(self._analyse(latents, level), level, improve)
            x0, y0, x1, y1 = latents
            plane[:, y0:y1, x0:x1] = coded.latents
            return coded

        # A search sees what became of the tiles before.
        encoded = in_order(encode_tile, boxes, 1 if iterations else self.codec.threads)
        tiles = [
            Tile(number, coded.digest, self._alpha(number, box), coded.stream)
            for number, (box, coded) in enumerate(zip(header.tile_grid(), encoded, strict=True))
        ]
        file = File(header, tiles, **self._metadata)
        return Encoded(file, pack(file)), plane

    def without_loss(self, limit: float = math.inf) -> Attempt | None:
        """As BaseEncoder says."""
        if self._only_exact is not None:
            return self._only_exact if self._only_exact.size <= limit else None
        return self._exact(limit)

    def near(self, limit: float, than: Encoded | None = None) -> Attempt | None:
        """As BaseEncoder says."""
        found = self._near.finest(limit) if self._near is not None else None
        if found is None or than is None or found.psnr == math.inf:
            return found
        shown, _ = decode_file(self.codec, than.file, self.limits, None)
        return found if found.psnr is not None and found.psnr > self._psnr(shown.pixels) else None

    def near_enough(self, measure: Measure, target: float, limit: float = math.inf) -> Attempt | None:
        """As BaseEncoder says; of a score there is none: 8 bits serve it as well."""
        if self._near is None or measure is not PSNR:
            return None
        return self._near.smallest(target, limit)

    def _pixel_file(self, header: Header, tiles: list[Tile]) -> File:
        return File(header, tiles, **self._metadata)

    def _exact(self, limit: float = math.inf, *, always: bool = False) -> Attempt | None:
        lossless = pixel_tiles(self.picture, self.effort, self._alpha, limit, always=always)
        if lossless is None:
            return None
        file = self._pixel_file(*lossless)
        data = pack(file)
        return Attempt(file.header.quality_level, len(data), math.inf, Encoded(file, data), ssimulacra2=100.0)

    def _analyse(self, box: LatentBox, level: int) -> Floats:
        peak = self.picture.peak
        return analyse_tile(
            self._padded, box, self._halo, lambda pixels: self.codec.analyse(pixels, level, peak)
        )

    def _synthesise(self, plane: LatentPlane, file: File) -> Pixels:
        return synthesise_picture(self.codec, plane, file.header)


def analyse_tile(pixels: Pixels, box: LatentBox, halo: int, analyse: Callable[[Pixels], Floats]) -> Floats:
    """y (C, h, w) of a tile.

    pixels: the whole picture, sides multiples of 8; box: the tile in latents; halo: in latents.
    """
    height, width = pixels.shape[0] // PATCH, pixels.shape[1] // PATCH
    x0, y0, x1, y1 = with_halo(box, halo, width, height)
    y = analyse(pixels[y0 * PATCH : y1 * PATCH, x0 * PATCH : x1 * PATCH])
    return y[:, box[1] - y0 : box[3] - y0, box[0] - x0 : box[2] - x0]
