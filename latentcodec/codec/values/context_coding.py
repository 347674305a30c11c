"""Values under the context model: rounded and coded, or decoded, with what corrects its expectation.

    context model (adaptive.py) ─► centre, sign, row ─► Correction ─► centre, sign, row
    encoder   latents in steps ─► the better bargain of two integers ─► symbol, row ─► rANS
    decoder   rANS, row ─► symbol ─► value, checked against the limit

The adaptive coder corrects nothing, a prior's network does. Both sides call a Correction alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from latentcodec.codec.values.adaptive import Ints, code_values
from latentcodec.codec.values.adaptive_tables import AdaptiveTables
from latentcodec.codec.values.coder import Floats, Values
from latentcodec.errors import MalformedFile
from latentcodec.rans.coder import Decoder, Encoder, check_digest

RATE_WEIGHT = 0.1  # squared steps a bit is worth to an encoder; 2 ln 2 / 12 = 0.116 at high rates


class Correction(Protocol):
    """Changes what the context model expects, group of channels after group."""

    def expect(self, members: slice, centre: Ints, sign: Ints, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Centre, sign and rows (n, channels of the group) in place of the context model's."""

    def learn(self, members: slice, places: Ints, values: Ints) -> None:
        """The values (n, channels) of the group that `expect` was called for, at the positions (n,)."""


class Uncorrected:
    """The context model as it is."""

    def expect(self, members: slice, centre: Ints, sign: Ints, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """As Correction says."""
        return centre, sign, rows

    def learn(self, members: slice, places: Ints, values: Ints) -> None:
        """As Correction says."""


@dataclass(frozen=True)
class ContextCoding:
    """How one tile's values are coded. limit: of their magnitudes."""

    tables: AdaptiveTables
    limit: int
    correction: Correction

    def encode(self, encoder: Encoder, scaled: Floats, rate_weight: float = RATE_WEIGHT) -> Values:
        """Put the values (channels, h, w) of latents in steps, each the better bargain; gives the values.

        rate_weight: squared steps that a bit is worth; with 0 each latent is rounded.
        """
        channels, height, width = scaled.shape
        targets = scaled.reshape(channels, -1).T

        def code(members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
            centre, sign, rows = self.correction.expect(members, centre, sign, rows)
            values = best_values(
                targets[places, members], centre, sign, rows, self.tables.costs, self.limit, rate_weight
            )
            encoder.put(((values - centre) * sign).ravel(), rows.ravel())
            self.correction.learn(members, places, values)
            return values

        return code_values(channels, height, width, self.tables.thresholds, code)

    def decode(self, decoder: Decoder, channels: int, height: int, width: int, name: str) -> Values:
        """The values (channels, height, width) that `encode` put. Raises TruncatedFile and MalformedFile."""

        def code(members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
            centre, sign, rows = self.correction.expect(members, centre, sign, rows)
            symbols = decoder.take(rows.ravel()).reshape(rows.shape).astype(np.int64)
            values = centre + sign * symbols
            if (largest := np.abs(values).max(initial=0)) > self.limit:
                raise MalformedFile(f"{name}: a value of magnitude {largest}, the limit is {self.limit}")
            self.correction.learn(members, places, values)
            return values

        return code_values(channels, height, width, self.tables.thresholds, code)


def best_values(
    target: Floats, centre: Ints, sign: Ints, rows: Ints, costs: Floats, limit: int, rate_weight: float
) -> Ints:
    """The values (n, channels) that are the better bargains for the targets: squared error against bits.

    Tried are the nearest integer, and the one a step nearer to the centre. costs: AdaptiveTables.costs.
    """
    nearest = np.rint(np.clip(target, -limit, limit)).astype(np.int64)
    nearer = nearest - np.sign(nearest - centre)
    price, price_nearer = (
        (target - values) ** 2 + rate_weight * bits_of(values, centre, sign, rows, costs)
        for values in (nearest, nearer)
    )
    return np.where(price_nearer < price, nearer, nearest)


def bits_of(values: Ints, centre: Ints, sign: Ints, rows: Ints, costs: Floats) -> Floats:
    """Bits of each value, about right for those that no row holds. costs: AdaptiveTables.costs."""
    reach = costs.shape[1] // 2
    bits: Floats = costs[rows, np.clip((values - centre) * sign, -reach, reach) + reach]
    return bits


def finish(decoder: Decoder, digest: int, name: str) -> bool:
    """Whether the stream held everything; then it must end here, with this digest of its symbols.

    Raises MalformedFile and ChecksumMismatch.
    """
    if decoder.exhausted:
        return False
    decoder.finish()
    check_digest(decoder.digest, digest, name)
    return True
