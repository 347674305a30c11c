"""The native model at work on one tile: latents <-> integers <-> bytes, and latents -> pixels. No PyTorch.

    pixels ─► analyse ─► y ─┬─► hyperlatents ─► z ─┐
                            └─► step_targets ──────┴─► quantise [─► search] ─► code ─► stream, digest, y^
    stream ─► decode_tile ─► y^ (sixteenths, exact) ─► synthesise ─► pixels, exact too

A tile's stream holds z, then the four steps, a block each (rans_groups): coarse data first. The digest is the
CRC-32 of what the rANS stream codes (patterns and values), as little-endian int32, in that order. An engine
computes what is exact; `EncoderNetworks` what an encoder alone needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.native.config import FRACTION, ORDER, STEPS
from latentcodec.nn.native.integer_model import Ints, slices
from latentcodec.parallel import workers
from latentcodec.picture.picture import Pixels
from latentcodec.picture.samples import sample_type
from latentcodec.rans import groups as rans_groups
from latentcodec.rans.coder import Decoder, Encoder, check_digest
from latentcodec.rans.groups import GroupedTables
from latentcodec.weights.native import NativeWeights

HYPER_LIMIT = 127  # of a hyperlatent
RESIDUAL_LIMIT = 1023  # of a residual: an encoder saturates, far past what any picture needs

Floats = NDArray[np.float32]


class EncoderNetworks(Protocol):
    """What turns pixels to latents: in floating point, as no decoder depends on it."""

    def analyse(self, pixels: Pixels, level: int, peak: int) -> Floats:
        """Pixels (H, W, 3), sides multiples of 8, of which `peak` is white -> y (C, H/8, W/8)."""

    def hyperlatents(self, y: Floats, level: int) -> Floats:
        """y (C, h, w), sides multiples of 4 -> z (hyper, h/4, w/4), unrounded."""


@dataclass(frozen=True)
class QuantisedStep:
    """What one of the four steps codes, each (C, cells), channels in the step's order.

    values: float, the latents that a decoder gets (of real positions). residual: int32. rows: int32, 0 where
    nothing is coded.
    """

    values: Floats
    residual: Ints
    rows: Ints


@dataclass(frozen=True)
class QuantisedTile:
    """A tile's integers: z as `hyperlatents` gives it; latents (C, h, w) int32 in sixteenths; the steps."""

    z: Ints
    latents: Ints
    steps: list[QuantisedStep]


@dataclass(frozen=True)
class EncodedTile:
    """stream: rANS bytes; digest: CRC-32 of the symbols; bits: ideal code length.

    latents: (C, h, w) int32 in sixteenths, what a decoder gets.
    """

    stream: bytes
    digest: int
    latents: Ints
    bits: float


@dataclass(frozen=True)
class DecodedTile:
    """latents (C, h, w) int32 in sixteenths; complete: False where the stream ended early (partial)."""

    latents: Ints
    complete: bool


class NativeCodec:
    """The native model on one engine. networks: makes an encoder's, at first use."""

    def __init__(
        self,
        weights: NativeWeights,
        engine: Engine[Any],
        networks: Callable[[NativeWeights], EncoderNetworks],
    ) -> None:
        """Raises InvalidWeights."""
        self.weights, self.engine = weights, engine
        self.integer = weights.integer_model(engine)
        self.synthesis = weights.integer_synthesis(engine)
        self.tables = GroupedTables(weights.tables())
        self._make_networks = networks
        # A device does one thing after the other, whoever asks.
        self.threads = 1 if engine.serial else workers()  #: worth having at work on tiles

    @cached_property
    def networks(self) -> EncoderNetworks:
        """What an encoder needs besides."""
        return self._make_networks(self.weights)

    def analyse(self, pixels: Pixels, level: int, peak: int = 255) -> Floats:
        """Pixels (H, W, 3), sides multiples of 8, of which `peak` is white -> y (C, H/8, W/8)."""
        return self.networks.analyse(pixels, level, peak)

    def synthesise(self, latents: Ints, level: int, bits: int = 8) -> Pixels:
        """y^ (C, h, w) in sixteenths -> pixels (8h, 8w, 3) of 8 to 16 bits."""
        return self.synthesis(latents, level, bits).astype(sample_type(bits), copy=False)

    def hyperlatents(self, y: Floats, level: int) -> Ints:
        """y (C, h, w) -> z (hyper, ceil(h/4), ceil(w/4)), 0 where nothing is coded."""
        z = np.rint(self.networks.hyperlatents(_whole_cells(y), level))
        z = np.clip(z, -HYPER_LIMIT, HYPER_LIMIT).astype(np.int32)
        coded: Ints = z * (self.integer.hyper_rows(level, *z.shape[1:]) > 0)
        return coded

    def quantise(self, targets: list[Floats], z: Ints, level: int, height: int, width: int) -> QuantisedTile:
        """The integers nearest to `targets` (step_targets of a tile of height x width latents)."""
        steps: list[QuantisedStep] = []

        def code(step: int, means: Ints, rows: Ints) -> Ints:
            near = means.astype(np.float32) / np.float32(FRACTION)
            residual = np.clip(np.rint(targets[step] - near), -RESIDUAL_LIMIT, RESIDUAL_LIMIT)
            residual = residual.astype(np.int32) * (rows > 0)
            steps.append(QuantisedStep(near + residual.astype(np.float32), residual, rows))
            return residual

        return QuantisedTile(z, self.integer.latents(z, level, height, width, code), steps)

    def encode_tile(
        self, y: Floats, level: int, improve: Callable[[QuantisedTile], QuantisedTile] | None = None
    ) -> EncodedTile:
        """Quantise and code y (C, h, w); improve: what makes better integers of the nearest ones."""
        _, height, width = y.shape
        tile = self.quantise(step_targets(y), self.hyperlatents(y, level), level, height, width)
        return self.code(tile if improve is None else improve(tile), level)

    def code(self, tile: QuantisedTile, level: int) -> EncodedTile:
        """Code a tile's integers."""
        encoder = Encoder(self.tables.tables)
        for values, rows in (
            (tile.z, self.integer.hyper_rows(level, *tile.z.shape[1:])),
            *((step.residual, step.rows) for step in tile.steps),
        ):
            coded = rows > 0
            rans_groups.put(encoder, self.tables, values[coded], rows[coded])
        bits = encoder.ideal_bits()
        return EncodedTile(encoder.finish(), encoder.digest, tile.latents, bits)

    def decode_tile(
        self,
        stream: bytes,
        digest: int,
        level: int,
        height: int,
        width: int,
        *,
        partial: bool = False,
        name: str = "tile",
    ) -> DecodedTile:
        """Decode a stream to y^ (C, height, width).

        Raises TruncatedFile or MalformedFile on a damaged stream and ChecksumMismatch where the symbols have
        another digest. With partial=True an early end gives zeros for the rest instead.
        """
        decoder = Decoder(stream, self.tables.tables, partial=partial)

        def take(rows: Ints) -> Ints:
            values = np.zeros(rows.shape, np.int32)
            coded = rows > 0
            values[coded] = rans_groups.take(decoder, self.tables, rows[coded])
            return values

        z = take(self.integer.hyper_rows(level, -(-height // 4), -(-width // 4)))

        def code(step: int, means: Ints, rows: Ints) -> Ints:
            return take(rows)

        latents = self.integer.latents(z, level, height, width, code)
        if decoder.exhausted:
            return DecodedTile(latents, False)
        decoder.finish()
        check_digest(decoder.digest, digest, name)
        return DecodedTile(latents, True)


def step_targets(y: Floats) -> list[Floats]:
    """y (C, H, W) -> what each of the four steps codes: (C, cells) each, channels in the step's order."""
    whole = _whole_cells(y)
    return [
        np.concatenate([whole[(slice(g, None, 4), *slices(ORDER[step][g]))] for g in range(4)]).reshape(
            len(y), -1
        )
        for step in range(STEPS)
    ]


def _whole_cells(y: Floats) -> Floats:
    """Zeros added at the right and below, until both sides are multiples of 4."""
    return np.pad(y, ((0, 0), (0, -y.shape[1] % 4), (0, -y.shape[2] % 4)))
