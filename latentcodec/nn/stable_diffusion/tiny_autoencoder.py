"""The TAESD family: distilled autoencoders of a few million operations a pixel, for several latent spaces.

    picture (B,3,H,W) in 0..1
        ─► conv ─► block ─► [ halve ─► block ─► block ─► block ] x 3 ─► conv ─► latent (B,C,H/8,W/8)
    latent ─► 3 tanh(x / 3) ─► conv ─► relu ─► [ block ─► block ─► block ─► double ─► conv ] x 3
                                            ─► block ─► conv ─► picture (B,3,H,W), not clamped

    block:  x ─► [+ 1x1 ─► group norm ─► relu ─► 1x1] ─┬─► conv ─► relu ─► conv ─► relu ─► conv ─► + ─► relu
            (the mid-block norm, TAEF2's 1/8 level)    └───────────────────────────────────────────┘

Architecture and weights: https://github.com/madebyollin/taesd (MIT). Every layer keeps the place in its
`nn.Sequential` that the published `*_encoder.pth` and `*_decoder.pth` name, so that those files load into
`encoder` and `decoder` as they are. The latent is the one that the diffusion model of the same name works
on: the big autoencoder's scale and shift are already in the weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.layers import GroupNorm, fast_layout

WIDTH = 64
DOWNSCALE = 8
LATENT_MAGNITUDE = 3  # latents saturate here; taesd.py, class Clamp
NORM_GROUPS = 4
NORM_EXPANSION = 4  # channels of the mid-block norm over WIDTH


@dataclass(frozen=True, kw_only=True)
class TinyAutoencoderConfig:
    """What differs within the family: the latent's channels, and the norm in the blocks at 1/8."""

    latents: int = 4
    midblock_norm: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TinyAutoencoderConfig:
        """The inverse of to_dict."""
        return cls(**values)


TAESD = TinyAutoencoderConfig()  # SD 1.x and 2.x
TAESDXL = TinyAutoencoderConfig()  # SDXL: TAESD's layers, other weights
TAESD3 = TinyAutoencoderConfig(latents=16)
TAEF1 = TinyAutoencoderConfig(latents=16)  # FLUX.1
TAEF2 = TinyAutoencoderConfig(latents=32, midblock_norm=True)  # FLUX.2


class TinyAutoencoder(nn.Module):
    """An encoder and a decoder between pictures in 0..1 and a diffusion model's latents."""

    def __init__(self, config: TinyAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _encoder(config)
        self.decoder = _decoder(config)

    def encode(self, picture: Tensor) -> Tensor:
        """(B, 3, H, W) in 0..1, sides multiples of 8 -> latent (B, C, H/8, W/8).

        Raises InvalidArgument for other shapes.
        """
        if picture.ndim != 4 or picture.shape[1] != 3 or any(side % DOWNSCALE for side in picture.shape[2:]):
            raise InvalidArgument(
                f"picture: shape {tuple(picture.shape)}, expected (batch, 3, height, width) with sides that "
                f"are multiples of {DOWNSCALE}; pad it"
            )
        latent: Tensor = self.encoder(fast_layout(picture))
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Latent (B, C, h, w) -> picture (B, 3, 8h, 8w), about 0..1: the caller clamps.

        Raises InvalidArgument for other shapes.
        """
        if latent.ndim != 4 or latent.shape[1] != self.config.latents:
            raise InvalidArgument(
                f"latent: shape {tuple(latent.shape)}, expected (batch, {self.config.latents}, height, width)"
            )
        picture: Tensor = self.decoder(fast_layout(latent))
        return picture


def _encoder(config: TinyAutoencoderConfig) -> nn.Sequential:
    norm = config.midblock_norm
    return nn.Sequential(
        _conv(3, WIDTH), _Block(),
        _halve(), _Block(), _Block(), _Block(),
        _halve(), _Block(), _Block(), _Block(),
        _halve(), _Block(norm), _Block(norm), _Block(norm),
        _conv(WIDTH, config.latents),
    )  # fmt: skip


def _decoder(config: TinyAutoencoderConfig) -> nn.Sequential:
    norm = config.midblock_norm
    return nn.Sequential(
        _Saturate(), _conv(config.latents, WIDTH), nn.ReLU(inplace=True),
        _Block(norm), _Block(norm), _Block(norm), _double(), _conv(WIDTH, WIDTH, bias=False),
        _Block(), _Block(), _Block(), _double(), _conv(WIDTH, WIDTH, bias=False),
        _Block(), _Block(), _Block(), _double(), _conv(WIDTH, WIDTH, bias=False),
        _Block(), _conv(WIDTH, 3),
    )  # fmt: skip


def _conv(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


def _halve() -> nn.Conv2d:
    return nn.Conv2d(WIDTH, WIDTH, 3, padding=1, stride=2, bias=False)


def _double() -> nn.Upsample:
    return nn.Upsample(scale_factor=2)


class _Saturate(nn.Module):
    def forward(self, latent: Tensor) -> Tensor:
        return torch.tanh(latent / LATENT_MAGNITUDE) * LATENT_MAGNITUDE


class _Block(nn.Module):
    """(B, WIDTH, H, W) -> the same, not negative."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        wide = NORM_EXPANSION * WIDTH
        self.pool = nn.Sequential(
            nn.Conv2d(WIDTH, wide, 1, bias=False),
            GroupNorm(NORM_GROUPS, wide),
            nn.ReLU(inplace=True),
            nn.Conv2d(wide, WIDTH, 1, bias=False),
        ) if norm else None  # fmt: skip
        self.conv = nn.Sequential(
            _conv(WIDTH, WIDTH),
            nn.ReLU(inplace=True),
            _conv(WIDTH, WIDTH),
            nn.ReLU(inplace=True),
            _conv(WIDTH, WIDTH),
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        change: Tensor = self.conv(x)
        return change.add_(x).relu_()
