"""Rate-distortion search: a tile's integers moved to where bits + lambda x squared error is least.

    quantised ─┬─► synthesise ─► squared error of each cell, gradients ─┐
        ▲      └─► table rows ─► bits of each symbol and its neighbours ┴─► which steps pay ─► some of them ─┐
        └── the cells that got cheaper; the others as they were ◄── measure ◄── quantise with those taken ◄──┘

The analysis transform knows the picture, but neither the tables nor what a latent's neighbours were rounded
to. A step of one symbol changes the bits as the table says, and the error by gradient and curvature. Steps
taken at once disturb each other: a random part is taken in each iteration, and what made a cell and its
surroundings dearer is taken back. Decoders do not notice. Conventional codecs call this rate-distortion
optimised quantisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.codec.native import NativeCodec, QuantisedStep, QuantisedTile, step_targets
from latentcodec.nn.device import fast_precision
from latentcodec.nn.entropy_model import FRACTION, channel_order
from latentcodec.nn.layers import interpolate_knots, lambda_of_level, signed_log
from latentcodec.rans_tables import row_costs

ITERATIONS = (0, 0, 0, 1, 2, 4, 8, 16, 48)  # of efforts 1 to 9
SHARE = 0.5  # of the steps that pay, taken in one iteration
LEAST_GAIN = 0.2  # bits: less is within what the estimate is wrong by
CURVATURE = 0.9  # of that of the linear path: a bold estimate tries more, and what was wrong is taken back
HALO = 4  # latents around a piece: what lies further away hardly shows in it
MASKED = 0.3  # share of the error's weight that falls off where a picture is busy
MASK_WINDOW = 9  # pixels
MASK_FLOOR = 4 / 255  # deviations well under this count as flat
CELL = 16  # pixels along a side of a cell of 2x2 latents
_SEED = 1


@dataclass(frozen=True)
class Slopes:
    """What a picture says of a tile's latents.

    error (h/2, w/2), sides rounded up: squared error of the samples (0..1) in each cell. gradients: of the
    whole by the latents (C, h, w) on the linear path, and by their signed logarithms, which is what the
    residual branch sees; none where they were not asked for.
    """

    error: Tensor
    gradients: tuple[Tensor, ...]


@dataclass(frozen=True)
class _State:
    """A tile's steps, with what was measured: bits + lambda x squared error of each cell, and gradients.

    cost: (cells,). gradients: those of Slopes, by steps.
    """

    steps: list[QuantisedStep]
    cost: Tensor
    gradients: list[list[Tensor]]


def search(
    codec: NativeCodec,
    tile: QuantisedTile,
    level: int,
    slopes: Callable[[Tensor, bool], Slopes],
    iterations: int,
) -> QuantisedTile:
    """What `iterations` (1 or more) of the search make of a tile.

    slopes: y^ (C, h, w) int32 in sixteenths, and whether gradients are needed -> Slopes.
    """
    _, height, width = tile.latents.shape
    grid = -(-height // 4) * 2, -(-width // 4) * 2  # of cells
    price = float(lambda_of_level(torch.tensor(float(level)))) * 255**2 / 3  # bits a squared error
    curvature = CURVATURE * _curvature(codec, level)
    costs, middle = _costs(codec)
    random = torch.Generator().manual_seed(_SEED)

    def measured(tile: QuantisedTile, gradients: bool) -> _State:
        found = slopes(tile.latents, gradients)
        missing = grid[1] - found.error.shape[1], grid[0] - found.error.shape[0]
        cost = price * F.pad(found.error, (0, missing[0], 0, missing[1])).flatten()
        for step in tile.steps:
            cost += costs[step.rows, (step.residual + middle).clamp(0, 2 * middle)].sum(0)
        return _State(tile.steps, cost, [step_targets(gradient) for gradient in found.gradients])

    def moved(state: _State) -> list[Tensor]:
        """The values, with a random part of the steps that seem to pay."""
        targets = []
        for step, linear, logarithmic in zip(state.steps, *state.gradients, strict=True):
            places = (step.residual + middle).clamp(1, 2 * middle - 1)
            here = signed_log(step.values)
            gains = []
            for sign in (1, -1):
                rise = signed_log(step.values + sign) - here
                error = sign * linear + rise * logarithmic + curvature / 2
                gains.append(costs[step.rows, places + sign] + price * error)
            up, down = gains
            taken = torch.rand(up.shape, generator=random).to(up.device) < SHARE
            taken &= torch.minimum(up, down) < costs[step.rows, places] - LEAST_GAIN
            targets.append(step.values + (taken & (step.rows > 0)) * torch.where(up < down, 1.0, -1.0))
        return targets

    state = measured(tile, True)
    for iteration in range(1, iterations + 1):
        tried = codec.quantise(moved(state), tile.z, level, height, width)
        state = _better(state, measured(tried, iteration < iterations), grid)
    return codec.quantise([step.values for step in state.steps], tile.z, level, height, width)


def _better(old: _State, new: _State, grid: tuple[int, int]) -> _State:
    """Of each cell what costs less with its surroundings, in which its changes show too."""
    change = F.avg_pool2d((new.cost - old.cost).view(1, 1, *grid), 3, 1, 1, count_include_pad=False)
    taken = change.flatten() < 0

    def mixed(ours: Tensor, theirs: Tensor) -> Tensor:
        return torch.where(taken, theirs, ours)

    steps = [
        QuantisedStep(*(mixed(getattr(a, f.name), getattr(b, f.name)) for f in fields(QuantisedStep)))
        for a, b in zip(old.steps, new.steps, strict=True)
    ]
    gradients = [
        [mixed(a, b) for a, b in zip(ours, theirs, strict=True)]
        for ours, theirs in zip(old.gradients, new.gradients, strict=False)
    ]
    return _State(steps, mixed(old.cost, new.cost), gradients)


def _curvature(codec: NativeCodec, level: int) -> Tensor:
    """(C, 1) the linear path's second derivative of the squared error by each latent, in the steps' order."""
    synthesis = codec.synthesis
    at = torch.tensor([float(level)], device=codec.device)
    gain = interpolate_knots(synthesis.log_gain, at)[0, :, :, 0]
    energy = synthesis.skip.square().sum(1, keepdim=True)
    return (2 * energy * torch.exp(-2 * gain))[channel_order(len(energy))]


@lru_cache(maxsize=4)
def _costs(codec: NativeCodec) -> tuple[Tensor, int]:
    """Bits (ROWS, 2 middle + 1) of every residual -middle..middle under every row, and middle."""
    costs = torch.from_numpy(row_costs(codec.weights.tables())).float().to(codec.device)
    return costs, costs.shape[1] // 2


def weights(samples: Tensor) -> Tensor:
    """(1, h, w), of mean 1: what a squared error counts at each pixel of samples (3, h, w) in 0..1.

    Errors show less where the picture is busy. Squared error alone would trade faint texture for PSNR.
    """
    gray = samples.mean(0, keepdim=True)
    edge = MASK_WINDOW // 2
    padded = F.pad(gray[None], (edge, edge, edge, edge), mode="replicate")[0]
    mean = F.avg_pool2d(padded, MASK_WINDOW, 1)
    variance = (F.avg_pool2d(padded.square(), MASK_WINDOW, 1) - mean.square()).clamp(min=0)
    inverse = (variance + MASK_FLOOR**2).rsqrt()
    return 1 - MASKED + MASKED * inverse / inverse.mean()


def squared_error(
    codec: NativeCodec,
    latents: Tensor,
    level: int,
    pixels: Tensor,
    core: tuple[slice, slice],
    *,
    gray: bool,
    gradients: bool,
) -> Slopes:
    """The Slopes of a piece's core.

    latents (C, h, w) in sixteenths; pixels (4, 8h, 8w): the picture in 0..1, and the weight of each of its
    pixels. core: rows and columns of latents, whose sides begin at whole cells; the rest is halo.
    """
    with fast_precision(codec.device), torch.inference_mode(False), torch.set_grad_enabled(gradients):
        y = (latents.to(codec.device).float() / FRACTION).requires_grad_(gradients)
        compressed = signed_log(y.detach()).requires_grad_(gradients)
        at = torch.tensor([float(level)], device=codec.device)
        decoded = codec.synthesis(y[None], at, compressed[None])[0]
        if gray:
            decoded = decoded.mean(0, keepdim=True)
        error = ((decoded - pixels[:3]).square() * pixels[3]).sum(0)
        found = torch.autograd.grad(error.sum(), (y, compressed)) if gradients else ()
    rows, columns = (slice(8 * side.start, 8 * side.stop) for side in core)
    error = error.detach()[rows, columns]
    error = F.pad(error, (0, -error.shape[1] % CELL, 0, -error.shape[0] % CELL))
    return Slopes(
        F.avg_pool2d(error[None], CELL)[0] * CELL**2, tuple(each[:, core[0], core[1]] for each in found)
    )
