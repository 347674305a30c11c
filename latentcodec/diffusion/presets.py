"""How a clean-up is run, and the named ways. Loads no PyTorch: the command line lists the names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

MATCHED = "matched"  # the default


@dataclass(frozen=True, kw_only=True)
class Cleanup:
    """How to clean up.

    steps: how many are run; with a strength, how many the whole schedule has. strength: None matches the
    noise level to the error, 0 to 1 runs the last such share of the steps. eta: DDIM's. seed: of the first
    image of the batch; the next ones have the next seeds.
    """

    steps: int = 3
    strength: float | None = None
    eta: float = 0.0
    seed: int = 0


PRESETS: Mapping[str, Cleanup] = MappingProxyType(
    {
        MATCHED: Cleanup(),
        # Buehlmann, "Stable Diffusion based image compression" (2022): the last two of 66 steps. The run ends
        # at noise 0, where that one ended at the schedule's least level.
        "seed-2022": Cleanup(steps=66, strength=0.04, eta=0.9),
    }
)
