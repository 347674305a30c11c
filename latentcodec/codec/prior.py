"""A fitted prior at work on one tile: latents in steps <-> whole values <-> bytes.

    latents in steps ─► minus shifts ─► adaptive coder ─► expectation ─► network ─► rows, rANS ─► stream
    stream ─► the same ─► values ─► plus shifts ─► values, in sixteenths of a step, exact

The adaptive coder (adaptive.py) learns a picture while it is coded; a prior knows the autoencoder. So the
prior corrects what the adaptive coder expects, which goes on learning as it does without. The stream begins
with the shifts, which are added to the whole values of each channel, in eighths of a step, so that the
channel's mean in this tile is a whole value: at low rates most of its latents become that.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from latentcodec.codec.adaptive import PHASES, UNIT, Ints, code_values
from latentcodec.codec.autoencoder_chunk import STEP_BITS, AutoencoderChunk, ScalarQuantiser
from latentcodec.codec.latent import RATE_WEIGHT, CodedTile, Values
from latentcodec.codec.prior_context import PriorContext
from latentcodec.codec.prior_file import CENTRE_BITS, PriorWeights, read_prior, stored_path
from latentcodec.codec.scalar import Floats
from latentcodec.errors import (
    InvalidWeights,
    MalformedFile,
    UnknownModel,
    WeightsMismatch,
)
from latentcodec.rans import Decoder, Encoder, check_digest
from latentcodec.rans_tables import row_costs

EIGHTHS = 8  # of a step: what a shift counts
# Together these fit the 16 bits of a latent plane, in sixteenths.
VALUE_LIMIT = 1023
SHIFT_LIMIT = 8192
_SHIFT_SPREAD = 384  # the expected magnitude of a shift's difference, in 1/256 of an eighth


class LatentPrior:
    """A prior on its device."""

    def __init__(self, weights: PriorWeights, device: torch.device) -> None:
        """Raises InvalidWeights where a bound does not hold."""
        self.weights, self.device = weights, device
        self.tables = weights.tables()
        self._layers = weights.runnable(device)
        self._centres: Ints = weights.centres().numpy()
        self._costs = row_costs(self.tables.tables)
        level = int(np.searchsorted(self.tables.thresholds, _SHIFT_SPREAD, side="right"))
        self._shift_rows = np.full(len(self._centres), level * PHASES)

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

    @torch.inference_mode()
    def encode_tile(
        self, scaled: Floats, quantiser: ScalarQuantiser, level: int, rate_weight: float = RATE_WEIGHT
    ) -> CodedTile:
        """Code latents (channels, h, w) in steps; values in sixteenths. rate_weight: as LatentCodec's."""
        channels, height, width = scaled.shape
        usual = expected_shifts(quantiser, self._centres)
        chosen = shifts(scaled, quantiser, self._centres)
        wanted = (scaled - chosen[:, None, None] / EIGHTHS).reshape(channels, -1).T
        encoder = Encoder(self.tables.tables)
        encoder.put(chosen - usual, self._shift_rows)
        context = self._context(level, height, width)

        def code(members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
            centre, sign, rows = context.expect(members, centre, sign, rows)
            target = wanted[places, members]
            values, _ = best_values(target, centre, sign, rows, self._costs, rate_weight)
            encoder.put(((values - centre) * sign).ravel(), rows.ravel())
            context.learn(members, places, values)
            return values

        values = code_values(channels, height, width, self.tables.thresholds, code)
        return CodedTile(encoder.finish(), encoder.digest, _shifted(values, chosen))

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
        shift = expected_shifts(chunk.scalar, self._centres) + decoder.take(self._shift_rows)
        if np.abs(shift).max() > SHIFT_LIMIT:
            raise MalformedFile(f"{name}: a shift lies outside {-SHIFT_LIMIT}..{SHIFT_LIMIT}")
        context = self._context(level, height, width)

        def code(members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
            centre, sign, rows = context.expect(members, centre, sign, rows)
            values = centre + sign * decoder.take(rows.ravel()).reshape(rows.shape).astype(np.int64)
            if np.abs(values).max(initial=0) > VALUE_LIMIT:
                raise MalformedFile(f"{name}: a value lies outside {-VALUE_LIMIT}..{VALUE_LIMIT}")
            context.learn(members, places, values)
            return values

        values = code_values(chunk.latents, height, width, self.tables.thresholds, code)
        values = _shifted(values, shift)
        if decoder.exhausted:
            return values, False
        decoder.finish()
        check_digest(decoder.digest, digest, name)
        return values, True

    def _context(self, level: int, height: int, width: int) -> PriorContext:
        config, thresholds = self.weights.config, self.tables.thresholds
        return PriorContext(self._layers, config, thresholds, level, (height, width), self.device)


def expected_shifts(quantiser: ScalarQuantiser, centres: Ints) -> Ints:
    """(C,) each channel's usual mean in eighths of the quantiser's steps. centres: (C,), in 2^-20."""
    steps = np.array(quantiser.steps(), np.int64)
    wide = centres * EIGHTHS << STEP_BITS - CENTRE_BITS
    limit = SHIFT_LIMIT - EIGHTHS
    found: Ints = ((2 * wide + steps) // (2 * steps)).clip(-limit, limit)
    return found


def shifts(scaled: Floats, quantiser: ScalarQuantiser, centres: Ints) -> Ints:
    """(C,) an encoder's shifts for a tile (C, h, w) in steps: the means, as near to the usual as can be.

    Whole steps make no difference, so that no shift is further than half a step from the usual one.
    """
    usual = expected_shifts(quantiser, centres)
    means = np.rint(EIGHTHS * scaled.mean((1, 2))).astype(np.int64)
    near: Ints = usual + (means - usual + EIGHTHS // 2) % EIGHTHS - EIGHTHS // 2
    return near


def best_values(
    target: Floats, centre: Ints, sign: Ints, rows: Ints, costs: Floats, rate_weight: float
) -> tuple[Ints, float]:
    """The values (n, channels) that are the best bargains for the targets, and the bits of all.

    rate_weight: squared steps that a bit is worth; with 0 each is rounded.
    """
    reach = costs.shape[1] // 2

    def bits(values: Ints) -> Floats:
        found: Floats = costs[rows, np.clip((values - centre) * sign, -reach, reach) + reach]
        return found

    nearest = np.rint(np.clip(target, -VALUE_LIMIT, VALUE_LIMIT)).astype(np.int64)
    lower = nearest - np.sign(nearest - centre)
    own, other = bits(nearest), bits(lower)
    better = (target - lower) ** 2 + rate_weight * other < (target - nearest) ** 2 + rate_weight * own
    return np.where(better, lower, nearest), float(np.where(better, other, own).sum())


def _shifted(values: Ints, shift: Ints) -> Values:
    found: Values = UNIT * values + (UNIT // EIGHTHS) * shift[:, None, None]
    return found


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
