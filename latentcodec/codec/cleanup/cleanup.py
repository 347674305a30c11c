"""Diffusion clean-up of a file's latents, in pieces: what a decoder does, and how an encoder bounds it.

    values ─► latents ─► pieces of vae_tiles ─► clean_up, tile i by seed + i ─► share * (cleaned - latents)
                                          blended over the borders ─► change (C, h, w), added to the latents
    encoder   pictures of weak and full, against the source ─► choose_amount for each tile
              ─► the picture of these amounts ─► tiles past the limit step back ─► amounts of the d chunk

The latents are in the scale that the diffusion model works on: scale and shift are inside the autoencoder's
encode and decode (nn/stable_diffusion/autoencoder.py), so that nothing is scaled here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.autoencoder.vae_tiles import Samples, blended, cores
from latentcodec.codec.cleanup.denoiser import SCHEDULE, CleanupDenoiser, Place
from latentcodec.codec.planes import LatentBox
from latentcodec.codec.values.coder import BoxLatents
from latentcodec.container.cleanup import MAX_SEED, PREDICTIONS, CleanupChunk, unpack_error
from latentcodec.container.file import Header
from latentcodec.diffusion.cleanup import SHARES, Amount, choose_amount, clean_up
from latentcodec.diffusion.prediction import Prediction, estimate
from latentcodec.diffusion.presets import Cleanup
from latentcodec.errors import InvalidArgument, MalformedFile
from latentcodec.nn.device import full_precision
from latentcodec.picture.picture import Picture, Pixels

__all__ = ["Cleaner", "choose_amounts", "plane_size"]

_ROUNDS = 6  # of stepping back, after which all tiles are off
_REACH = 2  # tiles whose latents a tile's pixels may depend on, through halos and ramps
_KINDS: dict[str, Prediction] = dict(zip(PREDICTIONS, ("epsilon", "v"), strict=True))


class Cleaner:
    """A file's clean-up: its chunk, the denoiser, and how strongly it is shown."""

    def __init__(
        self,
        chunk: CleanupChunk,
        denoiser: CleanupDenoiser,
        codec: LatentCodec,
        header: Header,
        strength: float = 1,
    ) -> None:
        """strength: 0 to 1, times the stored amounts. width, height: of the plane, in positions.

        Raises MalformedFile where the chunk is not for this picture, InvalidArgument where the denoiser is
        not for this autoencoder.
        """
        denoiser.check(codec)
        width, height = plane_size(header, codec.downscale)
        if (len(chunk.errors), len(chunk.amounts)) != (codec.latents, len(cores(width, height))):
            raise MalformedFile(
                f"clean-up: {len(chunk.errors)} channels and {len(chunk.amounts)} tiles, the picture has "
                f"{codec.latents} and {len(cores(width, height))}"
            )
        steps, share, eta = chunk.steps.as_floats()
        self.denoiser, self.chunk, self.strength = denoiser, chunk, strength
        self._settings = Cleanup(steps=steps, strength=share, eta=eta)
        self._errors = torch.tensor([unpack_error(byte) for byte in chunk.errors], dtype=torch.float64)
        self.width, self.height, self.downscale = width, height, codec.downscale
        self._picture, self._device = (header.height, header.width), codec.device

    def clean(self, number: int, box: LatentBox, latents: Samples) -> Samples:
        """A tile's piece (C, rows, columns), cleaned; as it was where the network's answer is not finite."""
        x0, y0, x1, y1 = (edge * self.downscale for edge in box)
        place = Place(*self._picture, y0, x0, y1 - y0, x1 - x0)
        settings = replace(self._settings, seed=(self.chunk.seed + number) % (MAX_SEED + 1))
        with full_precision(self._device):
            x = torch.from_numpy(np.ascontiguousarray(latents))[None].to(self._device)
            cleaned = clean_up(x, self._errors, partial(self._denoise, place), SCHEDULE, settings)[0]
        piece: Samples = cleaned.float().cpu().numpy()
        return piece if np.isfinite(piece).all() else latents

    def _denoise(self, place: Place, noisy: Tensor, sigma: float) -> Tensor:
        """The latents of a piece as the denoiser's prediction says; the file says what it predicts."""
        predicted = self.denoiser.predict(noisy, sigma, self.chunk.prompt, place)
        if predicted.shape != noisy.shape:
            raise InvalidArgument(
                f"clean-up: {self.denoiser.name} predicts shape {tuple(predicted.shape)} of latents of shape "
                f"{tuple(noisy.shape)}; they must be the same"
            )
        return estimate(_KINDS[self.chunk.prediction], noisy, sigma, predicted)

    def change(self, plain: BoxLatents) -> Samples | None:
        """What a decoder adds to the latents, (C, h, w); None where it is nothing."""
        return self.change_of(self.chunk.amounts, plain, self.clean)

    def change_of(
        self, amounts: Sequence[int], plain: BoxLatents, clean: Callable[[int, LatentBox, Samples], Samples]
    ) -> Samples | None:
        """The same for other amounts; clean: as the method."""
        shares = [SHARES[Amount(amount)] * self.strength for amount in amounts]
        if not any(shares):
            return None
        numbers = count()

        def run(box: LatentBox) -> Samples:
            number, latents = next(numbers), plain(box)
            share = np.float32(shares[number])
            change = share * (clean(number, box, latents) - latents) if share else np.zeros_like(latents)
            channels_last: Samples = change.transpose(1, 2, 0)
            return channels_last

        out = np.empty((self.height, self.width, len(self.chunk.errors)), np.float32)
        for top, band in blended(self.width, self.height, 1, out.shape[2], run):
            out[top : top + len(band)] = band
        return out.transpose(2, 0, 1)


def choose_amounts(
    cleaner: Cleaner,
    plain: BoxLatents,
    show: Callable[[Samples | None], Pixels],
    picture: Picture,
    limit: float,
) -> tuple[int, ...]:
    """The most of a clean-up for each tile that costs it at most `limit` dB against the plain decode.

    show: the decoded picture (H, W, 3) with a change of its latents. What a tile shows depends on its
    neighbours too, so that the picture of the amounts is decoded again and tiles past the limit step back;
    where that does not end in a few rounds, all are off.
    """
    pieces: dict[int, Samples] = {}

    def clean(number: int, box: LatentBox, latents: Samples) -> Samples:
        if number not in pieces:
            pieces[number] = cleaner.clean(number, box, latents)
        return pieces[number]

    def decoded(amounts: Sequence[int]) -> Pixels:
        return show(cleaner.change_of(amounts, plain, clean))

    tiles = _Tiles(cleaner, picture)
    nothing = (int(Amount.OFF),) * len(cleaner.chunk.amounts)
    before = decoded(nothing)
    uniform = {amount: decoded((amount,) * len(nothing)) for amount in (Amount.WEAK, Amount.FULL)}
    amounts = [int(tiles.choose(number, before, uniform, limit)) for number in range(len(nothing))]
    del uniform
    for _ in range(_ROUNDS if any(amounts) else 0):
        cleaned = decoded(amounts)
        worse = [
            number
            for number in range(len(amounts))
            if tiles.choose(number, before, {Amount.FULL: cleaned}, limit, same=True) is Amount.OFF
        ]
        if not worse:
            return tuple(amounts)
        for number in worse:
            # One that is off itself is spoilt by those around it.
            for tile in [number] if amounts[number] else tiles.around(number):
                amounts[tile] = max(amounts[tile] - 1, Amount.OFF)
    return nothing


class _Tiles:
    """The tiles of a picture in pixels, and their errors."""

    def __init__(self, cleaner: Cleaner, picture: Picture) -> None:
        self._boxes = cores(cleaner.width, cleaner.height)
        self._scale, self._picture = cleaner.downscale, picture
        self._columns = sum(1 for box in self._boxes if box[1] == 0)

    def choose(
        self, number: int, plain: Pixels, cleaned: dict[Amount, Pixels], limit: float, *, same: bool = False
    ) -> Amount:
        """The amount of a tile; cleaned: the picture of each amount.

        same: whether one that equals the plain picture is a choice.
        """
        cut = partial(self._cut, number)
        original, before = cut(self._picture.pixels), cut(plain)
        candidates = {amount: cut(pixels) for amount, pixels in cleaned.items()}
        if not same:
            candidates = {
                amount: samples for amount, samples in candidates.items() if not torch.equal(samples, before)
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
        part: npt.NDArray[np.integer] = pixels[y0:y1, x0:x1].reshape(-1, 3)
        if part.dtype == np.uint16:  # on which PyTorch has hardly any operations
            part = part.astype(np.int32)
        if self._picture.alpha is not None:
            part = part[self._picture.alpha[y0:y1, x0:x1].reshape(-1) > 0]
        return torch.from_numpy(np.ascontiguousarray(part))


def plane_size(header: Header, downscale: int) -> tuple[int, int]:
    """Width and height of a picture's latent plane, in positions."""
    return -(-header.width // downscale), -(-header.height // downscale)
