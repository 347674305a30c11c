"""Picture -> file bytes at one quality level, or at the level that meets a target.

Picture ─┬─► fill transparent, pad ─► tiles: analyse, encode ─► File ─► bytes
         │                                  │
         │            latent plane ─► synthesise ─► the picture that a decoder gets ─► PSNR
         └─► few colours, repeating? ─► tiles of pixels, without loss ─► File ─► bytes
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from latentcodec.alpha import fill_transparent, pack_alpha
from latentcodec.chunks import DEFAULT_LIMITS, Limits
from latentcodec.codec import search
from latentcodec.codec.arguments import DEFAULT_EFFORT
from latentcodec.codec.decoder import Pixels, pieces, synthesise_picture
from latentcodec.codec.distortion import Slopes, measure
from latentcodec.codec.native import NativeCodec
from latentcodec.codec.pixels import pixel_tiles
from latentcodec.codec.planes import (
    PATCH,
    analyse_tile,
    empty_plane,
    latent_box,
    pad_to_patches,
    with_halo,
)
from latentcodec.codec.planes import Box as LatentBox
from latentcodec.codec.sidecar import pack_sidecar
from latentcodec.codec.targets import Attempt
from latentcodec.container import Box, File, Goal, Header, Tile, default_tile_size, pack
from latentcodec.errors import LimitExceeded
from latentcodec.image import Picture
from latentcodec.metadata import DroppedDataWarning
from latentcodec.nn.entropy_model import FRACTION


@dataclass(frozen=True)
class Encoded:
    """A file at one level, and its bytes."""

    file: File
    data: bytes


class BaseEncoder(ABC):
    """One picture, encoded as often as a target needs; the models' own encoders are below it."""

    def __init__(
        self, picture: Picture, patch: int, *, strip: bool = False, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        """patch: pixels of a latent position, along a side.

        `limits` are those of the file's readers: EXIF and XMP beyond them are dropped with a
        DroppedDataWarning. Raises LimitExceeded for a colour profile beyond them, which is what is seen.
        """
        self.picture = picture
        pixels = picture.pixels if picture.alpha is None else fill_transparent(picture.pixels, picture.alpha)
        self._padded = pad_to_patches(pixels, patch)
        self._profile, self._exif, self._xmp = _sidecars(picture, strip, limits.max_metadata_bytes)
        self._alphas: dict[int, bytes] = {}

    def encode(self, level: int) -> Encoded:
        """Encode at a quality level of 0 to 4000."""
        encoded = self._encode(level)[0]
        file = self.complete(encoded.file)
        return encoded if file is encoded.file else Encoded(file, pack(file))

    def complete(self, file: File) -> File:
        """The file that was chosen, with what only that one needs; it stays of as many bytes."""
        return file

    @abstractmethod
    def _encode(self, level: int, *, rough: bool = False) -> tuple[Encoded, Tensor]:
        """The encoding, and the latent plane (C, h, w) int16 that it decodes to; rough: with least effort."""

    @abstractmethod
    def _synthesise(self, plane: Tensor, file: File) -> Pixels:
        """The pixels (height, width, 3) that a decoder gets."""

    def _alpha(self, number: int, box: Box) -> bytes | None:
        """The stored alpha of a tile; None where the picture has none."""
        if self.picture.alpha is not None and number not in self._alphas:
            self._alphas[number] = pack_alpha(self.picture.alpha[box.y0 : box.y1, box.x0 : box.x1])
        return self._alphas.get(number)

    @property
    def slow(self) -> bool:
        """Whether a search had better begin with rough attempts, which are much quicker."""
        return False

    def without_loss(self, limit: float = math.inf) -> Attempt | None:
        """The picture's own pixels as a file; None where they hardly take few bytes, or over `limit`."""
        return None

    def attempt(self, level: int, *, measure: bool, rough: bool = False) -> Attempt:
        """Encode at a level and measure its size and, if asked, the PSNR of what it decodes to."""
        # A search holds several attempts: none of them keeps its plane, which may be larger than the picture.
        encoded, plane = self._encode(level, rough=rough)
        psnr = self._psnr(self._synthesise(plane, encoded.file)) if measure else None
        return Attempt(level, len(encoded.data), psnr, encoded)

    def _psnr(self, decoded: Pixels) -> float:
        """PSNR in dB of what a decoder gets, over the pixels that are not fully transparent."""
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

    def finish(self, attempt: Attempt, goal: Goal | None = None) -> bytes:
        """The bytes of the attempt that was chosen; goal: what was asked for and achieved, to be stored."""
        return pack(replace(self.complete(attempt.encoded.file), goal=goal))


class PictureEncoder(BaseEncoder):
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
        """As BaseEncoder. effort: 1 to 9."""
        super().__init__(picture, PATCH, strip=strip, limits=limits)
        self.codec, self.effort = codec, effort
        self._halo = codec.weights.config.transform.analysis_halo

    @property
    def slow(self) -> bool:
        """As BaseEncoder."""
        return search.ITERATIONS[self.effort - 1] > 0

    def _encode(self, level: int, *, rough: bool = False) -> tuple[Encoded, Tensor]:
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
        iterations = 0 if rough else search.ITERATIONS[self.effort - 1]
        boxes = [latent_box(box) for box in header.tile_grid()]
        if iterations and len(boxes) > 1:
            for x0, y0, x1, y1 in boxes:  # what the search of a tile sees of those after it
                plane[:, y0:y1, x0:x1] = (FRACTION * self._analyse((x0, y0, x1, y1), level)).round().cpu()
        tiles = []
        for number, (box, latents) in enumerate(zip(header.tile_grid(), boxes, strict=True)):
            x0, y0, x1, y1 = latents
            improve = None
            if iterations:
                slopes = partial(self._slopes, plane=plane, box=latents, level=level)
                improve = partial(
                    search.search, self.codec, level=level, slopes=slopes, iterations=iterations
                )
            coded = self.codec.encode_tile(self._analyse(latents, level), level, improve)
            plane[:, y0:y1, x0:x1] = coded.latents.cpu()
            tiles.append(Tile(number, coded.digest, self._alpha(number, box), coded.stream))
        file = File(header, tiles, self._profile, self._exif, self._xmp)
        return Encoded(file, pack(file)), plane

    def without_loss(self, limit: float = math.inf) -> Attempt | None:
        """As BaseEncoder says."""
        found = pixel_tiles(self.picture, self.effort, self._alpha, limit)
        if found is None:
            return None
        file = File(*found, self._profile, self._exif, self._xmp)
        data = pack(file)
        return Attempt(file.header.quality_level, len(data), math.inf, Encoded(file, data))

    def _analyse(self, box: LatentBox, level: int) -> Tensor:
        return analyse_tile(self._padded, box, self._halo, lambda pixels: self.codec.analyse(pixels, level))

    def _slopes(
        self, latents: Tensor, gradients: bool, *, plane: Tensor, box: LatentBox, level: int
    ) -> Slopes:
        """What the picture says of a tile's latents, in the plane around it."""
        x0, y0, x1, y1 = box
        plane[:, y0:y1, x0:x1] = latents.cpu()
        device = self.codec.device
        distortion = torch.empty((-(-latents.shape[1] // 2), -(-latents.shape[2] // 2)), device=device)
        kept = torch.empty((2 * gradients, *latents.shape), device=device)
        for left, top, right, bottom in pieces(x1 - x0, y1 - y0):
            piece = (x0 + left, y0 + top, x0 + right, y0 + bottom)
            a0, b0, a1, b1 = with_halo(piece, search.HALO, plane.shape[2], plane.shape[1])
            core = slice(piece[1] - b0, piece[3] - b0), slice(piece[0] - a0, piece[2] - a0)
            pixels = self._counted_pixels(a0, b0, a1, b1)
            found = measure(
                self.codec,
                plane[:, b0:b1, a0:a1],
                level,
                pixels,
                core,
                gray=self.picture.gray,
                gradients=gradients,
            )
            for gradient, part in zip(kept, found.gradients, strict=True):
                gradient[:, top:bottom, left:right] = part
            distortion[top // 2 : -(-bottom // 2), left // 2 : -(-right // 2)] = found.distortion
        return Slopes(distortion, tuple(kept))

    def _counted_pixels(self, x0: int, y0: int, x1: int, y1: int) -> Tensor:
        """(4, 8h, 8w): samples in 0..1, and 1 where a pixel counts: inside and not fully transparent."""
        rows, columns = slice(PATCH * y0, PATCH * y1), slice(PATCH * x0, PATCH * x1)
        pixels = torch.from_numpy(self._padded[rows, columns].copy()).to(self.codec.device)
        counts = torch.zeros(1, *pixels.shape[:2], device=pixels.device)
        inside = counts[:, : self.picture.height - PATCH * y0, : self.picture.width - PATCH * x0]
        inside.fill_(1)
        if self.picture.alpha is not None:
            inside.copy_(torch.from_numpy(self.picture.alpha[rows, columns] > 0))
        return torch.cat([pixels.permute(2, 0, 1) / 255, counts])

    def _synthesise(self, plane: Tensor, file: File) -> Pixels:
        return synthesise_picture(self.codec, plane, file.header)


def _sidecars(picture: Picture, strip: bool, limit: int) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Profile, EXIF and XMP as stored: each of at most `limit` bytes raw, and together no more stored."""
    stored = pack_sidecar(picture.profile)
    kept, size = [stored], len(stored or b"")
    if (largest := max(size, len(picture.profile or b""))) > limit:
        raise LimitExceeded(
            f"colour profile: {largest} bytes, readers take at most {limit}: convert the picture to sRGB and "
            "leave the profile out, or raise Limits.max_metadata_bytes here and where it is decoded"
        )
    for name, data in (("EXIF", picture.exif), ("XMP", picture.xmp)):
        fits = data is not None and not strip and len(data) <= limit
        stored = pack_sidecar(data) if fits else None
        if stored is not None and size + len(stored) > limit:
            stored = None
        if data and not strip and stored is None:
            warnings.warn(
                f"{len(data)} bytes of {name} are dropped: readers take at most {limit} bytes of metadata "
                "(Limits.max_metadata_bytes)",
                DroppedDataWarning,
                stacklevel=4,
            )
        kept.append(stored)
        size += len(stored or b"")
    return kept[0], kept[1], kept[2]
