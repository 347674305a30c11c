"""A fitted prior at work on one tile: latents in steps <-> sixteenths of steps <-> bytes.

    latents in steps ─► minus centres ─► h_a ─► z ─┐
                              └────────────────────► integer entropy model, rANS ─► stream, digest, values
    stream ─► integer entropy model ─► y^ ─► plus centres ─► values, in sixteenths of a step, exact

It stands in the place of the adaptive coder (latent.py). As in a native model's tile the stream holds z, then
the four steps, a block each; a latent is its mean plus a whole number of steps, where the adaptive coder has
whole numbers of steps alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec import rans_groups
from latentcodec.codec.autoencoder_chunk import STEP_BITS, AutoencoderChunk, ScalarQuantiser
from latentcodec.codec.latent import RATE_WEIGHT, CodedTile, Values, row_costs
from latentcodec.codec.native import HYPER_LIMIT, RESIDUAL_LIMIT, step_targets
from latentcodec.codec.prior_file import CENTRE_BITS, PriorWeights, read_prior, stored_path
from latentcodec.codec.scalar import Floats
from latentcodec.errors import ChecksumMismatch, InvalidWeights, UnknownModel, WeightsMismatch
from latentcodec.nn.device import full_precision
from latentcodec.nn.entropy_model import FRACTION, MEAN_LIMIT, HyperAnalysis
from latentcodec.rans import Decoder, Encoder
from latentcodec.rans_groups import GroupedTables

CENTRE_LIMIT = 1 << 14  # of a centre in sixteenths of a step: with MEAN_LIMIT it fits the plane's 16 bits


class LatentPrior:
    """A prior on its device."""

    def __init__(self, weights: PriorWeights, device: torch.device) -> None:
        """Raises InvalidWeights where a bound does not hold."""
        self.weights, self.device = weights, device
        entropy = weights.entropy
        self.integer = entropy.integer_model(device)
        self.tables = GroupedTables(entropy.tables())
        self._costs = row_costs(entropy.tables())
        self._centres = weights.centres()
        hyper = HyperAnalysis(weights.config)
        entropy.load_into(hyper, "hyper_analysis.")
        self._analysis = hyper.eval().requires_grad_(False).to(device)

    @property
    def hash(self) -> bytes:
        """What a V chunk names it by."""
        return self.weights.hash

    def check(self, chunk: AutoencoderChunk) -> None:
        """Raise WeightsMismatch where it was fitted to another autoencoder than the chunk's."""
        if (self.weights.fingerprint, self.weights.config.latents) != (chunk.fingerprint, chunk.latents):
            raise WeightsMismatch(
                f"the prior {self.hash.hex()} was fitted to the autoencoder of fingerprint "
                f"{self.weights.fingerprint.hex()} with {self.weights.config.latents} channels, not to "
                f"{chunk.describe()} with {chunk.latents}: name the right one with --prior"
            )

    def centres(self, quantiser: ScalarQuantiser) -> Tensor:
        """(C, 1, 1) int64: the centres in sixteenths of the quantiser's steps."""
        steps = torch.tensor(quantiser.steps())
        wide = self._centres * FRACTION << STEP_BITS - CENTRE_BITS
        rounded = torch.div(2 * wide + steps, 2 * steps, rounding_mode="floor")
        return rounded.clamp(-CENTRE_LIMIT, CENTRE_LIMIT)[:, None, None]

    @torch.inference_mode()
    def encode_tile(
        self, scaled: Floats, quantiser: ScalarQuantiser, level: int, rate_weight: float = RATE_WEIGHT
    ) -> CodedTile:
        """Code latents (channels, h, w) in steps; values in sixteenths. rate_weight: as LatentCodec's."""
        _, height, width = scaled.shape
        centres = self.centres(quantiser)
        limit = MEAN_LIMIT / FRACTION
        y = (torch.from_numpy(scaled) - centres / FRACTION).clamp(-limit, limit).float()
        padded = F.pad(y, (0, -width % 4, 0, -height % 4))
        with full_precision(self.device):
            levels = torch.tensor([level], dtype=torch.float32, device=self.device)
            z = self._analysis(padded[None].to(self.device), levels)[0]
        z = z.round().clamp(-HYPER_LIMIT, HYPER_LIMIT).to(torch.int32).cpu()
        encoder, costs = Encoder(self.tables.tables), self._costs
        reach = costs.shape[1] // 2
        rows = self.integer.hyper_rows(level, *z.shape[1:]).cpu()
        z = z * (rows > 0)
        rans_groups.put(encoder, self.tables, z[rows > 0].numpy(), rows[rows > 0].numpy())
        targets = step_targets(padded)

        def code(step: int, means: Tensor, rows: Tensor) -> Tensor:
            coded, chosen = (rows > 0).cpu().numpy(), rows.cpu().numpy()
            wanted = (targets[step] - means.cpu() / FRACTION).numpy()
            nearest = np.rint(wanted).clip(-RESIDUAL_LIMIT, RESIDUAL_LIMIT).astype(np.int32)

            def price(tried: npt.NDArray[np.int32]) -> Floats:
                bits = costs[chosen, tried.clip(-reach, reach) + reach]
                total: Floats = (wanted - tried) ** 2 + rate_weight * bits
                return total

            lower = nearest - np.sign(nearest)
            residual = np.where(price(lower) < price(nearest), lower, nearest) * coded
            rans_groups.put(encoder, self.tables, residual[coded], chosen[coded])
            return torch.from_numpy(residual)

        latents = self.integer.latents(z, level, height, width, code)
        return CodedTile(encoder.finish(), encoder.digest, self._values(latents, centres))

    @torch.inference_mode()
    def decode_tile(
        self,
        chunk: AutoencoderChunk,
        level: int,
        stream: bytes,
        digest: int,
        height: int,
        width: int,
        *,
        partial: bool = False,
        name: str = "tile",
    ) -> tuple[Values, bool]:
        """As LatentCodec.decode_tile; values in sixteenths, level: the header's quality level."""
        chunk.check_tile(height, width)
        if chunk.scalar is None:
            raise WeightsMismatch(f"{name}: coded with the palette, which has no prior")
        decoder = Decoder(stream, self.tables.tables, partial=partial)

        def take(rows: Tensor) -> Tensor:
            coded = rows > 0
            found = torch.zeros(rows.shape, dtype=torch.int32, device=self.device)
            symbols = rans_groups.take(decoder, self.tables, rows[coded].cpu().numpy())
            found[coded] = torch.from_numpy(symbols).to(self.device)
            return found

        z = take(self.integer.hyper_rows(level, -(-height // 4), -(-width // 4)))
        latents = self.integer.latents(z, level, height, width, lambda step, means, rows: take(rows))
        values = self._values(latents, self.centres(chunk.scalar))
        if decoder.exhausted:
            return values, False
        decoder.finish()
        if decoder.digest != digest:
            raise ChecksumMismatch(
                f"{name}: decoded symbols have digest {decoder.digest:08x}, the file says {digest:08x}"
            )
        return values, True

    @staticmethod
    def _values(latents: Tensor, centres: Tensor) -> Values:
        values: Values = (latents.cpu() + centres).numpy()
        return values


def open_prior(path: str | os.PathLike[str], device: torch.device) -> LatentPrior:
    """The prior of a file. Raises InvalidWeights naming it."""
    try:
        return LatentPrior(read_prior(Path(path)), device)
    except InvalidWeights as error:
        named = str(error).startswith(os.fspath(path))
        raise error if named else InvalidWeights(f"{os.fspath(path)}: {error}") from error


def prior_for(
    chunk: AutoencoderChunk, device: torch.device, in_use: LatentPrior | None = None
) -> LatentPrior | None:
    """The prior that a file names; None where it names none. in_use: one that is loaded already.

    Raises UnknownModel where it is not here, InvalidWeights where it is damaged, and WeightsMismatch where
    it belongs to another autoencoder.
    """
    if not chunk.prior:
        return None
    if in_use is None or in_use.hash != chunk.prior:
        path = stored_path(chunk.prior)
        if not path.is_file():
            raise UnknownModel(
                f"the file needs the prior {chunk.prior.hex()} of the autoencoder {chunk.describe()}, which "
                f"is not installed: name its file with --prior, or copy it to {path}"
            )
        in_use = open_prior(path, device)
        if in_use.hash != chunk.prior:
            raise InvalidWeights(f"{path}: holds the prior {in_use.hash.hex()}: fit or copy it again")
    in_use.check(chunk)
    return in_use
