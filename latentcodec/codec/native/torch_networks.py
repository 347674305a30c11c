"""An encoder's networks by PyTorch, on any device."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from latentcodec.codec.native.coder import Floats
from latentcodec.nn.device import full_precision
from latentcodec.nn.native.entropy_model import HyperAnalysis
from latentcodec.nn.native.transform import Analysis
from latentcodec.picture.picture import Pixels
from latentcodec.weights.native import NativeWeights
from latentcodec.weights.native_modules import analysis, hyper_analysis


def samples_tensor(pixels: Pixels) -> Tensor:
    """Pixels as a tensor of integers: PyTorch has hardly any operations on uint16."""
    contiguous = np.ascontiguousarray(pixels)
    return torch.from_numpy(contiguous if contiguous.dtype == np.uint8 else contiguous.astype(np.int32))


class TorchNetworks:
    """coder.EncoderNetworks on a device."""

    def __init__(self, weights: NativeWeights, device: torch.device) -> None:
        self.weights, self.device = weights, device

    @cached_property
    def analysis(self) -> Analysis:
        """The analysis transform."""
        return analysis(self.weights, self.device)

    @cached_property
    def hyper_analysis(self) -> HyperAnalysis:
        """What makes hyperlatents."""
        return hyper_analysis(self.weights, self.device)

    def analyse(self, pixels: Pixels, level: int, peak: int = 255) -> Floats:
        """As EncoderNetworks says."""
        with full_precision(self.device):
            x = samples_tensor(pixels).to(self.device).permute(2, 0, 1)[None].float()
            # Channels last is a fifth faster on CPUs.
            x = (x / peak).contiguous(memory_format=torch.channels_last)
            y: Floats = self.analysis(x, self._level(level))[0].cpu().contiguous().numpy()
        return y

    def hyperlatents(self, y: Floats, level: int) -> Floats:
        """As EncoderNetworks says."""
        with full_precision(self.device):
            z: Floats = self.hyper_analysis(self._tensor(y)[None], self._level(level))[0].cpu().numpy()
        return z

    def _tensor(self, y: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(y)).to(self.device)

    def _level(self, level: int) -> Tensor:
        return torch.tensor([level], dtype=torch.float32, device=self.device)
