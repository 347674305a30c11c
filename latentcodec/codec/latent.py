"""Any variational autoencoder as a codec: the posterior mean, quantised and coded by the adaptive coder.

    picture ─► pieces ─► encode ─► latents ─► steps and offsets ─► values ─► context model, rANS ─► stream
    stream ─► values ─► latents ─► pieces ─► decode ─► blended ─► picture

The values of a tile are integers that depend on the stream and the shipped tables alone; the autoencoder is
needed for pixels only. A tile's digest is the CRC-32 of its coded symbols.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentcodec.codec import palette, scalar
from latentcodec.codec.adaptive import code_values
from latentcodec.codec.adaptive_tables import AdaptiveTables, shipped_tables
from latentcodec.codec.autoencoder_chunk import (
    FINGERPRINT_BYTES,
    MAX_DOWNSCALE_BITS,
    MAX_VALUE,
    MIN_DOWNSCALE_BITS,
    NO_NETWORKS,
    AutoencoderChunk,
    ScalarQuantiser,
)
from latentcodec.codec.planes import Box
from latentcodec.codec.scalar import Floats
from latentcodec.codec.vae_tiles import blended
from latentcodec.container import File, Header
from latentcodec.errors import InvalidArgument, MalformedFile, WeightsMismatch
from latentcodec.header import EXTERNAL_MODEL
from latentcodec.nn.device import full_precision
from latentcodec.rans import Decoder, Encoder, check_digest
from latentcodec.rans_tables import row_costs
from latentcodec.weights.load import LoadedAutoencoder

RATE_WEIGHT = 0.1  # squared steps a bit is worth to an encoder; 2 ln 2 / 12 = 0.116 at high rates
_GRAY = 128 / 255

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CodedTile:
    """stream and digest as in a T chunk; values (channels, h, w), what a decoder gets."""

    stream: bytes
    digest: int
    values: Values


class LatentCodec:
    """An autoencoder on its device, as a codec."""

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

    @cached_property
    def tables(self) -> AdaptiveTables:
        """The adaptive coder's tables."""
        return shipped_tables()

    def chunk(self, quantiser: ScalarQuantiser | None) -> AutoencoderChunk:
        """The V chunk of a file of this autoencoder; without steps, of one with the palette."""
        return AutoencoderChunk(
            self.identity.kind,
            self.latents,
            self.downscale_bits,
            self.fingerprint,
            self.identity.name,
            quantiser,
        )

    def networks_hash(self, chunk: AutoencoderChunk) -> bytes:
        """The header's networks hash: that of the prior or of the tables, where they are used."""
        if chunk.prior:
            return chunk.prior[:4]
        return NO_NETWORKS if chunk.scalar is None else self.tables.hash

    def check(self, header: Header, chunk: AutoencoderChunk) -> None:
        """Raise WeightsMismatch or MalformedFile where a file is not of this autoencoder and tables."""
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
        if header.networks_hash != self.networks_hash(chunk):
            raise WeightsMismatch(
                f"the file was coded with tables of hash {header.networks_hash.hex()}, this version has "
                f"{self.networks_hash(chunk).hex()}: decode it with the latentcodec version that wrote it"
            )

    def analyse(self, pixels: Pixels) -> Floats:
        """Latents (channels, h, w) of pixels (H, W, 3), sides multiples of the downscale."""
        height, width = (side // self.downscale for side in pixels.shape[:2])

        def run(box: Box) -> npt.NDArray[np.float32]:
            x0, y0, x1, y1 = (edge * self.downscale for edge in box)
            with full_precision(self.device):
                latent = self.module.encode(to_tensor(pixels[y0:y1, x0:x1], self.device))[0]
            found: npt.NDArray[np.float32] = latent.permute(1, 2, 0).float().cpu().numpy()
            return found

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
        plane: Tensor,
        header: Header,
        chunk: AutoencoderChunk,
        missing: Collection[int] = (),
        change: npt.NDArray[np.float32] | None = None,
    ) -> Pixels:
        """Pixels (height, width, 3) of a plane of values (channels, h, w).

        missing: tiles without any. change: what is added to the latents, (channels, h, w).
        """
        values = plane.numpy()
        scale = self.downscale
        height, width = values.shape[1:]
        present = np.ones((header.tile_count // header.tile_columns, header.tile_columns), bool)
        present.flat[list(missing)] = False
        across, down = header.tile_size or header.width, header.tile_size or header.height

        def run(box: Box) -> npt.NDArray[np.float32]:
            x0, y0, x1, y1 = box
            rows, columns = ((low * scale // size, (high * scale - 1) // size + 1)
                             for low, high, size in ((y0, y1, down), (x0, x1, across)))  # fmt: skip
            if not present[slice(*rows), slice(*columns)].any():
                return np.full(((y1 - y0) * scale, (x1 - x0) * scale, 3), _GRAY, np.float32)
            latents = torch.from_numpy(dequantise(chunk, values[:, y0:y1, x0:x1])).float()
            if change is not None:
                latents = latents + torch.from_numpy(np.ascontiguousarray(change[:, y0:y1, x0:x1]))
            with full_precision(self.device):
                picture = self.synthesise(latents[None].to(self.device))
            shown: npt.NDArray[np.float32] = picture.permute(1, 2, 0).cpu().numpy()
            return shown

        out = np.empty((header.height, header.width, 3), np.uint8)
        for top, band in blended(width, height, scale, 3, run):
            target = out[top : top + len(band)]
            part = band[: len(target), : header.width]
            if header.channels <= 2:
                part = part.mean(2, keepdims=True)
            target[:] = np.rint(part * 255).clip(0, 255).astype(np.uint8)
        return out

    def encode_tile(self, scaled: Floats, rate_weight: float = RATE_WEIGHT) -> CodedTile:
        """Code latents (channels, h, w) in steps, each by the integer that is the better bargain.

        rate_weight: squared steps that a bit is worth; with 0 each is rounded.
        """
        channels, height, width = scaled.shape
        wanted = scaled.reshape(channels, -1).T
        encoder, costs = Encoder(self.tables.tables), self._costs
        reach = costs.shape[1] // 2

        def code(members: slice, places: Values, centre: Values, sign: Values, rows: Values) -> Values:
            target = wanted[places, members]
            nearest = np.rint(np.clip(target, -MAX_VALUE, MAX_VALUE)).astype(np.int64)
            best, least = nearest, None
            for step in (0, 1):
                tried = nearest - step * np.sign(nearest - centre)
                bits = costs[rows, np.clip((tried - centre) * sign, -reach, reach) + reach]
                price = (target - tried) ** 2 + rate_weight * bits
                if least is None:
                    least = price
                else:
                    best = np.where(price < least, tried, nearest)
            encoder.put(((best - centre) * sign).ravel(), rows.ravel())
            return best

        values = code_values(channels, height, width, self.tables.thresholds, code)
        return CodedTile(encoder.finish(), encoder.digest, values)

    @cached_property
    def _costs(self) -> Floats:
        return row_costs(self.tables.tables)

    def decode_tile(
        self,
        chunk: AutoencoderChunk,
        stream: bytes,
        digest: int,
        height: int,
        width: int,
        *,
        partial: bool = False,
        name: str = "tile",
    ) -> tuple[Values, bool]:
        """Values (channels, height, width) of a stream, and whether it was whole.

        Raises TruncatedFile, MalformedFile, ChecksumMismatch and LimitExceeded; with partial=True an early
        end gives what the context expects for the rest instead (of a palette nothing is left).
        """
        chunk.check_tile(height, width)
        if chunk.scalar is None:
            values = palette.dequantise(stream, chunk.latents, height, width).astype(np.int64)
            check_digest(palette.digest(values.astype(np.uint8)), digest, name)
            return values, True
        decoder = Decoder(stream, self.tables.tables, partial=partial)

        def code(members: slice, places: Values, centre: Values, sign: Values, rows: Values) -> Values:
            symbols = decoder.take(rows.ravel()).reshape(rows.shape).astype(np.int64)
            values = centre + sign * symbols
            if np.abs(values).max(initial=0) > MAX_VALUE:
                raise MalformedFile(f"{name}: a value lies outside {-MAX_VALUE}..{MAX_VALUE}")
            return values

        values = code_values(chunk.latents, height, width, self.tables.thresholds, code)
        if decoder.exhausted:
            return values, False
        decoder.finish()
        check_digest(decoder.digest, digest, name)
        return values, True


def dequantise(chunk: AutoencoderChunk, values: npt.NDArray[np.integer]) -> Floats:
    """Latents of values, both (channels, h, w)."""
    if chunk.scalar is None:
        return palette.to_latents(values)
    return scalar.dequantise(chunk.scalar, values, sixteenths=bool(chunk.prior))


def to_tensor(pixels: Pixels, device: torch.device) -> Tensor:
    """Pixels (H, W, 3) -> (1, 3, H, W) in 0..1."""
    x = torch.from_numpy(np.ascontiguousarray(pixels)).to(device).permute(2, 0, 1)[None].float() / 255
    return x.contiguous(memory_format=torch.channels_last)


def file_chunk(file: File) -> AutoencoderChunk:
    """The V chunk of a file. Raises MalformedFile."""
    if file.autoencoder is None:
        raise MalformedFile("autoencoder: chunk 'V' is missing")
    return AutoencoderChunk.unpack(file.autoencoder)
