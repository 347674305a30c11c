"""Rate-distortion search: a tile's integers moved to where bits + lambda x distortion is least.

    quantised ─┬─► synthesise ─► distortion of each cell, gradients ────┐
        ▲      └─► table rows ─► bits of each symbol and its neighbours ┴─► which steps pay ─► some of them ─┐
        │                                      the cells that got cheaper ◄── measure ◄── quantise ◄─────────┘
        └── if the whole got cheaper ◄── measure ◄── quantise ◄──┘

The analysis transform knows the picture, but neither the tables nor what a latent's neighbours were rounded
to. A step of one symbol changes the bits as the table says, and the distortion by gradient and curvature.
Steps taken at once disturb each other: a random part is taken in each iteration, cells that got dearer are
taken back, and the rest counts only if the whole, measured again, is cheaper. Decoders do not notice.
Conventional codecs call this rate-distortion optimised quantisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.codec.native.coder import NativeCodec, QuantisedStep, QuantisedTile, step_targets
from latentcodec.codec.native.distortion import CELL, Slopes
from latentcodec.nn.layers import interpolate_knots, lambda_of_level, signed_log
from latentcodec.nn.native.integer_model import Ints, channel_order
from latentcodec.nn.native.transform import Synthesis
from latentcodec.rans.tables import row_costs

SHARE = 0.5  # of the steps that pay, taken in one iteration
LEAST_GAIN = 0.2  # bits: less is within what the estimate is wrong by
CURVATURE = 0.9  # of that of the linear path: a bold estimate tries more, and what was wrong is taken back
AROUND = 1.0  # weight of what changed in a cell's surroundings, when a cell is judged
HALO = 4  # latents around a piece: what lies further away hardly shows in it
_SEED = 1


@dataclass(frozen=True)
class _Step:
    """A QuantisedStep on the device."""

    values: Tensor
    residual: Tensor
    rows: Tensor

    @classmethod
    def of(cls, step: QuantisedStep, device: torch.device) -> _Step:
        return cls(*(torch.from_numpy(part).to(device) for part in (step.values, step.residual, step.rows)))


@dataclass(frozen=True)
class _State:
    """A tile's steps, with what was measured: bits + lambda x distortion of each cell, and gradients.

    cost: (cells,). gradients: those of Slopes, by steps.
    """

    steps: list[_Step]
    cost: Tensor
    gradients: list[list[Tensor]]


def search(
    codec: NativeCodec,
    synthesis: Synthesis,
    tile: QuantisedTile,
    level: int,
    slopes: Callable[[Ints, bool], Slopes],
    iterations: int,
) -> QuantisedTile:
    """What `iterations` (1 or more) of the search make of a tile.

    synthesis: the decoder's, with gradients. slopes: y^ (C, h, w) in sixteenths, and whether gradients are
    needed -> Slopes.
    """
    _, height, width = tile.latents.shape
    grid = -(-height // 4) * 2, -(-width // 4) * 2  # of cells
    price = float(lambda_of_level(torch.tensor(float(level)))) * CELL**2  # bits a distortion of one cell
    device = synthesis.skip.device
    curvature = CURVATURE * _curvature(synthesis, level)
    costs, middle = _costs(codec, device)
    random = torch.Generator().manual_seed(_SEED)

    def measured(tile: QuantisedTile, gradients: bool) -> _State:
        measurement = slopes(tile.latents, gradients)
        missing = grid[1] - measurement.distortion.shape[1], grid[0] - measurement.distortion.shape[0]
        cost = price * F.pad(measurement.distortion, (0, missing[0], 0, missing[1])).flatten()
        steps = [_Step.of(step, device) for step in tile.steps]
        for step in steps:
            cost += costs[step.rows, (step.residual + middle).clamp(0, 2 * middle)].sum(0)
        gradients_by_step = [
            [torch.from_numpy(part).to(device) for part in step_targets(gradient.cpu().numpy())]
            for gradient in measurement.gradients
        ]
        return _State(steps, cost, gradients_by_step)

    def stepped(state: _State) -> list[Tensor]:
        """The values, with a random part of the steps that seem to pay."""
        targets = []
        for step, linear, logarithmic in zip(state.steps, *state.gradients, strict=True):
            places = (step.residual + middle).clamp(1, 2 * middle - 1)
            here = signed_log(step.values)
            gains = []
            for sign in (1, -1):
                rise = signed_log(step.values + sign) - here
                change = sign * linear + rise * logarithmic + curvature / 2
                gains.append(costs[step.rows, places + sign] + price * change)
            up, down = gains
            chosen = torch.rand(up.shape, generator=random).to(up.device) < SHARE
            chosen &= torch.minimum(up, down) < costs[step.rows, places] - LEAST_GAIN
            targets.append(step.values + (chosen & (step.rows > 0)) * torch.where(up < down, 1.0, -1.0))
        return targets

    def quantised(values: list[Tensor]) -> QuantisedTile:
        return codec.quantise([step.cpu().numpy() for step in values], tile.z, level, height, width)

    best, state = tile, measured(tile, True)
    for iteration in range(1, iterations + 1):
        tried = measured(quantised(stepped(state)), False)
        mixed = quantised(_better(state, tried, grid))
        now = measured(mixed, iteration < iterations)
        if now.cost.sum() < state.cost.sum():
            best, state = mixed, now
    return best


def _better(old: _State, new: _State, grid: tuple[int, int]) -> list[Tensor]:
    """The values: of each cell those that cost less, there and in its surroundings, where they show too."""
    change = (new.cost - old.cost).view(1, 1, *grid)
    around = F.avg_pool2d(change, 3, 1, 1, count_include_pad=False)
    cheaper = (change + AROUND * around).flatten() < 0
    return [torch.where(cheaper, b.values, a.values) for a, b in zip(old.steps, new.steps, strict=True)]


def _curvature(synthesis: Synthesis, level: int) -> Tensor:
    """(C, 1) the linear path's second derivative of MSE (of a cell) by each latent, in the steps' order.

    That of the whole distortion is 1 to 2 times it, more in flat parts; the residual branch lowers both.
    """
    at = torch.tensor([float(level)], device=synthesis.skip.device)
    gain = interpolate_knots(synthesis.log_gain, at)[0, :, :, 0]
    energy = 255**2 * synthesis.skip.square().sum(1, keepdim=True) / (3 * CELL**2)
    return (2 * energy * torch.exp(-2 * gain))[torch.from_numpy(channel_order(len(energy)))]


@lru_cache(maxsize=4)
def _costs(codec: NativeCodec, device: torch.device) -> tuple[Tensor, int]:
    """Bits (ROWS, 2 middle + 1) of every residual -middle..middle under every row, and middle."""
    costs = torch.from_numpy(row_costs(codec.weights.tables())).float().to(device)
    return costs, costs.shape[1] // 2
