"""Any variational autoencoder on a device: pictures <-> latents, the posterior's mean, in pieces.

    picture ─► pieces ─► encode ─► blended ─► latents (channels, h, w)
    latents ─► pieces ─► decode ─► blended ─► picture

What becomes of the latents in a file is codec/values: the autoencoder is needed for pixels only.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentcodec.codec.autoencoder.vae_tiles import blended
from latentcodec.codec.planes import LatentBox
from latentcodec.codec.values.coder import BoxLatents, Floats
from latentcodec.container.autoencoder import (
    FINGERPRINT_BYTES,
    MAX_DOWNSCALE_BITS,
    MIN_DOWNSCALE_BITS,
    AutoencoderChunk,
)
from latentcodec.container.file import File, Header
from latentcodec.container.header import EXTERNAL_MODEL
from latentcodec.errors import InvalidArgument, MalformedFile, WeightsMismatch
from latentcodec.nn.device import full_precision
from latentcodec.picture.picture import Pixels
from latentcodec.picture.samples import sample_type
from latentcodec.weights.load import LoadedAutoencoder

_GRAY = 128 / 255


class LatentCodec:
    """An autoencoder on its device."""

    number = EXTERNAL_MODEL

    def __init__(self, loaded: LoadedAutoencoder, device: torch.device) -> None:
        """Raises InvalidArgument for an autoencoder that the format has no fields for."""
        self.module, self.identity, self.device = loaded.module, loaded.identity, device
        self.detected = loaded.detected
        config = loaded.module.config
        self.latents: int = config.latents
        self.downscale: int = getattr(config, "downscale", 8)
        self.downscale_bits = self.downscale.bit_length() - 1
        bits = self.downscale_bits
        if not MIN_DOWNSCALE_BITS <= bits <= MAX_DOWNSCALE_BITS or self.latents > self.downscale**2:
            raise InvalidArgument(
                f"{self.identity.name}: {self.latents} latent channels at 1/{self.downscale} of the side; "
                "a file holds downscales of 4 to 32 and at most as many channels as pixels they cover"
            )

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.identity.name

    @cached_property
    def fingerprint(self) -> bytes:
        """What a V chunk says of the weights."""
        return bytes.fromhex(self.identity.fingerprint)[:FINGERPRINT_BYTES]

    def chunk(self) -> AutoencoderChunk:
        """The V chunk of a file of this autoencoder, without steps or a prior."""
        return AutoencoderChunk(
            self.identity.kind,
            self.latents,
            self.downscale_bits,
            self.fingerprint,
            self.identity.name,
            scalar=None,
        )

    def check(self, header: Header, chunk: AutoencoderChunk) -> None:
        """Raise WeightsMismatch or MalformedFile where a file is not of this autoencoder."""
        if chunk.fingerprint != self.fingerprint:
            raise WeightsMismatch(
                f"the file was made with the autoencoder {chunk.describe()}; the one here is "
                f"{self.identity.name}, fingerprint {self.fingerprint.hex()}: add the right one with "
                f"'latentcodec models add PATH --name NAME', or name its files with --model"
            )
        if (chunk.latents, chunk.downscale) != (self.latents, self.downscale):
            raise MalformedFile(
                f"autoencoder: the file says {chunk.latents} channels at 1/{chunk.downscale}, "
                f"{self.identity.name} has {self.latents} at 1/{self.downscale}"
            )
        if header.synthesis_hash != chunk.fingerprint[:4]:
            raise MalformedFile(
                "header: the synthesis hash is not the start of the autoencoder's fingerprint"
            )

    def analyse(self, pixels: Pixels, peak: int = 255) -> Floats:
        """Latents (channels, h, w) of pixels (H, W, 3), sides multiples of the downscale; `peak` is white."""
        height, width = (side // self.downscale for side in pixels.shape[:2])

        def run(box: LatentBox) -> npt.NDArray[np.float32]:
            x0, y0, x1, y1 = (edge * self.downscale for edge in box)
            with full_precision(self.device):
                latent = self.module.encode(to_tensor(pixels[y0:y1, x0:x1], self.device, peak))[0]
            channels_last: npt.NDArray[np.float32] = latent.permute(1, 2, 0).float().cpu().numpy()
            return channels_last

        out = np.empty((height, width, self.latents), np.float32)
        for top, band in blended(width, height, 1, self.latents, run):
            out[top : top + len(band)] = band
        if not np.isfinite(out).all():
            raise InvalidArgument(f"{self.identity.name}: its latents are not finite: it has wrong weights")
        return out.transpose(2, 0, 1).astype(np.float64)

    def synthesise(self, latents: Tensor) -> Tensor:
        """Latents (1, channels, h, w) float32 -> picture (3, H, W) in 0..1."""
        return self.module.decode(latents)[0].float().clamp(0, 1)

    def synthesise_picture(
        self,
        latents_of: BoxLatents,
        header: Header,
        missing: Collection[int] = (),
        change: npt.NDArray[np.float32] | None = None,
    ) -> Pixels:
        """Pixels (height, width, 3) of the latents of a file with this header.

        missing: tiles without any. change: what is added to the latents, (channels, h, w).
        """
        scale = self.downscale
        width, height = (-(-side // scale) for side in (header.width, header.height))
        present = np.ones((header.tile_count // header.tile_columns, header.tile_columns), bool)
        present.flat[list(missing)] = False
        across, down = header.tile_size or header.width, header.tile_size or header.height

        def run(box: LatentBox) -> npt.NDArray[np.float32]:
            x0, y0, x1, y1 = box
            rows, columns = ((low * scale // size, (high * scale - 1) // size + 1)
                             for low, high, size in ((y0, y1, down), (x0, x1, across)))  # fmt: skip
            if not present[slice(*rows), slice(*columns)].any():
                return np.full(((y1 - y0) * scale, (x1 - x0) * scale, 3), _GRAY, np.float32)
            latents = latents_of(box)
            if change is not None:
                latents = latents + change[:, y0:y1, x0:x1]
            with full_precision(self.device):
                batch = torch.from_numpy(np.ascontiguousarray(latents))[None].to(self.device)
                picture = self.synthesise(batch)
            samples: npt.NDArray[np.float32] = picture.permute(1, 2, 0).cpu().numpy()
            return samples

        out = np.empty((header.height, header.width, 3), sample_type(header.depth))
        peak = (1 << header.depth) - 1
        for top, band in blended(width, height, scale, 3, run):
            target = out[top : top + len(band)]
            part = band[: len(target), : header.width]
            if header.channels <= 2:
                part = part.mean(2, keepdims=True)
            target[:] = np.rint(part * peak).clip(0, peak).astype(out.dtype)
        return out


def to_tensor(pixels: Pixels, device: torch.device, peak: int = 255) -> Tensor:
    """Pixels (H, W, 3), of which `peak` is white -> (1, 3, H, W) in 0..1."""
    contiguous = np.ascontiguousarray(pixels)
    if contiguous.dtype == np.uint16:  # on which PyTorch has hardly any operations
        contiguous = contiguous.astype(np.int32)
    x = torch.from_numpy(contiguous).to(device).permute(2, 0, 1)[None].float() / peak
    return x.contiguous(memory_format=torch.channels_last)


def file_chunk(file: File) -> AutoencoderChunk:
    """The V chunk of a file. Raises MalformedFile."""
    if file.autoencoder is None:
        raise MalformedFile("autoencoder: chunk 'V' is missing")
    return AutoencoderChunk.unpack(file.autoencoder)
