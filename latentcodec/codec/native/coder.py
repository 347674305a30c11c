"""The native model at work on one tile: latents <-> integers <-> bytes, and latents -> pixels.

    pixels ─► analyse ─► y ─┬─► hyperlatents ─► z ─┐
                            └─► step_targets ──────┴─► quantise [─► search] ─► code ─► stream, digest, y^
    stream ─► decode_tile ─► y^ (sixteenths, exact) ─► synthesise ─► pixels

A tile's stream holds z, then the four steps, a block each (rans_groups): coarse data first. The digest is the
CRC-32 of what the rANS stream codes (patterns and values), as little-endian int32, in that order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.device import full_precision
from latentcodec.nn.native.entropy_model import FRACTION, STEPS, HyperAnalysis, take_step, to_cells
from latentcodec.picture.picture import Pixels
from latentcodec.rans import groups as rans_groups
from latentcodec.rans.coder import Decoder, Encoder, check_digest
from latentcodec.rans.groups import GroupedTables
from latentcodec.weights.native import NativeWeights

HYPER_LIMIT = 127  # of a hyperlatent
RESIDUAL_LIMIT = 1023  # of a residual: an encoder saturates, far past what any picture needs


@dataclass(frozen=True)
class QuantisedStep:
    """What one of the four steps codes, each (C, cells), channels in the step's order.

    values: float, the latents that a decoder gets (of real positions). residual: int32. rows: int32, 0 where
    nothing is coded.
    """

    values: Tensor
    residual: Tensor
    rows: Tensor


@dataclass(frozen=True)
class QuantisedTile:
    """A tile's integers: z as `hyperlatents` gives it; latents (C, h, w) int32 in sixteenths; the steps."""

    z: Tensor
    latents: Tensor
    steps: list[QuantisedStep]


@dataclass(frozen=True)
class EncodedTile:
    """stream: rANS bytes; digest: CRC-32 of the symbols; bits: ideal code length.

    latents: (C, h, w) int32 in sixteenths, what a decoder gets.
    """

    stream: bytes
    digest: int
    latents: Tensor
    bits: float


@dataclass(frozen=True)
class DecodedTile:
    """latents (C, h, w) int32 in sixteenths; complete: False where the stream ended early (partial)."""

    latents: Tensor
    complete: bool


class NativeCodec:
    """The native model on one device, all parts loaded."""

    def __init__(self, weights: NativeWeights, device: torch.device) -> None:
        self.weights, self.device = weights, device
        self.integer = weights.integer_model(device)
        self.tables = GroupedTables(weights.tables())
        self.analysis = weights.analysis(device)
        self.synthesis = weights.synthesis(device)
        hyper = HyperAnalysis(weights.config.entropy)
        weights.load_into(hyper, "hyper_analysis.")
        self.hyper_analysis = hyper.eval().requires_grad_(False).to(device)

    def analyse(self, pixels: Pixels, level: int) -> Tensor:
        """Pixels (H, W, 3), sides multiples of 8 -> y (C, H/8, W/8) float."""
        with full_precision(self.device):
            x = (
                torch.from_numpy(np.ascontiguousarray(pixels)).to(self.device).permute(2, 0, 1)[None].float()
                / 255
            )
            # Channels last is a fifth faster on CPUs.
            y: Tensor = self.analysis(x.contiguous(memory_format=torch.channels_last), self._level(level))[0]
        return y

    def synthesise(self, latents: Tensor, level: int) -> Pixels:
        """y^ (C, h, w) int32 in sixteenths -> pixels (8h, 8w, 3)."""
        with full_precision(self.device):
            y = (latents.to(self.device).float()[None] / FRACTION).contiguous(
                memory_format=torch.channels_last
            )
            x = self.synthesis(y, self._level(level))[0].mul_(255).round_().clamp_(0, 255).to(torch.uint8)
        pixels: Pixels = x.permute(1, 2, 0).contiguous().cpu().numpy()
        return pixels

    def hyperlatents(self, y: Tensor, level: int) -> Tensor:
        """y (C, h, w) -> z (hyper, ceil(h/4), ceil(w/4)) int32, 0 where nothing is coded."""
        with torch.inference_mode(), full_precision(self.device):
            z = self.hyper_analysis(_whole_cells(y)[None], self._level(level))[0]
        z = z.round().clamp(-HYPER_LIMIT, HYPER_LIMIT).to(torch.int32)
        coded: Tensor = z * (self.integer.hyper_rows(level, *z.shape[1:]) > 0)
        return coded

    @torch.inference_mode()
    def quantise(
        self, targets: list[Tensor], z: Tensor, level: int, height: int, width: int
    ) -> QuantisedTile:
        """The integers nearest to `targets` (step_targets of a tile of height x width latents)."""
        steps: list[QuantisedStep] = []

        def code(step: int, means: Tensor, rows: Tensor) -> Tensor:
            means = means / FRACTION
            residual = (targets[step] - means).round().clamp(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
            residual = residual.to(torch.int32) * (rows > 0)
            steps.append(QuantisedStep(means + residual, residual, rows))
            return residual

        return QuantisedTile(z, self.integer.latents(z, level, height, width, code), steps)

    def encode_tile(
        self, y: Tensor, level: int, improve: Callable[[QuantisedTile], QuantisedTile] | None = None
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
            rans_groups.put(encoder, self.tables, values[coded].cpu().numpy(), rows[coded].cpu().numpy())
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

        def take(rows: Tensor) -> Tensor:
            return torch.from_numpy(rans_groups.take(decoder, self.tables, rows.cpu().numpy())).to(
                self.device
            )

        rows = self.integer.hyper_rows(level, -(-height // 4), -(-width // 4))
        z = torch.zeros(rows.shape, dtype=torch.int32, device=self.device)
        z[rows > 0] = take(rows[rows > 0])

        def code(step: int, means: Tensor, rows: Tensor) -> Tensor:
            coded = rows > 0
            residual = torch.zeros(rows.shape, dtype=torch.int32, device=self.device)
            residual[coded] = take(rows[coded])
            return residual

        latents = self.integer.latents(z, level, height, width, code)
        if decoder.exhausted:
            return DecodedTile(latents, False)
        decoder.finish()
        check_digest(decoder.digest, digest, name)
        return DecodedTile(latents, True)

    def _level(self, level: int) -> Tensor:
        return torch.tensor([level], dtype=torch.float32, device=self.device)


def step_targets(y: Tensor) -> list[Tensor]:
    """y (C, H, W) -> what each of the four steps codes: (C, cells) each, channels in the step's order."""
    cells = to_cells(_whole_cells(y)[None])
    return [take_step(cells, step).reshape(y.shape[0], -1) for step in range(STEPS)]


def _whole_cells(y: Tensor) -> Tensor:
    """Zeros added at the right and below, until both sides are multiples of 4."""
    return F.pad(y, (0, -y.shape[2] % 4, 0, -y.shape[1] % 4))
