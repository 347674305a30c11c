"""Attention over the positions of a feature map, and from them to a text; as in latent diffusion models.

    x (B,C,H,W) ─► group norm ─► tokens (B,HW,C) ─► project ─► [ block ] x depth ─► project ─► + x

    block:  tokens ─► norm ─► attention to the tokens (or, cross-only, to the context) ─► + ─┐
         ┌──────────────────────────────────────────────────────────────────────────────────┘
         └► norm ─► attention to the context (B,S,K) ─► + ─► norm ─► GEGLU ─► linear ─► + ─► tokens

Rombach et al., "High-resolution image synthesis with latent diffusion models" (2022). Parameter names
are those of its files in the diffusers layout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.nn.stable_diffusion.layers import GroupNorm

TRANSFORMER_NORM_EPS = 1e-6  # of the group norm at the entrance; the layer norms have PyTorch's 1e-5
FEED_FORWARD_EXPANSION = 4


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, HW, C); a view where x is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def from_tokens(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, HW, C) -> (B, C, H, W), channels-last."""
    return tokens.reshape(len(tokens), *size, -1).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head attention of tokens (B, T, C) to a context (B, S, K); returns (B, T, C).

    `bias` is on the query, key and value. `upcast` computes in float32 what half precision overflows.
    """

    def __init__(
        self, channels: int, context: int, *, heads: int, bias: bool = False, upcast: bool = False
    ) -> None:
        super().__init__()
        self.heads = heads
        self.upcast = upcast
        self.to_q = nn.Linear(channels, channels, bias=bias)
        self.to_k = nn.Linear(context, channels, bias=bias)
        self.to_v = nn.Linear(context, channels, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.to_q(tokens), self.to_k(context), self.to_v(context))
        )
        if self.upcast:
            wide = torch.promote_types(query.dtype, torch.float32)
            query, key, value = query.to(wide), key.to(wide), value.to(wide)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.to_out[0](mixed.transpose(1, 2).flatten(2).to(tokens.dtype))
        return out


class SpatialTransformer(nn.Module):
    """(B, C, H, W) and a context (B, S, K) -> (B, C, H, W).

    depth: blocks; heads: attention heads of C / heads channels; linear: the projections are stored as
    linear layers instead of 1x1 convolutions; cross_only: both attentions of a block go to the context.
    """

    def __init__(
        self,
        channels: int,
        context: int,
        *,
        depth: int,
        heads: int,
        groups: int,
        linear: bool = False,
        cross_only: bool = False,
        upcast: bool = False,
    ) -> None:
        super().__init__()
        self.norm = GroupNorm(groups, channels, TRANSFORMER_NORM_EPS)
        self.proj_in = _projection(channels, linear)
        self.transformer_blocks = nn.ModuleList(
            _Block(channels, context, heads, cross_only, upcast) for _ in range(depth)
        )
        self.proj_out = _projection(channels, linear)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        tokens = _project(self.proj_in, to_tokens(self.norm(x)))
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        return from_tokens(_project(self.proj_out, tokens), (x.shape[2], x.shape[3])).add_(x)


def _projection(channels: int, linear: bool) -> nn.Linear | nn.Conv2d:
    return nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)


def _project(layer: nn.Linear | nn.Conv2d, tokens: Tensor) -> Tensor:
    """A 1x1 convolution is a linear layer over tokens, with two more dimensions in its weight."""
    return F.linear(tokens, layer.weight.flatten(1), layer.bias)


class _Block(nn.Module):
    def __init__(self, channels: int, context: int, heads: int, cross_only: bool, upcast: bool) -> None:
        super().__init__()
        self.cross_only = cross_only
        self.norm1 = nn.LayerNorm(channels)
        self.attn1 = Attention(channels, context if cross_only else channels, heads=heads, upcast=upcast)
        self.norm2 = nn.LayerNorm(channels)
        self.attn2 = Attention(channels, context, heads=heads, upcast=upcast)
        self.norm3 = nn.LayerNorm(channels)
        self.ff = _FeedForward(channels)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        normed = self.norm1(tokens)
        tokens = self.attn1(normed, context if self.cross_only else normed).add_(tokens)
        tokens = self.attn2(self.norm2(tokens), context).add_(tokens)
        out: Tensor = self.ff(self.norm3(tokens)).add_(tokens)
        return out


class _FeedForward(nn.Module):
    """GEGLU (Shazeer, 2020), then a linear layer. Number 1 of `net` is the dropout of the training code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = FEED_FORWARD_EXPANSION * channels
        self.net = nn.ModuleList([_GatedGelu(channels, wide), nn.Identity(), nn.Linear(wide, channels)])

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.net[2](self.net[0](tokens))
        return out


class _GatedGelu(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, tokens: Tensor) -> Tensor:
        value, gate = self.proj(tokens).chunk(2, dim=-1)
        return F.gelu(gate).mul_(value)
