"""Native analysis and synthesis transforms: a learned block transform plus a convolutional residual.

    picture (B,3,H,W) in 0..1
        ├─► 8x8 block transform (opponent colour, 64+24+24 coefficients) ─► lapping ─┐
        └─► unshuffle 4 ─► conv ─► block ─► unshuffle 2 ─► 1x1 ─► blocks ─► conv ─► + ─► x gain(level) ─► y
                                                                                      (B,112,H/8,W/8)
    y^ ─┬─► / gain(level) ─► lapping ─► inverse block transform ─────────────────────┐
        └─► signed log ─► conv ─► blocks ─► 1x1 ─► shuffle 2 ─► block ─► conv ─► x scale ─► shuffle 4 ─► +
            (in integers: nn/native/synthesis.py)                                     (B,3,H,W)

Both residual branches end in a layer that starts at zero, so training starts at the quality of a good
block transform. There is no normalisation over positions and every convolution is 3x3 with zero padding:
the receptive field is finite (TransformConfig.synthesis_halo, analysis_halo), and a tile with that halo
decodes to what the whole picture decodes to. Gains: Cui et al., "Asymmetric gained deep image compression"
(2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.nn.exact.layer import ACTIVATION_BITS, ACTIVATION_LIMIT, WIDE_BITS, Activation
from latentcodec.nn.integer import (
    TRAINING,
    TrainableIntegerConv,
    activate,
    clamp,
    round_half_up,
    trainable_layer,
)
from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT
from latentcodec.nn.layers import (
    FLOAT_OPERATIONS,
    ResidualBlock,
    interpolate_knots,
    lambda_of_level,
    signed_log,
)
from latentcodec.nn.native.analysis import analyse
from latentcodec.nn.native.config import LAPPING_UNIT, PATCH, TransformConfig
from latentcodec.nn.native.synthesis import (
    COLOURS,
    FINE_PATCH,
    LOG_BITS,
    correction,
    synthesis_layers,
)

MOST = 255  # an 8-bit sample; gains and steps are told in such units
START_ACTIVATION = 24.0  # standard deviation of narrow activations at the start of training
LOG_SCALE = 127 / math.log(512)  # signed logarithms reach 127 at a latent of 511
# A channel's step, against that of a uniform quantiser, stays in these bounds. Without them photographs close
# the channels of high frequencies, and letters and thin lines have nothing left to be coded with.
WIDEST_STEP = 2.0  # of the analysis
NARROWEST_STEP = 0.5  # of the synthesis
# A wide unit of the correction is worth less than half an 8-bit step: stored scales have shifts of 1 or more.
LARGEST_LOG_SCALE = math.log(127 / MOST)


def zigzag() -> list[tuple[int, int]]:
    """The 64 (row, column) frequencies of an 8x8 block by rising radius."""
    return sorted(
        ((i, j) for i in range(PATCH) for j in range(PATCH)), key=lambda p: (p[0] ** 2 + p[1] ** 2, p[0])
    )


def block_transform(luma: int, chroma: int) -> Tensor:
    """The orthonormal 8x8 DCT-II in an orthonormal opponent colour space: (luma + 2 chroma, 3 * 64)."""
    n = torch.arange(PATCH, dtype=torch.float64)
    basis = torch.cos(math.pi * (2 * n[None] + 1) * n[:, None] / (2 * PATCH)) * math.sqrt(2 / PATCH)
    basis[0] /= math.sqrt(2)
    colour = torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64)
    colour /= colour.norm(dim=1, keepdim=True)
    rows = [
        (colour[plane][:, None, None] * basis[i][:, None] * basis[j][None]).flatten()
        for plane, count in enumerate((luma, chroma, chroma))
        for i, j in zigzag()[:count]
    ]
    return torch.stack(rows).float()


def linear_channels(x: Tensor, matrix: Tensor) -> Tensor:
    """A matrix (O, I) over the channels of x (B, I, H, W), in float32 even under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x.float(), matrix.float()[:, :, None, None])


class Lapping(nn.Module):
    """x + a 3x3 convolution within each colour plane, zero at the start: the block transform becomes lapped.

    (B, luma + 2 chroma, h, w) -> the same, linear, in float32 even under autocast: at high rates the
    convolutional branches, which see latents through a logarithm, are not precise enough for this.
    """

    def __init__(self, luma: int, chroma: int) -> None:
        super().__init__()
        self.planes = nn.ParameterList(torch.zeros(n, n, 3, 3) for n in (luma, chroma, chroma))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            parts = torch.split(x, [len(kernel) for kernel in self.planes], 1)
            lapped = [
                F.conv2d(part, LAPPING_UNIT * kernel, padding=1)
                for part, kernel in zip(parts, self.planes, strict=True)
            ]
            return x + torch.cat(lapped, 1)


class Analysis(nn.Module):
    """g_a: picture (B,3,H,W) float in 0..1, H and W multiples of 8 -> y (B,C,H/8,W/8)."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.skip = nn.Parameter(block_transform(config.luma, config.chroma))
        self.lapping = Lapping(config.luma, config.chroma)
        self.log_gain = nn.Parameter(initial_log_gain(config.latents))
        self.conv_in = nn.Conv2d(48, config.fine, 3, padding=1)
        self.fine = ResidualBlock(config.fine)
        self.down = nn.Conv2d(4 * config.fine, config.analysis_coarse, 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(config.analysis_coarse) for _ in range(config.analysis_blocks)
        )
        self.conv_out = nn.Conv2d(config.analysis_coarse, config.latents, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """level: (B,) float, 0 to 4000."""
        layers = {
            "skip": lambda patches: linear_channels(patches, self.skip),
            "gain": lambda level: interpolate_knots(self.log_gain, level).exp(),
            **{name: getattr(self, name) for name in ("lapping", "conv_in", "fine", "down", "conv_out")},
            **{f"blocks.{index}": block for index, block in enumerate(self.blocks)},
        }
        y: Tensor = analyse(FLOAT_OPERATIONS, layers, len(self.blocks), x - 0.5, level)
        return y


class Synthesis(nn.Module):
    """g_s: y^ (B,C,h,w) -> picture (B,3,8h,8w), float, about 0..1 (not clamped).

    The residual branch has the integers of a decoder, with straight-through gradients. The block transform is
    in floating point: a decoder's rounds so finely that training need not know.
    """

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.blocks = config.synthesis_blocks
        self.skip = nn.Parameter(block_transform(config.luma, config.chroma))
        self.lapping = Lapping(config.luma, config.chroma)
        self.log_gain = nn.Parameter(initial_log_gain(config.latents))
        self.log_scale = nn.Parameter(initial_log_scale())
        self.input_log_gain: Tensor
        self.stream_log_gain: Tensor
        self.register_buffer("input_log_gain", initial_input_log_gain().repeat(1, config.latents))
        self.register_buffer("stream_log_gain", initial_stream_log_gain())
        self.layers = nn.ModuleDict(
            {name.replace(".", "/"): trainable_layer(spec) for name, spec in synthesis_layers(config).items()}
        )
        nn.init.zeros_(self.layers["out/conv"].conv.weight)  # type: ignore[union-attr,arg-type]

    def forward(self, y: Tensor, level: Tensor, logs: Tensor | None = None) -> Tensor:
        """level: (B,) float, 0 to 4000. logs: signed_log(y), for who wants the gradient by it apart."""
        coefficients = y * (-interpolate_knots(self.log_gain, level)).exp()
        skip = F.pixel_shuffle(linear_channels(self.lapping(coefficients), self.skip.t()), PATCH)
        logs = signed_log(y) if logs is None else logs
        wide = self.correction(logs, level)
        scale = interpolate_knots(self.log_scale, level).exp() * 2**-WIDE_BITS
        return skip + F.pixel_shuffle(wide.float() * scale, FINE_PATCH) + 0.5

    def correction(self, logs: Tensor, level: Tensor) -> Tensor:
        """What the residual branch adds, before its scale: wide integers (B, 48, 2h, 2w)."""

        def gained(log_gain: Tensor) -> Callable[[Tensor], Tensor]:
            gain = eight_bits(interpolate_knots(log_gain, level).exp2())
            return lambda x: activate(round_half_up(x * gain), Activation.WIDE)

        layers = {name.replace("/", "."): layer for name, layer in self.layers.items()}
        gains = gained(self.input_log_gain + (WIDE_BITS - LOG_BITS)), gained(self.stream_log_gain)
        return correction(TRAINING, layers, *gains, self.blocks, wide_logs(logs), level)

    @torch.no_grad()
    def calibrate(self, y: Tensor, level: Tensor) -> None:
        """Start with activations well above their rounding, on latents y (B, C, h, w) at these levels.

        With PyTorch's own initial weights the signal would sink into it, layer by layer. What a block adds to
        its stream starts at a third of the stream; the last layer stays zero.
        """

        def settle(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            name, convolution = names[layer], cast(TrainableIntegerConv, layer)
            share = 1 / 3 if name.endswith("conv2") else 1
            spread = convolution.shifted(*inputs).std().clamp(min=1.0)
            convolution.conv.weight.mul_(share * START_ACTIVATION * 2**convolution.gain / spread)
            return convolution.forward(*inputs)

        names: dict[nn.Module, str] = {
            layer: name
            for name, layer in self.layers.items()
            if isinstance(layer, TrainableIntegerConv) and name != "out/conv"
        }
        hooks = [layer.register_forward_hook(settle) for layer in names]
        self.correction(signed_log(y), level)
        for hook in hooks:
            hook.remove()


def log_activation(logs: Tensor) -> Tensor:
    """Signed logarithms of latents as narrow integers (the formula of the shipped table)."""
    return round_half_up(clamp(logs * LOG_SCALE))


def eight_bits(x: Tensor) -> Tensor:
    """Positive numbers rounded to a mantissa of eight bits, as integer multipliers are."""
    unit = torch.exp2(torch.floor(torch.log2(x)) - 7)
    return torch.floor(x / unit + 0.5) * unit


def wide_logs(logs: Tensor) -> Tensor:
    """Signed logarithms of latents as wide integers (the formula of the synthesis' table)."""
    scaled = logs * 2**LOG_BITS
    # Halves to even, not upwards: the same for both signs, as by a table of magnitudes.
    nearest = scaled + (scaled.round() - scaled).detach()
    return activate(nearest, Activation.WIDE)


def initial_input_log_gain() -> Tensor:
    """(KNOTS, 1) log2 of the logarithms' gain: what they reach at the ends of the levels becomes narrow."""
    narrow = ACTIVATION_LIMIT / 2**ACTIVATION_BITS
    return torch.linspace(math.log2(narrow / 2.5), math.log2(narrow / 6.2), KNOTS)[:, None]


def initial_stream_log_gain() -> Tensor:
    """(KNOTS, 1) log2 of the stream's gain: 1 at the lowest level, 1/11 at the highest, less the input's."""
    return torch.linspace(0, -math.log2(11), KNOTS)[:, None] - initial_input_log_gain()


def initial_log_gain(channels: int) -> Tensor:
    """(KNOTS, channels) log-gains: the uniform step that is optimal for each knot's lambda."""
    # High-rate theory: dD/dR = -2 ln2 D with D = (255 step)^2 / 12 gives step = sqrt(c / lambda) / 255; the
    # constant was fitted on block-transform coefficients.
    levels = torch.arange(KNOTS, dtype=torch.float32) * LEVELS_PER_KNOT
    step = (26 / lambda_of_level(levels)).sqrt() / 255
    return (-step.log())[:, None].repeat(1, channels)


def initial_log_scale() -> Tensor:
    """(KNOTS, 48) log-scales of the correction: an eighth of the uniform step, which a decoder can hold."""
    return -initial_log_gain(COLOURS * FINE_PATCH**2) - math.log(8)


@torch.no_grad()
def bound_gains(analysis: Analysis, synthesis: Synthesis) -> None:
    """Put gains and scales, as a step of training left them, back within the bounds above."""
    uniform = initial_log_gain(analysis.log_gain.shape[1]).to(analysis.log_gain.device)
    analysis.log_gain.clamp_(min=uniform - math.log(WIDEST_STEP))
    synthesis.log_gain.clamp_(max=uniform - math.log(NARROWEST_STEP))
    synthesis.log_scale.clamp_(max=LARGEST_LOG_SCALE)
