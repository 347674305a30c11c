"""The UNet of latent diffusion models: noisy latent, time and text -> noise (or v).

    t, time_condition ─► TimeEmbedding ─┐
    labels ─► embedding ────────────────┼─► + ─► silu ─► e, to every resnet
    added ─► TimeEmbedding ─────────────┘

    x (B,Cin,H,W) ─► conv ─► [ (resnet ─► transformer) x 2 ─► halve ] x levels ─► middle:
                       └───────── every output is kept ───────┘            resnet ─► transformer ─► resnet
                                           ▼                                                          │
    (B,4,H,W) ◄─ conv ◄─ silu ◄─ norm ◄─ [ double ◄─ (transformer ◄─ resnet ◄─ concatenate) x 3 ] x levels

Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022). Parameter names are
those of the files in the diffusers layout (`UNet2DConditionModel`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.layers import (
    Downsample,
    GroupNorm,
    ResnetBlock,
    TimeEmbedding,
    Upsample,
    fast_layout,
    norm_silu,
    sinusoid,
)
from latentcodec.nn.stable_diffusion.spatial_transformer import SpatialTransformer

NORM_EPS = 1e-5
TIME_EXPANSION = 4  # width of the time embedding over the first level's channels


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes and options of a UNet. Tuples have an entry per level, from the full resolution down.

    depth: transformer blocks after each resnet, 0 for none; middle_depth: the same at the bottom.
    heads: attention heads; the models with a fixed head dimension d have channels / d.
    cross_only: levels whose self-attention is replaced by a second attention to the context.
    linear_projections: the transformers' projections are stored as linear layers, not as convolutions.
    context: channels of the text embedding.
    classes: rows of the label embedding; added: width of the added embedding's vector (ADM);
    time_condition: width of the guidance embedding (LCM). 0: the model has none.
    upcast_attention: attention in float32 also where the model runs in half precision (SD 2.1).
    """

    inputs: int = 4
    outputs: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    blocks: int = 2
    depth: tuple[int, ...] = (1, 1, 1, 0)
    middle_depth: int = 1
    heads: tuple[int, ...] = (8, 8, 8, 8)
    cross_only: tuple[bool, ...] = (False, False, False, False)
    linear_projections: bool = False
    context: int = 768
    classes: int = 0
    added: int = 0
    time_condition: int = 0
    groups: int = 32
    upcast_attention: bool = False

    def __post_init__(self) -> None:
        """Raises InvalidArgument where the tuples differ in length, or heads do not divide channels."""
        for name in ("depth", "heads", "cross_only"):
            if len(getattr(self, name)) != len(self.channels):
                raise InvalidArgument(
                    f"{name}: {len(getattr(self, name))} levels, but channels has {len(self.channels)}"
                )
        for channels, heads in zip(self.channels, self.heads, strict=True):
            if channels % heads:
                raise InvalidArgument(f"heads: {heads} heads do not divide {channels} channels")

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> UNetConfig:
        """The inverse of to_dict."""
        options: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**options)


# The published configurations (generative-models, stablediffusion, and unet/config.json of each model).
SD15 = UNetConfig()  # all of SD 1.x
SD15_INPAINTING = replace(SD15, inputs=9)
LCM = replace(SD15, time_condition=256)  # LCM_Dreamshaper_v7
SD2 = replace(SD15, heads=(5, 10, 20, 20), linear_projections=True, context=1024)  # 2.0-base and 2.0-v
SD21 = replace(SD2, upcast_attention=True)
SD2_DEPTH = replace(SD2, inputs=5)
SD2_INPAINTING = replace(SD2, inputs=9)
X4_UPSCALER = UNetConfig(
    inputs=7,
    channels=(256, 512, 512, 1024),
    depth=(0, 1, 1, 1),
    cross_only=(True, True, True, False),
    linear_projections=True,
    context=1024,
    classes=1000,
)
SDXL = UNetConfig(
    channels=(320, 640, 1280),
    depth=(0, 2, 10),
    middle_depth=10,
    heads=(5, 10, 20),
    cross_only=(False, False, False),
    linear_projections=True,
    context=2048,
    added=2816,
)


def size_embedding(pooled: Tensor, sizes: Tensor, channels: int = 256) -> Tensor:
    """SDXL's added vector: pooled text (B, P) and sizes (B, 6) in pixels -> (B, P + 6 channels).

    The sizes are original height and width, crop top and left, target height and width.
    """
    return torch.cat([pooled, sinusoid(sizes, channels).flatten(1).to(pooled.dtype)], dim=1)


class UNet(nn.Module):
    """Predicts what its scheduler calls epsilon or v."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, groups = config.channels, config.groups
        width = TIME_EXPANSION * channels[0]
        levels = range(len(channels))
        self.conv_in = nn.Conv2d(config.inputs, channels[0], 3, padding=1)
        self.time_embedding = TimeEmbedding(channels[0], width, config.time_condition)
        self.class_embedding = nn.Embedding(config.classes, width) if config.classes else None
        self.add_embedding = TimeEmbedding(config.added, width) if config.added else None
        self.down_blocks = nn.ModuleList(_Down(config, level) for level in levels)
        self.mid_block = _Middle(config)
        self.up_blocks = nn.ModuleList(_Up(config, level) for level in reversed(levels))
        self.conv_norm_out = GroupNorm(groups, channels[0], NORM_EPS)
        self.conv_out = nn.Conv2d(channels[0], config.outputs, 3, padding=1)

    def forward(
        self,
        x: Tensor,
        timestep: Tensor | float,
        context: Tensor,
        *,
        labels: Tensor | None = None,
        added: Tensor | None = None,
        time_condition: Tensor | None = None,
    ) -> Tensor:
        """Noisy latent (B, inputs, H, W) -> prediction (B, outputs, H, W), of any H and W.

        timestep: a number or a tensor (B,) or (), 0 to 999, fractions allowed.
        context: text embedding (B, S, config.context).
        labels: (B,) int, where the model has classes (x4: the noise level). added: (B, config.added), where
        it has an added embedding (SDXL: see size_embedding). time_condition: (B, config.time_condition), the
        guidance embedding of a model that has one; without it the embedding's part is left out.
        Raises InvalidArgument for shapes that do not fit, for what is missing, and for what the model lacks.
        """
        _check_channels("x", x, 4, 1, self.config.inputs)
        _check_channels("context", context, 3, 2, self.config.context)
        embedding = F.silu(self._embedding(x, timestep, labels, added, time_condition))
        h = self.conv_in(fast_layout(x))
        skips = [h]
        for level in self.down_blocks:
            h = level(h, embedding, context, skips)
        h = self.mid_block(h, embedding, context)
        for level in self.up_blocks:
            h = level(h, embedding, context, skips)
        out: Tensor = self.conv_out(norm_silu(self.conv_norm_out, h))
        return out

    def _embedding(
        self,
        x: Tensor,
        timestep: Tensor | float,
        labels: Tensor | None,
        added: Tensor | None,
        time_condition: Tensor | None,
    ) -> Tensor:
        """(B, width), the sum of the embeddings that the resnets get."""
        config = self.config
        for name, value, needed in (
            ("labels", labels, config.classes),
            ("added", added, config.added),
            ("time_condition", time_condition, config.time_condition),
        ):
            if value is not None and not needed:
                raise InvalidArgument(f"{name}: this model takes none")
            if value is None and needed and name != "time_condition":
                raise InvalidArgument(f"{name}: this model needs it, of width {needed}")
        times = torch.as_tensor(timestep, device=x.device).expand(len(x))
        embedding: Tensor = self.time_embedding(
            sinusoid(times, config.channels[0]).to(x.dtype), time_condition
        )
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(labels)
        if self.add_embedding is not None and added is not None:
            _check_channels("added", added, 2, 1, config.added)
            embedding = embedding + self.add_embedding(added)
        return embedding


def _check_channels(name: str, x: Tensor, dimensions: int, axis: int, channels: int) -> None:
    if x.ndim != dimensions or x.shape[axis] != channels:
        raise InvalidArgument(
            f"{name}: shape {tuple(x.shape)}, expected {dimensions} dimensions with {channels} channels in "
            f"dimension {axis}"
        )


class _Level(nn.Module):
    """Resnets at one resolution, each with a transformer where the level has attention."""

    def __init__(self, config: UNetConfig, level: int, inputs: list[int]) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(_resnet(config, width, config.channels[level]) for width in inputs)
        self.attentions = nn.ModuleList(
            _transformer(config, level, config.depth[level], config.cross_only[level])
            for _ in inputs
            if config.depth[level]
        )

    def _block(self, index: int, h: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        h = self.resnets[index](h, embedding)
        return self.attentions[index](h, context) if self.attentions else h


class _Down(_Level):
    """Pushes every output to skips."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        above, here = config.channels[max(level - 1, 0)], config.channels[level]
        super().__init__(config, level, [above] + [here] * (config.blocks - 1))
        last = level == len(config.channels) - 1
        self.downsamplers = nn.ModuleList([] if last else [Downsample(here, one_sided=False)])

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor, skips: list[Tensor]) -> Tensor:
        for index in range(len(self.resnets)):
            h = self._block(index, h, embedding, context)
            skips.append(h)
        for downsample in self.downsamplers:
            h = downsample(h)
            skips.append(h)
        return h


class _Up(_Level):
    """Pops an input of every resnet from skips."""

    def __init__(self, config: UNetConfig, level: int) -> None:
        channels, blocks = config.channels, config.blocks
        below, here, above = channels[level : level + 2][-1], channels[level], channels[max(level - 1, 0)]
        from_below, skipped = [below] + [here] * blocks, [here] * blocks + [above]
        super().__init__(config, level, [a + b for a, b in zip(from_below, skipped, strict=True)])
        self.upsamplers = nn.ModuleList([Upsample(here)] if level else [])

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor, skips: list[Tensor]) -> Tensor:
        for index in range(len(self.resnets)):
            h = self._block(index, torch.cat([h, skips.pop()], dim=1), embedding, context)
        for upsample in self.upsamplers:  # odd sizes were rounded up on the way down
            h = upsample(h, (skips[-1].shape[2], skips[-1].shape[3]))
        return h


class _Middle(nn.Module):
    """Resnet, transformer, resnet at the lowest resolution."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        channels = config.channels[-1]
        self.resnets = nn.ModuleList(_resnet(config, channels, channels) for _ in range(2))
        self.attentions = nn.ModuleList([_transformer(config, -1, config.middle_depth, False)])

    def forward(self, h: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        h = self.attentions[0](self.resnets[0](h, embedding), context)
        out: Tensor = self.resnets[1](h, embedding)
        return out


def _resnet(config: UNetConfig, inputs: int, outputs: int) -> ResnetBlock:
    width = TIME_EXPANSION * config.channels[0]
    return ResnetBlock(inputs, outputs, groups=config.groups, eps=NORM_EPS, time=width)


def _transformer(config: UNetConfig, level: int, depth: int, cross_only: bool) -> SpatialTransformer:
    return SpatialTransformer(
        config.channels[level],
        config.context,
        depth=depth,
        heads=config.heads[level],
        groups=config.groups,
        linear=config.linear_projections,
        cross_only=cross_only,
        upcast=config.upcast_attention,
    )
