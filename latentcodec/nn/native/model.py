"""The native model in training form: y = g_a(x); y^, bits = entropy(y); x^ = g_s(y^)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latentcodec.nn.knots import MAX_LEVEL
from latentcodec.nn.layers import interpolate_knots
from latentcodec.nn.native.config import NativeConfig
from latentcodec.nn.native.entropy_model import TrainableEntropyModel
from latentcodec.nn.native.transform import Analysis, Synthesis


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
        """Set starting statistics from pictures (B, 3, H, W) in 0..1."""
        y = self.analysis(x, torch.zeros(len(x), device=x.device))
        log_gain = self.analysis.log_gain
        unit = y * (-log_gain[0])[None, :, None, None].exp()
        self.entropy.calibrate(unit, log_gain)
        level = torch.arange(len(x), device=x.device) / len(x) * MAX_LEVEL
        self.synthesis.calibrate(unit * interpolate_knots(log_gain, level).exp(), level)

    def forward(self, x: Tensor, level: Tensor, relaxed: bool = True) -> tuple[Tensor, Tensor]:
        """x (B, 3, H, W) in 0..1, sides multiples of 32; level (B,). Returns x^ and bits per picture (B,)."""
        latents, bits_y, bits_z = self.entropy(self.analysis(x, level), level, relaxed)
        return self.synthesis(latents, level), bits_y + bits_z
