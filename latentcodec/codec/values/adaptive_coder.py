"""The adaptive coder of a file: latents <-> multiples of a step <-> bytes, for any autoencoder.

latents ─► in steps (scalar.py) ─► context model, rounded (context_coding.py) ─► stream
stream ─► context model ─► values ─► latents
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentcodec.codec.values import scalar
from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.codec.values.coder import CodedTile, Floats, Values
from latentcodec.codec.values.context_coding import RATE_WEIGHT, ContextCoding, Uncorrected, finish
from latentcodec.container.autoencoder import MAX_VALUE, ScalarQuantiser
from latentcodec.rans.coder import Decoder, Encoder


class AdaptiveCoder:
    """A ValueCoder with the shipped tables."""

    blank = 0

    def __init__(self, quantiser: ScalarQuantiser) -> None:
        self.quantiser, self.tables = quantiser, shipped_tables()
        self._coding = ContextCoding(self.tables, MAX_VALUE, Uncorrected())

    @property
    def networks_hash(self) -> bytes:
        """As ValueCoder says: that of the tables."""
        return self.tables.hash

    def encode(self, latents: Floats, rate_weight: float = RATE_WEIGHT) -> CodedTile:
        """As ValueCoder says. rate_weight: squared steps that a bit is worth; with 0 each is rounded."""
        encoder = Encoder(self.tables.tables)
        values = self._coding.encode(encoder, scalar.scale(self.quantiser, latents), rate_weight)
        return CodedTile(encoder.finish(), encoder.digest, values)

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
        decoder = Decoder(stream, self.tables.tables, partial=partial)
        values = self._coding.decode(decoder, len(self.quantiser.deltas), height, width, name)
        return values, finish(decoder, digest, name)

    def dequantise(self, values: npt.NDArray[np.integer]) -> Floats:
        """As ValueCoder says."""
        return scalar.dequantise(self.quantiser, values)
