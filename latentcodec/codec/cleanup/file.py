"""Clean-up in files: what an encoder stores when it is asked to, and what a decoder makes of it.

settings  ─► load_request ─► CleanupRequest: settings and denoiser
encoder   CleanupRequest, latents and values ─► d chunk, all off (so that a size target counts it)
          ─► the file is chosen ─► amounts of its tiles ─► d chunk
decoder   d chunk ─► denoiser ─► Cleaner;     without a chunk, with a denoiser of the user's: error ─► Cleaner
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from latentcodec.codec.autoencoder.latent import LatentCodec, file_chunk
from latentcodec.codec.autoencoder.vae_tiles import Samples, cores
from latentcodec.codec.cleanup.cleanup import Cleaner, choose_amounts, plane_size
from latentcodec.codec.cleanup.denoiser import CleanupDenoiser
from latentcodec.codec.cleanup.settings import CleanupSettings
from latentcodec.codec.cleanup.unet import denoiser_for, open_unet
from latentcodec.codec.values import scalar
from latentcodec.codec.values.coder import BoxLatents, Floats
from latentcodec.container.cleanup import CleanupChunk, CleanupSteps, pack_error
from latentcodec.container.file import File, Header
from latentcodec.diffusion.cleanup import Amount, latent_error
from latentcodec.diffusion.presets import PRESETS
from latentcodec.errors import InvalidArgument, MalformedFile
from latentcodec.picture.picture import Picture, Pixels

__all__ = ["CleanupRequest", "CleanupWarning", "cleaner_for", "load_request"]


class CleanupWarning(UserWarning):
    """A picture was cleaned up by less than the encoder could have stored."""


@dataclass(frozen=True)
class CleanupRequest:
    """What a user asks for, with the denoiser loaded: the clean-up of a LatentEncoder's files."""

    settings: CleanupSettings
    denoiser: CleanupDenoiser

    def check(self, codec: LatentCodec) -> None:
        """Raise InvalidArgument where the denoiser does not work on an autoencoder's latents."""
        self.denoiser.check(codec)

    def chunk(self, errors: Sequence[float], amounts: Sequence[int]) -> CleanupChunk:
        """The d chunk; errors: a root mean square error for each channel."""
        preset = PRESETS[self.settings.preset]
        return CleanupChunk(
            prediction=self.denoiser.prediction,
            fingerprint=self.denoiser.fingerprint,
            name=self.denoiser.name,
            steps=CleanupSteps.of(preset.steps, preset.strength, preset.eta),
            seed=self.settings.seed,
            prompt=self.settings.tokens,
            errors=tuple(map(pack_error, errors)),
            amounts=tuple(amounts),
        )

    def undecided(self, codec: LatentCodec, header: Header, latents: Floats, decoded: Floats) -> bytes:
        """The d chunk's payload with the errors of decoded latents, and every tile off.

        latents, decoded: (channels, h, w), those that were coded, and what a decoder has of them.
        """
        errors = latent_error(
            torch.from_numpy(np.ascontiguousarray(latents))[None], torch.from_numpy(decoded)[None]
        )
        return self.chunk(errors.tolist(), _everywhere(Amount.OFF, header, codec.downscale)).pack()

    def decided(self, codec: LatentCodec, file: File, latents_of: BoxLatents, picture: Picture) -> File:
        """The file with the amounts that its clean-up bears against the source.

        latents_of: what a decoder has.
        """
        cleanup = CleanupChunk.unpack(file.cleanup or b"")
        if cleanup is None:
            raise MalformedFile("clean-up: the chunk is of another method")
        cleaner = Cleaner(cleanup, self.denoiser, codec, file.header)

        def show(change: Samples | None) -> Pixels:
            return codec.synthesise_picture(latents_of, file.header, change=change)

        amounts = choose_amounts(cleaner, latents_of, show, picture, self.settings.limit)
        return replace(file, cleanup=replace(cleanup, amounts=amounts).pack())


def load_request(settings: CleanupSettings, device: torch.device) -> CleanupRequest:
    """The settings with their denoiser, a model's UNet loaded. Raises as open_unet does."""
    unet = settings.unet
    return CleanupRequest(settings, open_unet(unet, device) if isinstance(unet, str | os.PathLike) else unet)


def cleaner_for(
    file: File,
    codec: LatentCodec,
    strength: float,
    request: CleanupRequest | None = None,
    cached: CleanupDenoiser | None = None,
) -> Cleaner | None:
    """The clean-up of a file at a strength of 0 to 1; None where nothing is to be done.

    request: the user's. A file that stores no clean-up takes denoiser, preset, prompt and seed from it, at
    the error that uniform quantisation has in steps of its size, everywhere and without the encoder's
    comparison with the source: a CleanupWarning says so. cached: the denoiser of an earlier file.
    Raises InvalidArgument where that cannot be, MalformedFile, and as denoiser_for does.
    """
    if not strength:
        return None
    autoencoder, header = file_chunk(file), file.header
    chunk = CleanupChunk.unpack(file.cleanup) if file.cleanup is not None else None
    if chunk is not None:
        if not any(chunk.amounts):
            return None
        denoiser = denoiser_for(chunk, codec.device, request.denoiser if request else None, cached)
        return Cleaner(chunk, denoiser, codec, header, strength)
    if request is None or autoencoder.scalar is None:
        why = (
            "and the palette has no steps that give its error"
            if request is not None
            else "and no UNet is named"
        )
        raise InvalidArgument(
            f"the file stores no clean-up (compress --cleanup-unet does) {why}: leave --cleanup out, or, for "
            "files of the scalar quantiser, name a UNet with --cleanup-unet"
        )
    warnings.warn(
        "the file stores no clean-up: its error is taken from the quantiser's steps, and nothing bounds what "
        "the clean-up changes",
        CleanupWarning,
        stacklevel=4,
    )
    errors = scalar.steps(autoencoder.scalar)[:, 0, 0] / 12**0.5
    amounts = _everywhere(Amount.FULL, header, codec.downscale)
    return Cleaner(request.chunk(errors.tolist(), amounts), request.denoiser, codec, header, strength)


def _everywhere(amount: Amount, header: Header, downscale: int) -> tuple[int, ...]:
    return (int(amount),) * len(cores(*plane_size(header, downscale)))
