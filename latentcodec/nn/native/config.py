"""Sizes of the native model's networks, and the constants of its arithmetic. No PyTorch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

PATCH = 8
ORDER = ((0, 1, 2, 3), (3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))  # [step][group] -> position 2*dy + dx
STEPS = 4
ROWS = 64  # of the entropy model's tables
FRACTION = 16  # means, rows and latents come in sixteenths
# Lapping kernels' values per unit of the trained parameters, so that the optimiser's steps suit them.
LAPPING_UNIT = 0.2
MEAN_LIMIT = 8191  # of a mean or a latent, in sixteenths


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
    def planes(self) -> tuple[int, int, int]:
        """Channels of each colour plane."""
        return self.luma, self.chroma, self.chroma

    @property
    def latents(self) -> int:
        """Latent channels C."""
        return sum(self.planes)

    @property
    def synthesis_halo(self) -> int:
        """Latents on each side that a decoded picture patch depends on."""
        # conv_in and two convolutions a block at 1/8; two in the fine block and conv_out at 1/4.
        return 1 + 2 * self.synthesis_blocks + math.ceil(3 / 2)

    @property
    def analysis_halo(self) -> int:
        """Latents' worth of pixels on each side that a latent depends on."""
        return math.ceil(3 / 2) + 2 * self.analysis_blocks + 1


@dataclass(frozen=True, kw_only=True)
class EntropyConfig:
    """Sizes of the entropy model. `latents` must be a multiple of 4."""

    latents: int = 112
    hyper: int = 48
    hyper_hidden: int = 160
    features: int = 96
    context: int = 144
    analysis: int = 128


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
