"""A prior's network in training: (examples) -> bits of each sample.

inputs ─► network (codec/values/prior_network.py) ─► level, mean, as real numbers
bits of the value, between the table rows beside them ─► gradients of both
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from latentcodec.codec.values.adaptive import PHASES, SATURATION, UNIT
from latentcodec.codec.values.adaptive_order import Kind
from latentcodec.codec.values.adaptive_tables import AdaptiveTables
from latentcodec.codec.values.prior_context import scales
from latentcodec.codec.values.prior_network import (
    EXPECTED,
    OUTPUT_GAIN,
    SEEN,
    Layer,
    PriorConfig,
    begin,
    go_on,
    judge,
    layer_shapes,
)
from latentcodec.nn.integer import TrainableIntegerConv
from latentcodec.training.prior.data import Batch

_OUTPUT_UNIT = UNIT << OUTPUT_GAIN


class TrainablePrior(nn.Module):
    """The network and the tables that its levels choose from. It begins as the adaptive coder."""

    costs: Tensor
    scales: Tensor

    def __init__(self, config: PriorConfig, tables: AdaptiveTables) -> None:
        super().__init__()
        self.config, self.tables = config, tables
        self.layers = nn.ModuleDict(
            {
                name: TrainableIntegerConv(i, o, 1, gain=gain, exact=True)
                for name, (i, o, gain) in layer_shapes(config).items()
            }
        )
        for number in range(len(config.groups)):
            nn.init.zeros_(cast(TrainableIntegerConv, self.layers[f"out{number}"]).conv.weight)
        self.register_buffer("costs", torch.from_numpy(tables.costs).float(), persistent=False)
        self.register_buffer("scales", torch.from_numpy(scales(tables.thresholds)).float(), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """(B,) bits a latent."""
        layers: Mapping[str, Layer] = dict(self.layers.items())
        quality = batch.quality
        state = torch.cat([begin(layers, kind, batch.surroundings[kind], quality) for kind in Kind], 3)
        bits = torch.zeros_like(quality)
        for group, members in enumerate(self.config.groups):
            own = batch.expected[:, EXPECTED * members.start : EXPECTED * members.stop]
            changes = judge(layers, group, state, own, quality)
            wider, higher = (change[:, :, 0] / _OUTPUT_UNIT for change in changes)
            bits = bits + self._bits(batch, members, wider, higher).sum((1, 2))
            if members.stop < self.config.latents:
                seen = batch.seen[:, SEEN * members.start : SEEN * members.stop]
                state = go_on(layers, group, state, seen, quality)
        return bits / batch.values[0].numel()

    def _bits(self, batch: Batch, members: slice, wider: Tensor, higher: Tensor) -> Tensor:
        """Of the values of a group (B, channels, n), interpolated between rows."""
        level, value = batch.levels[:, members], batch.values[:, members]
        exact = (level + wider).clamp(0, len(self.scales) - 1)
        low = exact.detach().floor().clamp(max=len(self.scales) - 2)
        share = exact - low
        mean = batch.means[:, members] + higher * self.scales[level.long()] / UNIT
        mean = mean.clamp(-SATURATION * UNIT, SATURATION * UNIT)
        below = mean.detach().floor()
        rest = mean - below
        bits = torch.zeros_like(exact)
        for sixteenth, weight in ((below, 1 - rest), (below + 1, rest)):
            centre = torch.floor((sixteenth + UNIT // 2) / UNIT)
            phase = sixteenth - UNIT * centre
            symbol = (value - centre) * torch.where(phase < 0, -1.0, 1.0)
            reach = self.costs.shape[1] // 2
            column = (symbol.clamp(-reach, reach) + reach).long()
            row = (low * PHASES + phase.abs()).long()
            bits = bits + weight * (
                (1 - share) * self.costs[row, column] + share * self.costs[row + PHASES, column]
            )
        return bits
