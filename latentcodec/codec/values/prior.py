"""A fitted prior at work on one tile: latents in steps <-> whole values <-> bytes.

    latents in steps ─► minus shifts ─► context model ─► expectation ─► network ─► rows, rANS ─► stream
    stream ─► the same ─► values ─► plus shifts ─► values, in sixteenths of a step, exact

The context model (adaptive.py) learns a picture while it is coded; a prior knows the autoencoder. So the
prior corrects what the context model expects, which goes on learning as it does without. The stream begins
with the shifts, which are added to the whole values of each channel, in eighths of a step, so that the
channel's mean in this tile is a whole value: at low rates most of its latents become that.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from latentcodec.codec.values import scalar
from latentcodec.codec.values.adaptive import PHASES, UNIT, Ints
from latentcodec.codec.values.coder import CodedTile, Floats, Values
from latentcodec.codec.values.context_coding import RATE_WEIGHT, ContextCoding, finish
from latentcodec.codec.values.prior_context import PriorContext
from latentcodec.codec.values.prior_file import CENTRE_BITS, PriorWeights, read_prior, stored_path
from latentcodec.container.autoencoder import NO_NETWORKS, STEP_BITS, AutoencoderChunk, ScalarQuantiser
from latentcodec.errors import InvalidWeights, MalformedFile, UnknownModel, WeightsMismatch
from latentcodec.rans.coder import Decoder, Encoder

EIGHTHS = 8  # of a step: what a shift counts
# Together these fit the 16 bits of a latent plane, in sixteenths.
VALUE_LIMIT = 1023
SHIFT_LIMIT = 8192
_SHIFT_SPREAD = 384  # the expected magnitude of a shift's difference, in 1/256 of an eighth


class LatentPrior:
    """A prior on its device.

    tables: its own, in place of the adaptive coder's. centres: (C,), the channels' means in 2^-20.
    shift_rows: (C,), the rows that the shifts are coded by.
    """

    def __init__(self, weights: PriorWeights, device: torch.device) -> None:
        """Raises InvalidWeights where a bound does not hold."""
        self.weights, self.device = weights, device
        self.tables = weights.tables()
        self._layers = weights.runnable(device)
        self.centres: Ints = weights.centres().numpy()
        level = int(np.searchsorted(self.tables.thresholds, _SHIFT_SPREAD, side="right"))
        self.shift_rows = np.full(len(self.centres), level * PHASES)

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

    def context(self, level: int, height: int, width: int) -> PriorContext:
        """What corrects the context model in a tile of height x width latents. level: a quality level."""
        config, thresholds = self.weights.config, self.tables.thresholds
        return PriorContext(self._layers, config, thresholds, level, (height, width), self.device)


class PriorCoder:
    """A ValueCoder with a prior; values are in sixteenths of a step."""

    blank = 0

    def __init__(self, prior: LatentPrior, quantiser: ScalarQuantiser, level: int) -> None:
        """quantiser: without offsets, since a tile's shifts take their place. level: a quality level."""
        self.prior, self.quantiser, self.level = prior, quantiser, level
        self._usual_shifts = expected_shifts(quantiser, prior.centres)

    @property
    def networks_hash(self) -> bytes:
        """As ValueCoder says: the start of the prior's hash."""
        return self.prior.hash[: len(NO_NETWORKS)]

    @torch.inference_mode()
    def encode(self, latents: Floats, rate_weight: float = RATE_WEIGHT) -> CodedTile:
        """As ValueCoder says. rate_weight: squared steps that a bit is worth; with 0 each is rounded."""
        scaled = scalar.scale(self.quantiser, latents)
        chosen = shifts(scaled, self.quantiser, self.prior.centres)
        encoder = Encoder(self.prior.tables.tables)
        encoder.put(chosen - self._usual_shifts, self.prior.shift_rows)
        coding = self._coding(*scaled.shape[1:])
        values = coding.encode(encoder, scaled - chosen[:, None, None] / EIGHTHS, rate_weight)
        return CodedTile(encoder.finish(), encoder.digest, _shifted(values, chosen))

    @torch.inference_mode()
    def decode(
        self,
        stream: bytes,
        digest: int,
        height: int,
        width: int,
        *,
        partial: bool = False,
        name: str = "tile",
    ) -> tuple[Values, bool]:
        """As ValueCoder says."""
        decoder = Decoder(stream, self.prior.tables.tables, partial=partial)
        shift = self._usual_shifts + decoder.take(self.prior.shift_rows)
        if np.abs(shift).max() > SHIFT_LIMIT:
            raise MalformedFile(f"{name}: a shift lies outside {-SHIFT_LIMIT}..{SHIFT_LIMIT}")
        values = self._coding(height, width).decode(decoder, len(shift), height, width, name)
        return _shifted(values, shift), finish(decoder, digest, name)

    def dequantise(self, values: npt.NDArray[np.integer]) -> Floats:
        """As ValueCoder says."""
        return scalar.dequantise(self.quantiser, values, sixteenths=True)

    def _coding(self, height: int, width: int) -> ContextCoding:
        prior = self.prior
        return ContextCoding(prior.tables, VALUE_LIMIT, prior.context(self.level, height, width))


def expected_shifts(quantiser: ScalarQuantiser, centres: Ints) -> Ints:
    """(C,) each channel's usual mean in eighths of the quantiser's steps. centres: (C,), in 2^-20."""
    steps = np.array(quantiser.steps(), np.int64)
    wide = centres * EIGHTHS << STEP_BITS - CENTRE_BITS
    limit = SHIFT_LIMIT - EIGHTHS
    eighths: Ints = ((2 * wide + steps) // (2 * steps)).clip(-limit, limit)
    return eighths


def shifts(scaled: Floats, quantiser: ScalarQuantiser, centres: Ints) -> Ints:
    """(C,) an encoder's shifts for a tile (C, h, w) in steps: the means, as near to the usual as can be.

    Whole steps make no difference, so that no shift is further than half a step from the usual one.
    """
    usual = expected_shifts(quantiser, centres)
    means = np.rint(EIGHTHS * scaled.mean((1, 2))).astype(np.int64)
    near: Ints = usual + (means - usual + EIGHTHS // 2) % EIGHTHS - EIGHTHS // 2
    return near


def _shifted(values: Ints, shift: Ints) -> Values:
    """Whole values (C, h, w) and shifts (C,) in sixteenths of a step."""
    sixteenths: Values = UNIT * values + (UNIT // EIGHTHS) * shift[:, None, None]
    return sixteenths


def open_prior(path: str | os.PathLike[str], device: torch.device) -> LatentPrior:
    """The prior of a file. Raises InvalidWeights naming it."""
    try:
        return LatentPrior(read_prior(Path(path)), device)
    except InvalidWeights as error:
        named = str(error).startswith(os.fspath(path))
        raise error if named else InvalidWeights(f"{os.fspath(path)}: {error}") from error


def prior_for(
    chunk: AutoencoderChunk, device: torch.device, in_use: LatentPrior | None = None
) -> LatentPrior:
    """The prior that a file's V chunk names. in_use: one that is loaded already.

    Raises UnknownModel where it is not here, InvalidWeights where it is damaged, and WeightsMismatch where
    it belongs to another autoencoder.
    """
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
