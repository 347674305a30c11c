"""Noise schedules, and the map between a training timestep and a noise level sigma.

    NoiseSchedule ─► betas ─► alphas_cumprod ─► sigmas (T,)       sigma^2 = (1 - a) / a, a = alphas_cumprod

    variance preserving   x = sqrt(a) x0 + sqrt(1 - a) n           what networks are trained on
    sigma space           x = x0 + sigma n                         what everything in this folder works in

One is the other times a number: x_sigma = x_vp sqrt(1 + sigma^2). In sigma space DDIM, PLMS and Euler are the
same straight line, and a sampler needs no schedule (Karras et al., "Elucidating the design space of
diffusion-based generative models", 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from latentcodec.errors import InvalidArgument

PerTimestep = npt.NDArray[np.float64]
"""(T,) a number for each timestep of the training."""
ScheduleKind = Literal["linear", "scaled_linear", "cosine"]
TimestepRule = Literal["linear", "log", "nearest"]

COSINE_OFFSET = 0.008  # Nichol and Dhariwal, "Improved denoising diffusion probabilistic models" (2021)
COSINE_LARGEST_BETA = 0.999  # ibid.


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """How much noise a network was trained with at each of `timesteps` timesteps.

    linear: betas on a line from beta_start to beta_end (DDPM). scaled_linear: their square roots on a line;
    LDM configurations call this one "linear". cosine: by the squared cosine, without the two betas. The
    defaults are those of Stable Diffusion 1.x, 2.x and XL.
    """

    timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    kind: ScheduleKind = "scaled_linear"

    def __post_init__(self) -> None:
        if self.timesteps < 2:
            raise InvalidArgument(f"noise schedule: {self.timesteps} timesteps; it needs at least 2")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise InvalidArgument(
                f"noise schedule: betas {self.beta_start:g} to {self.beta_end:g}; they must rise within 0..1"
            )
        if self.kind not in ("linear", "scaled_linear", "cosine"):
            raise InvalidArgument(f"noise schedule {self.kind!r}: use linear, scaled_linear or cosine")

    @cached_property
    def betas(self) -> PerTimestep:
        """(T,) the variance that each timestep adds."""
        if self.kind == "linear":
            return np.linspace(self.beta_start, self.beta_end, self.timesteps)
        if self.kind == "scaled_linear":
            return np.square(np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.timesteps))
        time = np.arange(self.timesteps + 1) / self.timesteps
        cumulative = np.cos((time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * (math.pi / 2)) ** 2
        betas: PerTimestep = np.minimum(1 - cumulative[1:] / cumulative[:-1], COSINE_LARGEST_BETA)
        return betas

    @cached_property
    def alphas_cumprod(self) -> PerTimestep:
        """(T,) the share of the picture's variance that is left, falling.

        Rounded to float32, as networks are trained and run with it everywhere: near 1 that moves the lowest
        noise levels by up to a hundred-thousandth.
        """
        alphas = 1 - self.betas.astype(np.float32)
        return np.cumprod(alphas, dtype=np.float64).astype(np.float32).astype(np.float64)

    @cached_property
    def sigmas(self) -> PerTimestep:
        """(T,) the noise levels, rising."""
        return np.sqrt((1 - self.alphas_cumprod) / self.alphas_cumprod)

    @property
    def least(self) -> float:
        """The lowest noise level that the network was trained at."""
        return float(self.sigmas[0])

    @property
    def most(self) -> float:
        """The highest."""
        return float(self.sigmas[-1])

    def sigma_of(self, timestep: float) -> float:
        """The noise level at a timestep of 0 to T-1; between two of them on the line."""
        if not 0 <= timestep <= self.timesteps - 1:
            raise InvalidArgument(f"timestep {timestep:g}: the schedule has 0 to {self.timesteps - 1}")
        return float(np.interp(timestep, np.arange(self.timesteps), self.sigmas))

    def timestep_of(self, sigma: float, rule: TimestepRule = "log") -> float:
        """The timestep of a noise level; those past the ends give 0 and T-1.

        At a level of the schedule all rules agree. Between two, linear undoes `sigma_of`; log is on the line
        between the logarithms, as in k-diffusion; nearest rounds that.
        """
        if not sigma > 0:
            raise InvalidArgument(f"noise level {sigma:g}: only levels above 0 have a timestep")
        table = self.sigmas if rule == "linear" else np.log(self.sigmas)
        value = sigma if rule == "linear" else math.log(sigma)
        timestep = float(np.interp(value, table, np.arange(self.timesteps)))
        return float(round(timestep)) if rule == "nearest" else timestep


def to_variance_preserving(x: Tensor, sigma: float) -> Tensor:
    """x in sigma space at level `sigma` -> what a network trained with a `NoiseSchedule` expects.

    A run that ends above sigma 0, as DDIM's and PLMS's do by default, ends with this before the decoder.
    """
    return x / math.sqrt(1 + sigma**2)


def from_variance_preserving(x: Tensor, sigma: float) -> Tensor:
    """The inverse of `to_variance_preserving`."""
    return x * math.sqrt(1 + sigma**2)
