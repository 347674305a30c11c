"""Diffusion clean-up of a file's latents, in pieces: what a decoder does, and how an encoder bounds it.

    values ─► latents ─► pieces of vae_tiles ─► clean_up, tile i by seed + i ─► share * (cleaned - latents)
                                          blended over the borders ─► change (C, h, w), added to the latents
    encoder   pictures of weak and full, against the source ─► choose_amount for each tile
              ─► the picture of these amounts ─► tiles past the limit step back ─► amounts of the d chunk

The latents are in the scale that the diffusion model works on: scale and shift are inside the autoencoder's
encode and decode (nn/autoencoder.py), so that nothing is scaled here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import numpy.typing as npt
import torch

from latentcodec.codec.cleanup_chunk import CleanupChunk, unpack_error
from latentcodec.codec.cleanup_unet import CleanupUNet
from latentcodec.codec.latent import LatentCodec, Pixels
from latentcodec.codec.planes import Box
from latentcodec.codec.vae_tiles import Floats, blended, cores
from latentcodec.container import Header
from latentcodec.diffusion.cleanup import WEAK_SHARE, Amount, Cleanup, choose_amount, clean_up
from latentcodec.errors import MalformedFile
from latentcodec.image import Picture
from latentcodec.nn.device import full_precision

__all__ = ["Cleaner", "Plain", "choose_amounts", "plane_size"]

SHARES = {Amount.OFF: 0.0, Amount.WEAK: WEAK_SHARE, Amount.FULL: 1.0}
_ROUNDS = 6  # of stepping back, after which all tiles are off
_REACH = 2  # tiles whose latents a tile's pixels may depend on, through halos and ramps

Plain = Callable[[Box], Floats]
"""A box of positions -> its plain latents (C, rows, columns) float32."""


class Cleaner:
    """A file's clean-up: its chunk, the UNet, and how strongly it is shown."""

    def __init__(
        self, chunk: CleanupChunk, unet: CleanupUNet, codec: LatentCodec, header: Header, strength: float = 1
    ) -> None:
        """strength: 0 to 1, times the stored amounts. width, height: of the plane, in positions.

        Raises MalformedFile where the chunk is not for this picture, InvalidArgument where the UNet is not
        for this autoencoder.
        """
        unet.check(codec)
        width, height = plane_size(header, codec.downscale)
        if (len(chunk.errors), len(chunk.amounts)) != (codec.latents, len(cores(width, height))):
            raise MalformedFile(
                f"clean-up: {len(chunk.errors)} channels and {len(chunk.amounts)} tiles, the picture has "
                f"{codec.latents} and {len(cores(width, height))}"
            )
        steps, share, eta = chunk.steps.as_floats()
        self.unet, self.chunk, self.strength = unet, chunk, strength
        self._settings = Cleanup(steps=steps, strength=share, eta=eta)
        self._errors = torch.tensor([unpack_error(byte) for byte in chunk.errors], dtype=torch.float64)
        self.width, self.height, self.downscale = width, height, codec.downscale
        self._picture = header.height, header.width

    def clean(self, number: int, box: Box, latents: Floats) -> Floats:
        """A tile's piece (C, rows, columns), cleaned; as it was where the network's answer is not finite."""
        x0, y0, x1, y1 = (edge * self.downscale for edge in box)
        settings = replace(self._settings, seed=(self.chunk.seed + number) % (1 << 32))
        with full_precision(self.unet.device):
            sizes = (*self._picture, y0, x0, y1 - y0, x1 - x0)
            denoiser = self.unet.denoiser(self.chunk.prompt, self.chunk.prediction, sizes)
            x = torch.from_numpy(np.ascontiguousarray(latents))[None].to(self.unet.device)
            cleaned = clean_up(x, self._errors, denoiser, self.unet.schedule, settings)[0]
        found: Floats = cleaned.float().cpu().numpy()
        return found if np.isfinite(found).all() else latents

    def change(self, plain: Plain) -> Floats | None:
        """What a decoder adds to the latents, (C, h, w); None where it is nothing."""
        return self.change_of(self.chunk.amounts, plain, self.clean)

    def change_of(
        self, amounts: Sequence[int], plain: Plain, clean: Callable[[int, Box, Floats], Floats]
    ) -> Floats | None:
        """The same for other amounts; clean: as the method."""
        shares = [SHARES[Amount(each)] * self.strength for each in amounts]
        if not any(shares):
            return None
        numbers = count()

        def run(box: Box) -> Floats:
            number, latents = next(numbers), plain(box)
            share = np.float32(shares[number])
            added = share * (clean(number, box, latents) - latents) if share else np.zeros_like(latents)
            moved: Floats = added.transpose(1, 2, 0)
            return moved

        out = np.empty((self.height, self.width, len(self.chunk.errors)), np.float32)
        for top, band in blended(self.width, self.height, 1, out.shape[2], run):
            out[top : top + len(band)] = band
        return out.transpose(2, 0, 1)


def choose_amounts(
    cleaner: Cleaner,
    plain: Plain,
    show: Callable[[Floats | None], Pixels],
    picture: Picture,
    limit: float,
) -> tuple[int, ...]:
    """The most of a clean-up for each tile that costs it at most `limit` dB against the plain decode.

    show: the decoded picture (H, W, 3) with a change of its latents. What a tile shows depends on its
    neighbours too, so that the picture of the amounts is decoded again and tiles past the limit step back;
    where that does not end in a few rounds, all are off.
    """
    pieces: dict[int, Floats] = {}

    def clean(number: int, box: Box, latents: Floats) -> Floats:
        if number not in pieces:
            pieces[number] = cleaner.clean(number, box, latents)
        return pieces[number]

    def decoded(amounts: Sequence[int]) -> Pixels:
        return show(cleaner.change_of(amounts, plain, clean))

    tiles = _Tiles(cleaner, picture)
    nothing = (int(Amount.OFF),) * len(cleaner.chunk.amounts)
    before = decoded(nothing)
    uniform = {each: decoded((each,) * len(nothing)) for each in (Amount.WEAK, Amount.FULL)}
    amounts = [int(tiles.choose(number, before, uniform, limit)) for number in range(len(nothing))]
    del uniform
    for _ in range(_ROUNDS if any(amounts) else 0):
        shown = decoded(amounts)
        worse = [
            number
            for number in range(len(amounts))
            if tiles.choose(number, before, {Amount.FULL: shown}, limit, same=True) is Amount.OFF
        ]
        if not worse:
            return tuple(amounts)
        for number in worse:
            # One that is off itself is spoilt by those around it.
            for each in [number] if amounts[number] else tiles.around(number):
                amounts[each] = max(amounts[each] - 1, Amount.OFF)
    return nothing


class _Tiles:
    """The tiles of a picture in pixels, and their errors."""

    def __init__(self, cleaner: Cleaner, picture: Picture) -> None:
        self._boxes = cores(cleaner.width, cleaner.height)
        self._scale, self._picture = cleaner.downscale, picture
        self._columns = sum(1 for box in self._boxes if box[1] == 0)

    def choose(
        self, number: int, plain: Pixels, shown: dict[Amount, Pixels], limit: float, *, same: bool = False
    ) -> Amount:
        """The amount of a tile, of pictures of each; same: one that equals the plain picture is a choice."""
        cut = partial(self._cut, number)
        original, before = cut(self._picture.pixels), cut(plain)
        candidates = {each: cut(pixels) for each, pixels in shown.items()}
        if not same:
            candidates = {
                each: pixels for each, pixels in candidates.items() if not torch.equal(pixels, before)
            }
        if not len(original):  # wholly transparent: it shows nothing
            return Amount.FULL if same else Amount.OFF
        return choose_amount(original, before, candidates, limit)

    def around(self, number: int) -> list[int]:
        """The tiles that a tile's pixels may depend on."""
        row, column = divmod(number, self._columns)
        rows = len(self._boxes) // self._columns
        return [
            y * self._columns + x
            for y in range(max(row - _REACH, 0), min(row + _REACH + 1, rows))
            for x in range(max(column - _REACH, 0), min(column + _REACH + 1, self._columns))
        ]

    def _cut(self, number: int, pixels: Pixels) -> torch.Tensor:
        """The tile's samples (n, 3) of the pixels that are not fully transparent."""
        x0, y0, x1, y1 = (edge * self._scale for edge in self._boxes[number])
        part: npt.NDArray[np.uint8] = pixels[y0:y1, x0:x1].reshape(-1, 3)
        if self._picture.alpha is not None:
            part = part[self._picture.alpha[y0:y1, x0:x1].reshape(-1) > 0]
        return torch.from_numpy(np.ascontiguousarray(part))


def plane_size(header: Header, downscale: int) -> tuple[int, int]:
    """Width and height of a picture's latent plane, in positions."""
    return -(-header.width // downscale), -(-header.height // downscale)
