"""When training ends, and the learning rate on the way there.

Plan:      ... step ─► the end, by steps or by seconds
Schedule:  warm-up ─► constant ─► cool-down to (almost) zero, once the end is near
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Schedule:
    """The learning rate as a function of the step; `cooldown_start` is None while the rate is constant."""

    warm_up: int
    cooldown_start: int | None = None
    cooldown_steps: int = 0

    def factor(self, step: int) -> float:
        """What the peak learning rate is multiplied with at a step."""
        factor = min(1.0, (step + 1) / max(self.warm_up, 1))
        if self.cooldown_start is not None:
            done = (step - self.cooldown_start) / max(self.cooldown_steps, 1)
            factor *= max(0.0, 1 - math.sqrt(min(1.0, max(0.0, done))) * 0.98)
        return factor

    def ended(self, step: int) -> bool:
        """Whether the cool-down is over."""
        return self.cooldown_start is not None and step >= self.cooldown_start + self.cooldown_steps


@dataclass
class Plan:
    """Where training is to end: at a step, or after so many seconds of training in all; None: not by that.

    The last `cooldown_seconds` of a plan in seconds go at a falling rate; one in steps has its cool-down in
    the schedule from the start.
    """

    end_step: int | None = None
    end_seconds: float | None = None
    cooldown_seconds: float = 0.0
