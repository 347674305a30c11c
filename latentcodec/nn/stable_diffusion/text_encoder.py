"""The CLIP text encoders that the diffusion models are conditioned on.

    ids (B,T) ─► token + position embedding ─► layer x (n-1) ─┬─► layer ─► norm ─┬─► last (B,T,C)
                                                              │                  └─ at the first end token
                                             penultimate (B,T,C)                    ─► [projection] ─► pooled
                                                              └─► norm ─► penultimate_normed

    layer:  x ─► + attention(norm(x)) ─► + linear(gelu(linear(norm(x))))
            attention is causal and takes no padding mask: the models were trained to read their padding

What a family takes:

    SD 1.x, LCM     CLIP_L       last
    SD 2.x, x4      OPENCLIP_H   penultimate_normed; the files of diffusers hold OPENCLIP_H_TRUNCATED: last
    SDXL            CLIP_L       penultimate, and beside it
                    OPENCLIP_BIGG penultimate, and pooled

Radford et al. 2021, https://arxiv.org/abs/2103.00020; OpenCLIP, https://doi.org/10.5281/zenodo.5143773. The
names of the parameters are those of transformers' `CLIPTextModel` (5.6 and newer) in memory, plus
`text_projection.weight`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentcodec.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig:
    """The sizes of a text encoder."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    projection: int | None = None  # the size of `pooled`; None: no projection, it has `width`
    quick_gelu: bool = False  # OpenAI's approximation x sigmoid(1.702 x) instead of the exact one
    vocabulary: int = 49408
    length: int = 77  # positions
    end_token: int = 49407

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TextEncoderConfig:
        """The inverse of to_dict."""
        return cls(**values)


CLIP_L = TextEncoderConfig(width=768, layers=12, heads=12, feed_forward=3072, quick_gelu=True)
OPENCLIP_H = TextEncoderConfig(width=1024, layers=24, heads=16, feed_forward=4096, projection=1024)
OPENCLIP_BIGG = TextEncoderConfig(width=1280, layers=32, heads=20, feed_forward=5120, projection=1280)
# Without what SD 2.x does not use: its `last` is the `penultimate_normed` of OPENCLIP_H.
OPENCLIP_H_TRUNCATED = replace(OPENCLIP_H, layers=OPENCLIP_H.layers - 1, projection=None)

NORM_EPSILON = 1e-5
QUICK_GELU = 1.702


@dataclass(frozen=True)
class TextFeatures:
    """What the networks take from a text of T tokens, C = width wide; see the table above."""

    last: Tensor  # (B, T, C)
    penultimate: Tensor  # (B, T, C)
    penultimate_normed: Tensor  # (B, T, C)
    pooled: Tensor  # (B, projection or C)


class TextEncoder(nn.Module):
    """Token ids -> features of the text."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config)
        self.final_layer_norm = _norm(config)
        if config.projection is not None:
            self.text_projection = nn.Linear(config.width, config.projection, bias=False)

    def forward(self, ids: Tensor) -> TextFeatures:
        """(B, T) integers, T at most `length`, each row with an end token (more of them may pad).

        `pooled` is read at the first end token, not at the largest id: learned tokens may be appended to
        the vocabulary. Raises InvalidArgument for other shapes, for ids outside the vocabulary and for a
        row without an end token.
        """
        is_end = self._check(ids)
        x = penultimate = self.embeddings(ids)
        for layer in self.encoder.layers:
            penultimate, x = x, layer(x)
        last = self.final_layer_norm(x)
        rows = torch.arange(len(ids), device=ids.device)
        pooled = last[rows, is_end.int().argmax(dim=1)]  # of equal values, the first
        if self.config.projection is not None:
            pooled = self.text_projection(pooled)
        return TextFeatures(last, penultimate, self.final_layer_norm(penultimate), pooled)

    def _check(self, ids: Tensor) -> Tensor:
        """Where the end tokens are: (B, T) of bool."""
        vocabulary = self.embeddings.token_embedding.num_embeddings
        if ids.ndim != 2 or ids.is_floating_point() or not 0 < ids.shape[1] <= self.config.length:
            raise InvalidArgument(
                f"ids: {ids.dtype} of shape {tuple(ids.shape)}, expected (batch, up to {self.config.length}) "
                "integers; split a longer text"
            )
        is_end = ids == self.config.end_token
        if not is_end.any(dim=1).all():
            raise InvalidArgument(f"ids: a row has no end token {self.config.end_token}; append it")
        if ids.numel() and (ids.min() < 0 or ids.max() >= vocabulary):
            raise InvalidArgument(
                f"ids: from {int(ids.min())} to {int(ids.max())}, expected 0 to {vocabulary - 1}; "
                "the tokenizer belongs to another encoder"
            )
        return is_end


class _Embeddings(nn.Module):
    """(B, T) ids -> (B, T, C)."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocabulary, config.width)
        self.position_embedding = nn.Embedding(config.length, config.width)

    def forward(self, ids: Tensor) -> Tensor:
        tokens: Tensor = self.token_embedding(ids)
        return tokens + self.position_embedding.weight[: ids.shape[1]]


class _Layers(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))


class _Layer(nn.Module):
    """(B, T, C) -> the same."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.layer_norm1 = _norm(config)
        self.self_attn = _Attention(config)
        self.layer_norm2 = _norm(config)
        self.mlp = _FeedForward(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        change: Tensor = self.mlp(self.layer_norm2(x))
        return x + change


class _Attention(nn.Module):
    """Each token sees itself and those before it."""

    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(config.width, config.width) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mixed: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return mixed


class _FeedForward(nn.Module):
    def __init__(self, config: TextEncoderConfig) -> None:
        super().__init__()
        self.activation: Callable[[Tensor], Tensor] = _quick_gelu if config.quick_gelu else F.gelu
        self.fc1 = nn.Linear(config.width, config.feed_forward)
        self.fc2 = nn.Linear(config.feed_forward, config.width)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.fc2(self.activation(self.fc1(x)))
        return change


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(QUICK_GELU * x)


def _norm(config: TextEncoderConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=NORM_EPSILON)
