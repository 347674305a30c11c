"""Native analysis and synthesis transforms: a learned block transform plus a convolutional residual.

    picture (B,3,H,W) in 0..1
        ├─► 8x8 block transform (opponent colour, 64+24+24 coefficients) ─► lapping ─┐
        └─► unshuffle 4 ─► conv ─► block ─► unshuffle 2 ─► 1x1 ─► blocks ─► conv ─► + ─► x gain(level) ─► y
                                                                                      (B,112,H/8,W/8)
    y^ ─┬─► / gain(level) ─► lapping ─► inverse block transform ─────────────────────┐
        └─► signed log ─► conv ─► blocks ─► 1x1 ─► shuffle 2 ─► block ─► conv ─► x scale ─► shuffle 4 ─► +
                                                                                      (B,3,H,W)

Both residual branches end in a layer that starts at zero, so training starts at the quality of a good
block transform. There is no normalisation over positions and every convolution is 3x3 with zero padding:
the receptive field is finite (TransformConfig.synthesis_halo, analysis_halo), and a tile with that halo
decodes to what the whole picture decodes to. Gains: Cui et al., "Asymmetric gained deep image compression"
(2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.nn.layers import (
    KNOTS,
    LEVELS_PER_KNOT,
    ResidualBlock,
    interpolate_knots,
    lambda_of_level,
    signed_log,
)

PATCH = 8
# A channel's step, against that of a uniform quantiser, stays in these bounds. Without them photographs close
# the channels of high frequencies, and letters and thin lines have nothing left to be coded with.
WIDEST_STEP = 2.0  # of the analysis
NARROWEST_STEP = 0.5  # of the synthesis
LAPPING_UNIT = (
    0.2  # kernel values per unit of the trained parameters, so that the optimiser's steps suit them
)


@dataclass(frozen=True, kw_only=True)
class TransformConfig:
    """Sizes of both transforms. Channels are at 1/4 ("fine") and 1/8 ("coarse") resolution."""

    luma: int = 64
    chroma: int = 24
    fine: int = 64
    coarse: int = 160
    analysis_coarse: int = 128
    analysis_blocks: int = 2
    synthesis_blocks: int = 3

    @property
    def latents(self) -> int:
        """Latent channels C."""
        return self.luma + 2 * self.chroma

    @property
    def synthesis_halo(self) -> int:
        """Latents on each side that a decoded picture patch depends on."""
        # conv_in and two convolutions a block at 1/8; two in the fine block and conv_out at 1/4.
        return 1 + 2 * self.synthesis_blocks + math.ceil(3 / 2)

    @property
    def analysis_halo(self) -> int:
        """Latents' worth of pixels on each side that a latent depends on."""
        return math.ceil(3 / 2) + 2 * self.analysis_blocks + 1


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
        x = x - 0.5
        skip = self.lapping(linear_channels(F.pixel_unshuffle(x, PATCH), self.skip))
        h = self.fine(self.conv_in(4 * F.pixel_unshuffle(x, 4)), level)
        h = self.down(F.pixel_unshuffle(h, 2))
        for block in self.blocks:
            h = block(h, level)
        residual = self.conv_out(F.leaky_relu(h, 0.1)).float()
        y: Tensor = (skip + residual) * interpolate_knots(self.log_gain, level).exp()
        return y


class Synthesis(nn.Module):
    """g_s: y^ (B,C,h,w) -> picture (B,3,8h,8w), float, about 0..1 (not clamped)."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        self.skip = nn.Parameter(block_transform(config.luma, config.chroma))
        self.lapping = Lapping(config.luma, config.chroma)
        self.log_gain = nn.Parameter(initial_log_gain(config.latents))
        self.log_scale = nn.Parameter(-initial_log_gain(48))
        self.conv_in = nn.Conv2d(config.latents, config.coarse, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(config.coarse) for _ in range(config.synthesis_blocks))
        self.up = nn.Conv2d(config.coarse, 4 * config.fine, 1)
        self.fine = ResidualBlock(config.fine)
        self.conv_out = nn.Conv2d(config.fine, 48, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, y: Tensor, level: Tensor, compressed: Tensor | None = None) -> Tensor:
        """level: (B,) float, 0 to 4000. compressed: signed_log(y), for who wants the gradient by it apart."""
        coefficients = y * (-interpolate_knots(self.log_gain, level)).exp()
        skip = F.pixel_shuffle(linear_channels(self.lapping(coefficients), self.skip.t()), PATCH)
        if compressed is None:
            h = self.conv_in(signed_log(y))
        else:  # in bfloat16 this layer alone would put the gradient off by a fifth
            with torch.autocast(y.device.type, enabled=False):
                h = self.conv_in(compressed)
        for block in self.blocks:
            h = block(h, level)
        h = self.fine(F.pixel_shuffle(self.up(h), 2), level)
        residual = self.conv_out(F.leaky_relu(h, 0.1)).float()
        return skip + F.pixel_shuffle(residual * interpolate_knots(self.log_scale, level).exp(), 4) + 0.5


def initial_log_gain(channels: int) -> Tensor:
    """(KNOTS, channels) log-gains: the uniform step that is optimal for each knot's lambda."""
    # High-rate theory: dD/dR = -2 ln2 D with D = (255 step)^2 / 12 gives step = sqrt(c / lambda) / 255; the
    # constant was fitted on block-transform coefficients.
    levels = torch.arange(KNOTS, dtype=torch.float32) * LEVELS_PER_KNOT
    step = (26 / lambda_of_level(levels)).sqrt() / 255
    return (-step.log())[:, None].repeat(1, channels)


@torch.no_grad()
def bound_gains(analysis: Analysis, synthesis: Synthesis) -> None:
    """Put the gains, as a step of training left them, back within WIDEST_STEP and NARROWEST_STEP."""
    uniform = initial_log_gain(analysis.log_gain.shape[1]).to(analysis.log_gain.device)
    analysis.log_gain.clamp_(min=uniform - math.log(WIDEST_STEP))
    synthesis.log_gain.clamp_(max=uniform - math.log(NARROWEST_STEP))
