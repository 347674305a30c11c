"""The safety checker that Stable Diffusion 1.x came with: does a picture resemble one of a list of concepts?

    picture ─► 224x224 ─► CLIP's vision transformer ─► class token ─► norm ─► projection ─► e
    cos(e, special concept) > its threshold ─► all thresholds are 0.01 lower
    cos(e, concept) > its threshold, of any ─► flagged

Radford et al. 2021, https://arxiv.org/abs/2103.00020; the concepts are known by their embeddings alone
(diffusers, pipelines/stable_diffusion/safety_checker.py). Parameter names are those of its files, but for a
doubled `vision_model.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures; openai/CLIP, clip/clip.py
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
ADJUSTMENT = 0.01  # of the thresholds, after a special concept
DIGITS = 3  # that scores are rounded to before they are compared with 0
QUICK_GELU = 1.702
NORM_EPSILON = 1e-5


@dataclass(frozen=True, kw_only=True)
class SafetyCheckerConfig:
    """Sizes: CLIP ViT-L/14's by default."""

    width: int = 1024
    layers: int = 24
    heads: int = 16
    feed_forward: int = 4096
    side: int = 224
    patch: int = 14
    projection: int = 768
    concepts: int = 17
    special: int = 3


def picture_for_checker(image: Image.Image, side: int = SafetyCheckerConfig.side) -> Tensor:
    """(1, 3, side, side) float32: the shorter side resized, bicubic, the middle cut out, normalised."""
    image = image.convert("RGB")
    short = min(image.size)
    size = [side if length == short else int(side * length / short) for length in image.size]
    resized = np.asarray(image.resize((size[0], size[1]), Image.Resampling.BICUBIC), np.float32) / 255
    top, left = (resized.shape[0] - side) // 2, (resized.shape[1] - side) // 2
    cut = torch.from_numpy(resized[top : top + side, left : left + side]).permute(2, 0, 1)
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    return ((cut - mean) / deviation)[None]


class SafetyChecker(nn.Module):
    """Says of pictures whether they are flagged."""

    def __init__(self, config: SafetyCheckerConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_model = _Vision(config)
        self.visual_projection = nn.Linear(config.width, config.projection, bias=False)
        self.concept_embeds = nn.Parameter(torch.zeros(config.concepts, config.projection))
        self.special_care_embeds = nn.Parameter(torch.zeros(config.special, config.projection))
        self.concept_embeds_weights = nn.Parameter(torch.zeros(config.concepts))
        self.special_care_embeds_weights = nn.Parameter(torch.zeros(config.special))

    def forward(self, pictures: Tensor) -> list[bool]:
        """(B, 3, side, side) as picture_for_checker gives it -> whether each is flagged."""
        embedding = F.normalize(self.visual_projection(self.vision_model(pictures)))
        special = embedding @ F.normalize(self.special_care_embeds).t() - self.special_care_embeds_weights
        near = embedding @ F.normalize(self.concept_embeds).t() - self.concept_embeds_weights
        adjustment = ADJUSTMENT * (special.float().round(decimals=DIGITS) > 0).any(1, keepdim=True)
        flagged: list[bool] = ((near.float() + adjustment).round(decimals=DIGITS) > 0).any(1).tolist()
        return flagged


class _Vision(nn.Module):
    """(B, 3, side, side) -> the class token after the last norm (B, width)."""

    def __init__(self, config: SafetyCheckerConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.pre_layrnorm = _norm(config)  # so it is spelt in the files
        self.encoder: Any = nn.ModuleDict(
            {"layers": nn.ModuleList(_Layer(config) for _ in range(config.layers))}
        )
        self.post_layernorm = _norm(config)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.pre_layrnorm(self.embeddings(pictures))
        for layer in self.encoder["layers"]:
            x = layer(x)
        token: Tensor = self.post_layernorm(x[:, 0])
        return token


class _Embeddings(nn.Module):
    def __init__(self, config: SafetyCheckerConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.zeros(config.width))
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch, config.patch, bias=False)
        self.position_embedding = nn.Embedding((config.side // config.patch) ** 2 + 1, config.width)

    def forward(self, pictures: Tensor) -> Tensor:
        patches = self.patch_embedding(pictures).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(pictures), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class _Layer(nn.Module):
    """A transformer layer, norms first: (B, T, C) -> the same."""

    def __init__(self, config: SafetyCheckerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.layer_norm1, self.layer_norm2 = _norm(config), _norm(config)
        projections = {
            f"{name}_proj": nn.Linear(config.width, config.width) for name in ("q", "k", "v", "out")
        }
        self.self_attn: Any = nn.ModuleDict(projections)
        self.mlp: Any = nn.ModuleDict(
            {
                "fc1": nn.Linear(config.width, config.feed_forward),
                "fc2": nn.Linear(config.feed_forward, config.width),
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        normed = self.layer_norm1(x)
        q, k, v = (
            self.self_attn[f"{name}_proj"](normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("q", "k", "v")
        )
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.self_attn["out_proj"](attended)
        wide = self.mlp["fc1"](self.layer_norm2(x))
        change: Tensor = self.mlp["fc2"](wide * torch.sigmoid(QUICK_GELU * wide))
        return x + change


def _norm(config: SafetyCheckerConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, eps=NORM_EPSILON)
