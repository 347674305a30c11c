"""Clean-up in files: what an encoder stores when it is asked to, and what a decoder makes of it.

encoder   CleanupRequest, latents and values ─► d chunk, all off (so that a size target counts it)
          ─► the file is chosen ─► amounts of its tiles ─► d chunk
decoder   d chunk ─► UNet ─► Cleaner;     without a chunk, with a UNet of the user's: error ─► Cleaner
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from latentcodec.codec import scalar
from latentcodec.codec.autoencoder_chunk import AutoencoderChunk
from latentcodec.codec.cleanup import Cleaner, Plain, choose_amounts, plane_size
from latentcodec.codec.cleanup_chunk import PREDICTIONS, CleanupChunk, CleanupSteps, pack_error
from latentcodec.codec.cleanup_unet import CleanupUNet, Prompt, unet_for
from latentcodec.codec.latent import LatentCodec, dequantise, file_chunk
from latentcodec.codec.planes import Box
from latentcodec.codec.scalar import Floats
from latentcodec.codec.vae_tiles import Floats as Pieces
from latentcodec.codec.vae_tiles import cores
from latentcodec.container import File, Header
from latentcodec.diffusion.cleanup import PRESETS, Amount, latent_error
from latentcodec.errors import InvalidArgument, MalformedFile
from latentcodec.image import Picture

__all__ = ["MATCHED", "CleanupRequest", "CleanupWarning", "cleaner_for", "decided", "undecided"]

MATCHED = "matched"  # of PRESETS, the default


class CleanupWarning(UserWarning):
    """A picture was cleaned up by less than the encoder could have stored."""


@dataclass(frozen=True, kw_only=True)
class CleanupRequest:
    """What an encoder is asked for.

    limit: dB of PSNR that a tile may lose against the plain decode, 0 or more. preset: of diffusion.cleanup.
    prompt: token ids without start and end (generate.tokenizer.encode gives them). seed: 0 to 2^32 - 1.
    """

    unet: CleanupUNet
    limit: float = 0.0
    preset: str = MATCHED
    prompt: Prompt = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InvalidArgument for what a file cannot say."""
        if self.preset not in PRESETS:
            raise InvalidArgument(f"clean-up preset {self.preset!r}: use one of {', '.join(PRESETS)}")
        if not self.limit >= 0:
            raise InvalidArgument(f"clean-up limit {self.limit:g} dB: it must be 0 or more")
        if not 0 <= self.seed < 1 << 32:
            raise InvalidArgument(f"clean-up seed {self.seed}: it goes from 0 to {(1 << 32) - 1}")

    def chunk(self, errors: Sequence[float], amounts: Sequence[int]) -> CleanupChunk:
        """The d chunk; errors: a root mean square error for each channel."""
        preset = PRESETS[self.preset]
        return CleanupChunk(
            prediction=self.unet.detected.prediction or PREDICTIONS[0],
            fingerprint=self.unet.fingerprint,
            name=self.unet.name,
            steps=CleanupSteps.of(preset.steps, preset.strength, preset.eta),
            seed=self.seed,
            prompt=tuple(self.prompt),
            errors=tuple(map(pack_error, errors)),
            amounts=tuple(amounts),
        )


def undecided(
    request: CleanupRequest, header: Header, chunk: AutoencoderChunk, latents: Floats, plane: Tensor
) -> bytes:
    """The d chunk's payload with the errors of a plane of values, and every tile off.

    latents: (channels, h, w), what was quantised.
    """
    decoded = torch.from_numpy(dequantise(chunk, plane.numpy()))
    errors = latent_error(torch.from_numpy(np.ascontiguousarray(latents))[None], decoded[None])
    return request.chunk(errors.tolist(), _everywhere(Amount.OFF, header, chunk.downscale)).pack()


def decided(request: CleanupRequest, codec: LatentCodec, file: File, plane: Tensor, picture: Picture) -> File:
    """The file with the amounts that its clean-up bears against the source."""
    autoencoder, cleanup = file_chunk(file), CleanupChunk.unpack(file.cleanup or b"")
    if cleanup is None:
        raise MalformedFile("clean-up: the chunk is of another method")
    cleaner = Cleaner(cleanup, request.unet, codec, file.header)

    def show(change: Pieces | None) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        return codec.synthesise_picture(plane, file.header, autoencoder, change=change)

    amounts = choose_amounts(cleaner, plain_latents(autoencoder, plane), show, picture, request.limit)
    return replace(file, cleanup=replace(cleanup, amounts=amounts).pack())


def cleaner_for(
    file: File,
    codec: LatentCodec,
    strength: float,
    request: CleanupRequest | None = None,
    kept: CleanupUNet | None = None,
) -> Cleaner | None:
    """The clean-up of a file at a strength of 0 to 1; None where nothing is to be done.

    request: what the user says, of which a file that stores no clean-up takes UNet, preset, prompt and seed,
    at the error that uniform quantisation has in steps of its size, everywhere and without the encoder's
    comparison with the source: a CleanupWarning says so. kept: the UNet of an earlier file.
    Raises InvalidArgument where that cannot be, MalformedFile, and as unet_for does.
    """
    if not strength:
        return None
    autoencoder, header = file_chunk(file), file.header
    chunk = CleanupChunk.unpack(file.cleanup) if file.cleanup is not None else None
    if chunk is not None:
        if not any(chunk.amounts):
            return None
        unet = unet_for(chunk, codec.device, request.unet if request else None, kept)
        return Cleaner(chunk, unet, codec, header, strength)
    if request is None or autoencoder.scalar is None:
        why = (
            "and the palette has no steps to tell its error"
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
    return Cleaner(request.chunk(errors.tolist(), amounts), request.unet, codec, header, strength)


def plain_latents(chunk: AutoencoderChunk, plane: Tensor) -> Plain:
    """The latents of a plane of values (channels, h, w), box by box."""
    values = plane.numpy()

    def plain(box: Box) -> Pieces:
        x0, y0, x1, y1 = box
        return dequantise(chunk, values[:, y0:y1, x0:x1]).astype(np.float32)

    return plain


def _everywhere(amount: Amount, header: Header, downscale: int) -> tuple[int, ...]:
    return (int(amount),) * len(cores(*plane_size(header, downscale)))
