"""AutoencoderKL, the autoencoder of latent diffusion models: pictures <-> latents of 1/8 or 1/4 of the side.

    picture (B,3,H,W) in 0..1 ─► 2x-1 ─► conv ─► [ resnet x 2 ─► halve ] x levels ─► resnet x 2
        ─► resnet ─► attention ─► resnet ─► norm ─► silu ─► conv ─► [1x1] ─► mean, log variance
        ─► (mean - shift) scale = latent (B,C,H/f,W/f)
    latent ─► / scale + shift ─► [1x1] ─► conv ─► resnet ─► attention ─► resnet
        ─► [ resnet x 3 ─► double ] x levels ─► resnet x 3 ─► norm ─► silu ─► conv ─► (y+1)/2 ─► picture

Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022). The latents are those
that the diffusion model works on: its scale and shift are applied in here and nowhere else. Parameter names
are those of the files in the diffusers layout (`AutoencoderKL`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.layers import (
    Downsample,
    GroupNorm,
    ResnetBlock,
    Upsample,
    fast_layout,
    norm_silu,
)
from latentcodec.nn.stable_diffusion.spatial_transformer import Attention, from_tokens, to_tokens

NORM_EPS = 1e-6
LOG_VARIANCE_RANGE = (-30.0, 20.0)  # the reference's DiagonalGaussianDistribution clamps to it


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Sizes and constants of an autoencoder.

    channels: per level, from the picture down; the side shrinks by 2 between levels.
    scale, shift: the diffusion model's latent is (z - shift) scale.
    quant_convolutions: 1x1 convolutions between encoder, latent and decoder.
    needs_float32: activations outgrow float16 and give black pictures; run it in float32.
    """

    channels: tuple[int, ...] = (128, 256, 512, 512)
    blocks: int = 2
    latents: int = 4
    groups: int = 32
    scale: float = 0.18215
    shift: float = 0.0
    quant_convolutions: bool = True
    needs_float32: bool = False

    @property
    def downscale(self) -> int:
        """Pixels per latent position, along a side."""
        return 1 << (len(self.channels) - 1)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self) | {"channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> AutoencoderConfig:
        """The inverse of to_dict."""
        return cls(**values | {"channels": tuple(values["channels"])})


# Scales and shifts stand in the published configuration files (vae/config.json) of each family.
SD_VAE = AutoencoderConfig()  # SD 1.x and 2.x, ft-EMA, ft-MSE
SDXL_VAE = AutoencoderConfig(scale=0.13025, needs_float32=True)
X4_VAE = AutoencoderConfig(channels=(128, 256, 512), scale=0.08333, needs_float32=True)  # the x4 upscaler
SD3_VAE = AutoencoderConfig(latents=16, scale=1.5305, shift=0.0609, quant_convolutions=False)
FLUX_VAE = AutoencoderConfig(latents=16, scale=0.3611, shift=0.1159, quant_convolutions=False)


class Posterior(NamedTuple):
    """What the encoder knows of the latent: a Gaussian, both tensors (B, C, h, w)."""

    mean: Tensor
    log_variance: Tensor


class AutoencoderKL(nn.Module):
    """An encoder and a decoder between pictures in 0..1 and a diffusion model's latents."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        latents = config.latents
        self.encoder = _Encoder(config)
        self.decoder = _Decoder(config)
        self.quant_conv = nn.Conv2d(2 * latents, 2 * latents, 1) if config.quant_convolutions else None
        self.post_quant_conv = nn.Conv2d(latents, latents, 1) if config.quant_convolutions else None

    def encode(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1, sides multiples of `config.downscale` -> the latent's mean (B, C, h, w).

        Raises InvalidArgument for other shapes.
        """
        return (self._moments(picture).chunk(2, dim=1)[0] - self.config.shift) * self.config.scale

    def posterior(self, picture: Tensor) -> Posterior:
        """Like encode, with the latent's variance: N(mean, exp(log_variance)), scale and shift applied."""
        mean, log_variance = self._moments(picture).chunk(2, dim=1)
        scale = self.config.scale
        log_variance = log_variance.clamp(*LOG_VARIANCE_RANGE) + 2 * math.log(scale)
        return Posterior((mean - self.config.shift) * scale, log_variance)

    def decode(self, latent: Tensor) -> Tensor:
        """Latent (B, C, h, w) -> picture (B, 3, H, W), about 0..1: the caller clamps.

        Raises InvalidArgument for other shapes.
        """
        if latent.ndim != 4 or latent.shape[1] != self.config.latents:
            raise InvalidArgument(
                f"latent: shape {tuple(latent.shape)}, expected (batch, {self.config.latents}, height, width)"
            )
        z = fast_layout(latent / self.config.scale + self.config.shift)
        if self.post_quant_conv is not None:
            z = self.post_quant_conv(z)
        picture: Tensor = self.decoder(z)
        return picture.add_(1).div_(2)

    def _moments(self, picture: Tensor) -> Tensor:
        grain = self.config.downscale
        if picture.ndim != 4 or picture.shape[1] != 3 or any(side % grain for side in picture.shape[2:]):
            raise InvalidArgument(
                f"picture: shape {tuple(picture.shape)}, expected (batch, 3, height, width) with sides that "
                f"are multiples of {grain}; pad it"
            )
        moments: Tensor = self.encoder(fast_layout(picture * 2 - 1))
        return moments if self.quant_conv is None else self.quant_conv(moments)


class _Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        channels = config.channels
        self.conv_in = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            _Level(inputs, outputs, config.blocks, config.groups, down=level < len(channels) - 1)
            for level, (inputs, outputs) in enumerate(zip((channels[0], *channels), channels, strict=False))
        )
        self.mid_block = _Middle(channels[-1], config.groups)
        self.conv_norm_out = GroupNorm(config.groups, channels[-1], NORM_EPS)
        self.conv_out = nn.Conv2d(channels[-1], 2 * config.latents, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for layer in _layers(self.down_blocks):
            x = layer(x)
        out: Tensor = self.conv_out(norm_silu(self.conv_norm_out, self.mid_block(x)))
        return out


class _Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        channels = config.channels[::-1]
        self.conv_in = nn.Conv2d(config.latents, channels[0], 3, padding=1)
        self.mid_block = _Middle(channels[0], config.groups)
        self.up_blocks = nn.ModuleList(
            _Level(inputs, outputs, config.blocks + 1, config.groups, up=level < len(channels) - 1)
            for level, (inputs, outputs) in enumerate(zip((channels[0], *channels), channels, strict=False))
        )
        self.conv_norm_out = GroupNorm(config.groups, channels[-1], NORM_EPS)
        self.conv_out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for layer in _layers(self.up_blocks):
            x = layer(x)
        out: Tensor = self.conv_out(norm_silu(self.conv_norm_out, x))
        return out


class _Level(nn.Module):
    """Resnets at one resolution, then a change of it."""

    def __init__(
        self, inputs: int, outputs: int, blocks: int, groups: int, *, down: bool = False, up: bool = False
    ) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(outputs if block else inputs, outputs, groups=groups, eps=NORM_EPS)
            for block in range(blocks)
        )
        self.downsamplers = nn.ModuleList([Downsample(outputs, one_sided=True)] if down else [])
        self.upsamplers = nn.ModuleList([_Doubling(outputs)] if up else [])


class _Doubling(Upsample):
    """(B, C, h, w) -> (B, C, 2h, 2w)."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, (2 * x.shape[2], 2 * x.shape[3]))


def _layers(levels: nn.ModuleList) -> Iterator[nn.Module]:
    """All layers in turn. Called by level, the caller would keep a level's input to the level's end."""
    for level in levels:
        for part in (level.resnets, level.downsamplers, level.upsamplers):
            yield from cast(nn.ModuleList, part)


class _Middle(nn.Module):
    """Resnet, attention over all positions, resnet."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(channels, channels, groups=groups, eps=NORM_EPS) for _ in range(2)
        )
        self.attentions = nn.ModuleList([_SelfAttention(channels, groups)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resnets[1](self.attentions[0](self.resnets[0](x)))
        return out


class _SelfAttention(Attention):
    """x + attention(norm(x)), one head."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, channels, heads=1, bias=True)
        self.group_norm = GroupNorm(groups, channels, NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        tokens = to_tokens(self.group_norm(x))
        return from_tokens(super().forward(tokens, tokens), (x.shape[2], x.shape[3])).add_(x)
