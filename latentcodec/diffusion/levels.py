"""The noise levels that a sampler visits: the choice of timesteps, and img2img's late start.

    steps, spacing ─► timesteps ─► sigmas, falling ─► + final level (0 or the schedule's least) ─► Levels
                                                           Levels.from_strength(s): the last s of the steps

    spacing, T = 1000, 4 steps      linspace  999 666 333   0      ends on both ends
                                    leading   750 500 250   0      plus an offset; LDM's grid has offset 1
                                    trailing  999 749 499 249

Lin et al., "Common diffusion noise schedules and sample steps are flawed" (2023), table 2. Two grids differ
from diffusers on purpose: linspace with one step starts at the top (there at timestep 0), and DDIM and PLMS
step from each level to the next one that they evaluate (there by T // steps, which misses it in linspace).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from latentcodec.diffusion.schedule import NoiseSchedule, TimestepRule
from latentcodec.errors import InvalidArgument

Spacing = Literal["leading", "linspace", "trailing"]

KARRAS_RHO = 7.0  # Karras et al. (2022), equation 5 and the text under it
LCM_STEPS = 50  # the DDIM grid that latent consistency models are distilled on: Luo et al. (2023)


@dataclass(frozen=True)
class Levels:
    """Falling noise levels, `steps` + 1 of them, and how the network's timesteps are found from them.

    A run starts at sigmas[0] and ends at sigmas[-1], which is never evaluated and may be 0.
    """

    sigmas: tuple[float, ...]
    rule: TimestepRule = "log"

    @property
    def steps(self) -> int:
        """The number of steps from the first level to the last."""
        return len(self.sigmas) - 1

    def from_strength(self, strength: float) -> Levels:
        """The last `strength` (0..1) of the steps, rounded down, but at least one.

        The picture gets noise of level sigmas[0] of the result, the first level that is run: 1 forgets the
        picture, 0 is one step at the lowest level.
        """
        if not 0 <= strength <= 1:
            raise InvalidArgument(f"strength {strength:g}: it must lie within 0..1")
        steps = max(1, int(self.steps * strength + 1e-9))  # 0.29 of 100 steps are 29, in floats too
        return Levels(self.sigmas[self.steps - steps :], self.rule)


def ddim_levels(
    schedule: NoiseSchedule,
    steps: int,
    spacing: Spacing = "leading",
    *,
    offset: int = 1,
    to_zero: bool = False,
) -> Levels:
    """DDIM's and PLMS's: whole timesteps, the end at the schedule's least level (at 0 if `to_zero`)."""
    timesteps = [float(round(t)) for t in spaced_timesteps(schedule, steps, spacing, offset=offset)]
    return _through(schedule, timesteps, 0.0 if to_zero else schedule.least)


def euler_levels(
    schedule: NoiseSchedule,
    steps: int,
    spacing: Spacing = "leading",
    *,
    offset: int = 1,
    karras: bool = False,
) -> Levels:
    """Euler's: linspace timesteps may be fractions, the end is 0. Karras: between the same two ends."""
    levels = _through(schedule, spaced_timesteps(schedule, steps, spacing, offset=offset), 0.0)
    if not karras:
        return levels
    return Levels((*karras_sigmas(levels.sigmas[-2], levels.sigmas[0], steps), 0.0), "log")


def dpm_levels(
    schedule: NoiseSchedule,
    steps: int,
    spacing: Spacing = "linspace",
    *,
    offset: int = 1,
    karras: bool = False,
) -> Levels:
    """DPM++'s: one timestep more is spaced and the lowest dropped. Karras: over the whole schedule."""
    if not karras:
        extra = 0 if spacing == "trailing" else 1
        timesteps = spaced_timesteps(schedule, steps + extra, spacing, offset=offset)[:steps]
        return _through(schedule, [float(round(timestep)) for timestep in timesteps], 0.0)
    rule: TimestepRule = "log" if schedule.kind == "cosine" else "nearest"
    return Levels((*karras_sigmas(schedule.least, schedule.most, steps), 0.0), rule)


def lcm_levels(
    schedule: NoiseSchedule, steps: int, *, original_steps: int = LCM_STEPS, strength: float = 1.0
) -> Levels:
    """Latent consistency models': `steps` of the `original_steps` timesteps that they were distilled on.

    A strength below 1 keeps the lowest of the original ones and takes the same number of steps from those.
    """
    remaining = int(original_steps * strength + 1e-9)
    if not 1 <= steps <= remaining <= original_steps <= schedule.timesteps:
        raise InvalidArgument(
            f"LCM: {steps} steps of {original_steps} at strength {strength:g}, which leaves {remaining} of "
            f"{schedule.timesteps} timesteps; steps must be 1 to {remaining} and strength in 0..1"
        )
    apart = schedule.timesteps // original_steps
    return _through(schedule, [(remaining - i * remaining // steps) * apart - 1.0 for i in range(steps)], 0.0)


def spaced_timesteps(
    schedule: NoiseSchedule, steps: int, spacing: Spacing, *, offset: int = 1
) -> list[float]:
    """`steps` falling timesteps of 0 to T-1; `offset` is added to leading ones only.

    Raises InvalidArgument for steps outside 1 to T and an unknown spacing.
    """
    last = schedule.timesteps - 1
    if not 1 <= steps <= schedule.timesteps:
        raise InvalidArgument(f"{steps} steps: the schedule allows 1 to {schedule.timesteps}")
    if spacing == "leading":
        apart = schedule.timesteps // steps
        return [float(min(i * apart + offset, last)) for i in reversed(range(steps))]
    if spacing == "linspace":
        return [float(timestep) for timestep in np.linspace(last, 0, steps)]
    if spacing == "trailing":
        return [float(round(schedule.timesteps * (1 - i / steps)) - 1) for i in range(steps)]
    raise InvalidArgument(f"spacing {spacing!r}: use leading, linspace or trailing")


def karras_sigmas(least: float, most: float, steps: int) -> tuple[float, ...]:
    """`steps` levels from `most` down to `least`, evenly spaced in sigma^(1/7)."""
    low, high = least ** (1 / KARRAS_RHO), most ** (1 / KARRAS_RHO)
    return tuple(float(root) ** KARRAS_RHO for root in np.linspace(high, low, steps))


def _through(schedule: NoiseSchedule, timesteps: list[float], final: float) -> Levels:
    return Levels((*(schedule.sigma_of(timestep) for timestep in timesteps), final), "linear")
