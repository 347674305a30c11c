"""Picture -> file bytes at one quality level, or at the level that meets a target.

Picture ─► fill transparent, pad ─► tiles: analyse, encode ─► File ─► bytes
                                            │
                      latent plane ─► synthesise ─► the picture that a decoder gets ─► PSNR
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from latentcodec.alpha import fill_transparent, pack_alpha
from latentcodec.codec.decoder import synthesise_picture
from latentcodec.codec.native import NativeCodec
from latentcodec.codec.planes import analyse_tile, empty_plane, latent_box, pad_to_patches
from latentcodec.codec.sidecar import pack_sidecar
from latentcodec.codec.targets import Attempt
from latentcodec.container import File, Goal, Header, Tile, default_tile_size, pack
from latentcodec.image import Picture


@dataclass(frozen=True)
class Encoded:
    """A file at one level, and its bytes."""

    file: File
    data: bytes


class PictureEncoder:
    """One picture, encoded as often as a target needs."""

    def __init__(self, codec: NativeCodec, picture: Picture, *, strip: bool = False) -> None:
        self.codec, self.picture = codec, picture
        pixels = picture.pixels if picture.alpha is None else fill_transparent(picture.pixels, picture.alpha)
        self._padded = pad_to_patches(pixels)
        self._halo = codec.weights.config.transform.analysis_halo
        self._profile = pack_sidecar(picture.profile)
        self._exif = None if strip else pack_sidecar(picture.exif)
        self._xmp = None if strip else pack_sidecar(picture.xmp)
        self._alphas: dict[int, bytes] = {}

    def encode(self, level: int) -> Encoded:
        """Encode at a quality level of 0 to 4000."""
        return self._encode(level)[0]

    def _encode(self, level: int) -> tuple[Encoded, Tensor]:
        """The encoding, and the latent plane (C, h, w) int16 that it decodes to."""
        picture, weights = self.picture, self.codec.weights
        header = Header(
            width=picture.width,
            height=picture.height,
            channels=picture.channels,
            depth=8,
            model_number=weights.number,
            networks_hash=weights.networks_hash,
            synthesis_hash=weights.synthesis_hash,
            quality_level=level,
            tile_size=default_tile_size(picture.width, picture.height),
        )
        plane = empty_plane(weights.config.transform.latents, picture.width, picture.height)
        tiles = []
        for number, box in enumerate(header.tile_grid()):
            x0, y0, x1, y1 = latents = latent_box(box)
            y = analyse_tile(
                self._padded, latents, self._halo, lambda pixels: self.codec.analyse(pixels, level)
            )
            coded = self.codec.encode_tile(y, level)
            plane[:, y0:y1, x0:x1] = coded.latents.cpu()
            if picture.alpha is not None and number not in self._alphas:
                self._alphas[number] = pack_alpha(picture.alpha[box.y0 : box.y1, box.x0 : box.x1])
            tiles.append(Tile(number, coded.digest, self._alphas.get(number), coded.stream))
        file = File(header, tiles, self._profile, self._exif, self._xmp)
        return Encoded(file, pack(file)), plane

    def attempt(self, level: int, measure: bool) -> Attempt:
        """Encode at a level and measure its size and, if asked, the PSNR of what it decodes to."""
        # A search holds several attempts: none of them keeps its plane, which may be larger than the picture.
        encoded, plane = self._encode(level)
        psnr = self._psnr(plane, encoded.file.header) if measure else None
        return Attempt(level, len(encoded.data), psnr, encoded)

    def _psnr(self, plane: Tensor, header: Header) -> float:
        """PSNR in dB of the picture that a decoder gets, over the pixels that are not fully transparent."""
        decoded = synthesise_picture(self.codec, plane, header)
        picture = self.picture
        total, count = 0, 0
        for top in range(0, picture.height, 256):
            rows = slice(top, top + 256)
            error = decoded[rows].astype(np.int32) - picture.pixels[rows]
            squares = (error * error).sum(2)
            if picture.alpha is not None:
                squares = squares[picture.alpha[rows] > 0]
            total += int(squares.sum(dtype=np.int64))
            count += 3 * squares.size
        return float("inf") if total == 0 else float(10 * np.log10(255**2 * count / total))

    def finish(self, attempt: Attempt, goal: Goal) -> bytes:
        """The bytes of an attempt, with what was asked for and achieved."""
        file = attempt.encoded.file
        return pack(File(file.header, file.tiles, file.profile, file.exif, file.xmp, goal))
