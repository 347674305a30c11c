"""The native model in training form: y = g_a(x); y^, bits = entropy(y); x^ = g_s(y^)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from latentcodec.nn.native.entropy_model import EntropyConfig, TrainableEntropyModel
from latentcodec.nn.native.transform import Analysis, Synthesis, TransformConfig


@dataclass(frozen=True, kw_only=True)
class NativeConfig:
    """Sizes of the whole model."""

    transform: TransformConfig = field(default_factory=TransformConfig)
    entropy: EntropyConfig = field(default_factory=EntropyConfig)

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NativeConfig:
        """The inverse of to_dict."""
        return cls(
            transform=TransformConfig(**values["transform"]), entropy=EntropyConfig(**values["entropy"])
        )


class NativeModel(nn.Module):
    """Analysis, entropy model and synthesis, trained together."""

    def __init__(self, config: NativeConfig) -> None:
        super().__init__()
        self.config = config
        self.analysis = Analysis(config.transform)
        self.synthesis = Synthesis(config.transform)
        self.entropy = TrainableEntropyModel(config.entropy)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Set the entropy model's starting statistics from pictures (B, 3, H, W) in 0..1."""
        y = self.analysis(x, torch.zeros(len(x), device=x.device))
        log_gain = self.analysis.log_gain
        self.entropy.calibrate(y * (-log_gain[0])[None, :, None, None].exp(), log_gain)

    def forward(self, x: Tensor, level: Tensor, relaxed: bool = True) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W) in 0..1, sides multiples of 32; level (B,). Returns x^ and bits per picture (B,)."""
        latents, bits_y, bits_z = self.entropy(self.analysis(x, level), level, relaxed)
        return self.synthesis(latents, level), bits_y + bits_z
