"""The entropy model: a hyperprior and four context steps, in exact integer arithmetic.

    encoder only:   y ─► signed log ─► h_a (float) ─► z = round
    z (1/32) ─► h_s ─► F (1/16)
    for step s = 0..3:   [F, context of steps < s] ─► context net s ─► mean, table row  ─► residual r
                         y^ = mean + 16 r      (integers worth 1/16)   ─► signed-log table ─► context
    table row = (net + offset(level, channel)) >> 4      picks one of ROWS integer distributions

The latent plane is handled in cells of 2x2 positions (1/16 resolution). Channel c belongs to group c mod 4;
in step s group g is coded at position ORDER[s][g] of every cell: each step codes a quarter of the positions
of each group, in parallel, with the other three quarters as its context (quadtree interleave, as in DCVC-DC,
CVPR 2023). The functions here are written once over layers that are either trainable (TrainableEntropyModel)
or integer (latentcodec.nn.native.integer_model); both compute the same values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.nn.constants import DeviceConstant
from latentcodec.nn.integer import TRAINING, TrainableIntegerConv, clamp, round_half_up, trainable_layer
from latentcodec.nn.knots import KNOTS, MAX_LEVEL
from latentcodec.nn.layers import FLOAT_OPERATIONS, interpolate_knots, signed_log
from latentcodec.nn.native import integer_model
from latentcodec.nn.native.analysis import hyper_analyse
from latentcodec.nn.native.config import FRACTION, MEAN_LIMIT, ORDER, ROWS, STEPS, EntropyConfig
from latentcodec.nn.native.entropy import OUTPUT_GAIN, context_step, entropy_layers, hyper_synthesis
from latentcodec.nn.native.transform import START_ACTIVATION, log_activation

ROWS_PER_OCTAVE = 6
SMALLEST_SCALE = 0.09  # standard deviation of row 0, which is "surely zero"; row r has 0.09 * 2^(r/6)
HYPER_SPREAD = 2.0  # standard deviation of hyperlatents at the start of training
ROW_UNIT = 12.0  # rows per unit of the trained row parameters

_CPU = torch.device("cpu")
_channel_orders: dict[int, DeviceConstant] = {}

Layer = Callable[[Tensor, Tensor], Tensor]


def log_context(y: Tensor) -> Tensor:
    """Latents in sixteenths -> context inputs, integers in -127..127 (the formula of the shipped table)."""
    return log_activation(signed_log(y / FRACTION))


def to_cells(y: Tensor) -> Tensor:
    """(B, C, H, W), H and W even -> (B, 4 positions, C, H/2, W/2)."""
    b, c, h, w = y.shape
    return y.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(b, 4, c, h // 2, w // 2)


def from_cells(cells: Tensor) -> Tensor:
    """The inverse of to_cells."""
    b, _, c, h, w = cells.shape
    return cells.view(b, 2, 2, c, h, w).permute(0, 3, 4, 1, 5, 2).reshape(b, c, 2 * h, 2 * w)


def take_step(cells: Tensor, step: int) -> Tensor:
    """What step `step` codes: (B, 4, C, h, w) -> (B, 4 groups * C/4, h, w), group-major."""
    return torch.cat([cells[:, ORDER[step][g], g::4] for g in range(4)], 1)


def put_step(cells: Tensor, step: int, values: Tensor) -> None:
    """The inverse of take_step, in place."""
    for g, part in enumerate(values.chunk(4, 1)):
        cells[:, ORDER[step][g], g::4] = part


def channel_order(channels: int, device: torch.device = _CPU) -> Tensor:
    """(C,) the latent channel of each entry that take_step returns; the same tensor at every call."""
    if channels not in _channel_orders:
        _channel_orders[channels] = DeviceConstant(integer_model.channel_order(channels).tolist())
    return _channel_orders[channels].on(device)


class HyperAnalysis(nn.Module):
    """h_a (encoder, float): y (B, C, H, W), sides multiples of 4 -> z (B, hyper, H/4, W/4), unrounded."""

    def __init__(self, config: EntropyConfig) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(KNOTS, config.analysis))
        self.conv_in = nn.Conv2d(4 * config.latents, config.analysis, 1)
        self.conv_mid = nn.Conv2d(config.analysis, config.analysis, 3, padding=1)
        self.conv_down = nn.Conv2d(4 * config.analysis, config.analysis, 1)
        self.conv_out = nn.Conv2d(config.analysis, config.hyper, 3, padding=1)

    def forward(self, y: Tensor, level: Tensor) -> Tensor:
        layers = {
            "bias": lambda level: interpolate_knots(self.bias, level),
            **{name: getattr(self, name) for name in ("conv_in", "conv_mid", "conv_down", "conv_out")},
        }
        z: Tensor = hyper_analyse(FLOAT_OPERATIONS, layers, y, level).float()
        return z


class TrainableEntropyModel(nn.Module):
    """Rates and quantised latents during training: (y, level) -> (y^, bits of y, bits of z)."""

    def __init__(self, config: EntropyConfig) -> None:
        super().__init__()
        self.config = config
        self.hyper_pull = 1.0  # how strongly the rate of z pulls it to zero; training starts with less
        self.analysis = HyperAnalysis(config)
        self.layers = nn.ModuleDict(
            {
                # What yields means and rows stays in float32.
                name: trainable_layer(spec, exact=spec.gain == OUTPUT_GAIN)
                for name, spec in entropy_layers(config).items()
            }
        )
        for step in range(STEPS):
            nn.init.zeros_(self.layers[f"context{step}_out"].conv.weight)  # type: ignore[union-attr,arg-type]
        # Row numbers (per knot and channel) before what the networks add, in units of ROW_UNIT so that the
        # optimiser's steps suit them: `calibrate` sets them from data.
        self.row_offset = nn.Parameter(torch.full((KNOTS, config.latents), 20.0 / ROW_UNIT))
        self.hyper_row = nn.Parameter(torch.full((KNOTS, config.hyper), 20.0 / ROW_UNIT))
        # The distributions are a scale mixture of two Gaussians: weight and widths of the parts, learned.
        self.tail_logit = nn.Parameter(torch.tensor(-1.5))
        self.tail_log_ratio = nn.Parameter(torch.tensor(0.9))

    def mixture(self) -> tuple[Tensor, Tensor, Tensor]:
        """(weight of the tail, width of the core, width of the tail), for a unit standard deviation."""
        weight = torch.sigmoid(self.tail_logit)
        ratio = 1 + torch.nn.functional.softplus(self.tail_log_ratio)
        core = (1 - weight + weight * ratio**2).rsqrt()
        return weight, core, core * ratio

    @torch.no_grad()
    def calibrate(self, y: Tensor, log_gain: Tensor) -> None:
        """Start from statistics of real latents. y (B, C, H, W) at unit gain; log_gain (KNOTS, C).

        Rows begin at the latents' spread, hyperlatents with a deviation of HYPER_SPREAD, and the layers from
        y to the first context net with activations well above their rounding: with PyTorch's own initial
        weights the signal falls below a sixteenth on its way, and the hyperprior never learns anything.
        """
        level = torch.arange(len(y), device=y.device) / len(y) * MAX_LEVEL
        scaled, h_a = y * interpolate_knots(log_gain, level).exp(), self.analysis
        for convolution in (h_a.conv_in, h_a.conv_mid, h_a.conv_down, h_a.conv_out):
            spreads: list[Tensor] = []

            def note(*call: Any, into: list[Tensor] = spreads) -> None:
                into.append(call[2].std().clamp(min=1e-6))

            hook = convolution.register_forward_hook(note)
            h_a(scaled, level)
            hook.remove()
            convolution.weight.div_(spreads[0])
        z = h_a(scaled, level)
        scale = HYPER_SPREAD / z.std((0, 2, 3)).clamp(min=1e-6)
        h_a.conv_out.weight.mul_(scale[:, None, None, None])
        cast(Tensor, h_a.conv_out.bias).sub_(z.mean((0, 2, 3))).mul_(scale)
        self.hyper_row.fill_(math.log2(HYPER_SPREAD / SMALLEST_SCALE) * ROWS_PER_OCTAVE / ROW_UNIT)
        h = clamp(4 * round_half_up(h_a(scaled, level)))
        for name in ("hyper_in", "hyper_up", "hyper_out", "context0_in"):
            layer = cast(TrainableIntegerConv, self.layers[name])
            layer.conv.weight.mul_(START_ACTIVATION / layer.shifted(h, level).std().clamp(min=1.0))
            h = layer(h, level)
            h = F.pixel_shuffle(h, 2) if name == "hyper_up" else h
        spread = y.sub(y.mean((0, 2, 3), keepdim=True)).abs().mean((0, 2, 3)).clamp(min=1e-4)
        rows = (log_gain + spread.log() - math.log(SMALLEST_SCALE)) / math.log(2) * ROWS_PER_OCTAVE
        self.row_offset.copy_(rows.clamp(0, ROWS - 1) / ROW_UNIT)

    def relaxed_bits(self, residual: Tensor, row: Tensor, pull: float = 1.0) -> Tensor:
        """The code length of the rounded residual, with gradients for training.

        The distributions (row, mixture) learn from the real symbols. The residual gets the gradient of the
        usual relaxation, the code length of itself plus uniform noise of a step, in expectation: the
        difference of the code lengths at both ends (Agustsson and Theis, "Universally quantized neural
        compression", 2020). Drawn noise has the same mean, but drowned the gradients of the context nets.
        `pull` scales it.
        """
        exact = self.bits(torch.floor(residual + 0.5).detach(), row)
        with torch.no_grad():
            slope = pull * (self.bits(residual + 0.5, row) - self.bits(residual - 0.5, row))
        return exact + slope * (residual - residual.detach())

    def bits(self, residual: Tensor, row: Tensor) -> Tensor:
        """-log2 of the probability of a unit interval around `residual` (any real), under fractional rows."""
        deviation = SMALLEST_SCALE * torch.exp2(_lower_bound(row.clamp(max=ROWS - 1), 0.0) / ROWS_PER_OCTAVE)
        weight, core, tail = self.mixture()
        magnitude = residual.abs()
        inverse = 1 / (deviation * math.sqrt(2))
        upper, lower = (0.5 - magnitude) * inverse, (-0.5 - magnitude) * inverse
        likelihood = (1 - weight) * (torch.erf(upper / core) - torch.erf(lower / core))
        likelihood = likelihood + weight * (torch.erf(upper / tail) - torch.erf(lower / tail))
        return -torch.log2(_lower_bound(0.5 * likelihood, 2.0**-20))

    def forward(self, y: Tensor, level: Tensor, relaxed: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """y (B, C, H, W) with H, W multiples of 4; level (B,).

        relaxed: rates with the gradients of training (relaxed_bits), not the rates of a file.
        """
        layers: Mapping[str, Layer] = dict(self.layers.items())
        z = self.analysis(y, level)
        hyper_row = ROW_UNIT * interpolate_knots(self.hyper_row, level).expand_as(z)
        bits_z = (
            self.relaxed_bits(z, hyper_row, self.hyper_pull)
            if relaxed
            else self.bits(torch.floor(z + 0.5), hyper_row)
        )
        features = hyper_synthesis(TRAINING, layers, clamp(4 * round_half_up(z)), level)
        cells = to_cells(y)
        order = channel_order(self.config.latents, y.device)
        offset = ROW_UNIT * interpolate_knots(self.row_offset[:, order], level)
        parts: list[Tensor] = []
        bits_y: list[Tensor] = []
        context: list[Tensor] = []
        for step in range(STEPS):
            mean, row = context_step(TRAINING, layers, step, [features, *context], level).chunk(2, 1)
            mean = mean.clamp(-MEAN_LIMIT, MEAN_LIMIT)
            row = round_half_up(row + FRACTION * offset) / FRACTION
            target = take_step(cells, step)
            residual = target - mean / FRACTION
            rounded = round_half_up(residual) * (row >= 0.5)
            latent = mean + FRACTION * rounded
            # Where nothing is coded the latent is its mean, but the gradient still reaches y.
            latent = latent + FRACTION * (target - target.detach()) * (row < 0.5)
            if relaxed:
                bits_y.append(self.relaxed_bits(residual, row))
            else:
                bits_y.append(self.bits(rounded, torch.floor(row + 0.5)) * (row >= 0.5))
            parts.append(latent / FRACTION)
            # Each position of each group is coded in one step only, so a step's context is its own block.
            context.append(log_context(latent.clamp(-MEAN_LIMIT, MEAN_LIMIT)))
        rebuilt = torch.empty_like(cells)
        for step, part in enumerate(parts):
            put_step(rebuilt, step, part)
        return from_cells(rebuilt), torch.stack(bits_y).sum((0, 2, 3, 4)), bits_z.sum((1, 2, 3))


class _LowerBound(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, bound: float) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x >= bound)
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[no-untyped-def]
        (inside,) = ctx.saved_tensors
        return gradient * (inside | (gradient < 0)), None


def _lower_bound(x: Tensor, bound: float) -> Tensor:
    """max(x, bound) whose gradient still moves x up to the bound (Balle et al., 2018)."""
    result: Tensor = _LowerBound.apply(x, bound)  # type: ignore[no-untyped-call]
    return result
