"""Samplers: free functions over `denoiser(x, sigma)`, after k-diffusion.

    sampler(denoiser, x, sigmas, noise=None, callback=None) ─► x at sigmas[-1]

    x        (B, ...) in sigma space at level sigmas[0]; float32 also where the network runs in half precision
    sigmas   N + 1 levels, falling; the last is not evaluated and may be 0
    noise    `noise.seeded_noise`; only the samplers that draw any need it
    callback gets every step; what it raises ends the run, which is how one cancels

Gradients flow through; `nn.device.full_precision` or `torch.no_grad` around a call saves their memory.
Written with d = (x - x0) / sigma, the noise that the denoiser sees, all of them are short. In particular DDIM
with eta is Euler's ancestral step with eta: the papers differ in coordinates, the practice in the levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

from torch import Tensor

from latentcodec.diffusion.noise import Noise
from latentcodec.diffusion.prediction import Denoiser
from latentcodec.errors import InvalidArgument

# Adams-Bashforth weights, the newest slope first, by how many slopes are known. Four: Liu et al., "Pseudo
# numerical methods for diffusion models on manifolds" (2022), equation 12; fewer: LDM's PLMS, at the start.
ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True)
class Step:
    """What a callback gets: step `index` of `steps` (from 0) led to `x` at level `sigma`.

    `denoised` is the estimate of x0 that the step was taken with: what a preview shows.
    """

    index: int
    steps: int
    sigma: float
    x: Tensor
    denoised: Tensor


Callback = Callable[[Step], None]


class Sampler(Protocol):
    """The signature that all samplers share; their further keywords have defaults."""

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigmas: Sequence[float],
        noise: Noise | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Take x from sigmas[0] to sigmas[-1]."""


def sample_euler(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Euler's method on dx/dsigma = d. Karras et al. (2022), algorithm 2 without churn."""
    return sample_ddim(denoiser, x, sigmas, noise, callback, eta=0.0)


def sample_euler_ancestral(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Euler's method to below the next level, and fresh noise up to it. Needs `noise`."""
    return sample_ddim(denoiser, x, sigmas, noise, callback, eta=1.0)


def sample_ddim(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise | None = None,
    callback: Callback | None = None,
    *,
    eta: float = 0.0,
) -> Tensor:
    """DDIM: x' = x0 + sigma_down d + sigma_up n, where sigma_down^2 + sigma_up^2 = sigma'^2.

    eta from 0 (no noise; `noise` may be None) to 1 (DDPM's posterior). Song et al., "Denoising diffusion
    implicit models" (2021), equations 12 and 16, divided by sqrt(a).
    """
    _check(sigmas)
    if not 0 <= eta <= 1:
        raise InvalidArgument(f"eta {eta:g}: it must lie within 0..1")
    draw = _need(noise, "a sampler with eta above 0") if eta else None
    for index, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, sigma)
        renewed = eta**2 * (1 - (following / sigma) ** 2)  # the share of the next level's variance
        up, down = following * math.sqrt(renewed), following * math.sqrt(1 - renewed)
        x = denoised + (x - denoised) * (down / sigma)
        if draw and up:
            x = x + up * draw(x)
        _report(callback, index, sigmas, x, denoised)
    return x


def sample_plms(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise | None = None,
    callback: Callback | None = None,
    *,
    slope: Literal["epsilon", "v"] = "epsilon",
) -> Tensor:
    """PLMS, alias PNDM without Runge-Kutta: Adams-Bashforth over four slopes, after one step of Heun's.

    N steps make N + 1 calls (one for one step). `slope` is what is extrapolated: the noise, or v, as
    diffusers does for networks that predict v (which is of first order only). Liu et al. (2022), algorithm 2.
    """
    _check(sigmas)
    slopes: list[Tensor] = []  # newest first
    for index, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, sigma)
        known = _slope(x, denoised, sigma, slope)
        slopes = [known, *slopes[:3]]
        if index == 0 and len(sigmas) > 2:
            guess = _along(x, known, sigma, following, slope)
            known = (known + _slope(guess, denoiser(guess, following), following, slope)) / 2
        else:
            weighted = zip(ADAMS_BASHFORTH[len(slopes) - 1], slopes, strict=True)
            known = sum((weight * past for weight, past in weighted), start=x.new_zeros(()))
        x = _along(x, known, sigma, following, slope)
        _report(callback, index, sigmas, x, denoised)
    return x


def sample_dpmpp_2m(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M): each step as if x0 were constant, at its value half-way by the last two estimates.

    Half-way in log sigma; the first step and one to sigma 0 take the newest estimate as it is. Lu et al.,
    "DPM-Solver++" (2022), algorithm 2.
    """
    _check(sigmas)
    former: Tensor | None = None
    for index, (sigma, following) in enumerate(pairwise(sigmas)):
        denoised = denoiser(x, sigma)
        middle = denoised
        if former is not None and 0 < following < sigma < sigmas[index - 1]:
            ratio = math.log(sigmas[index - 1] / sigma) / math.log(sigma / following)
            middle = denoised + (denoised - former) / (2 * ratio)
        x = middle + (x - middle) * (following / sigma)
        former = denoised
        _report(callback, index, sigmas, x, denoised)
    return x


def sample_lcm(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Multistep consistency sampling: to x0, and fresh noise up to the next level.

    Needs `noise` for more than one step; latent consistency models are a `prediction.consistency_denoiser`.
    Song et al., "Consistency models" (2023), algorithm 1.
    """
    _check(sigmas)
    for index, (sigma, following) in enumerate(pairwise(sigmas)):
        x = denoised = denoiser(x, sigma)
        if following:
            x = denoised + following * _need(noise, "LCM with more than one step")(x)
        _report(callback, index, sigmas, x, denoised)
    return x


def sample_one_step(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float],
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """The estimate of x0 at sigmas[0], whatever the further levels: the mean of all that x may be."""
    _check(sigmas)
    denoised = denoiser(x, sigmas[0])
    _report(callback, 0, (sigmas[0], 0.0), denoised, denoised)
    return denoised


def _slope(x: Tensor, denoised: Tensor, sigma: float, slope: Literal["epsilon", "v"]) -> Tensor:
    """What the denoiser's estimate says of the noise, or of v, in x."""
    noise = (x - denoised) / sigma
    return noise if slope == "epsilon" else (noise - sigma * denoised) / math.sqrt(1 + sigma**2)


def _along(x: Tensor, slope: Tensor, sigma: float, following: float, kind: Literal["epsilon", "v"]) -> Tensor:
    """x from sigma to the following level, its noise given by the slope."""
    if kind == "v":
        slope = slope / math.sqrt(1 + sigma**2) + sigma / (1 + sigma**2) * x
    return x + (following - sigma) * slope


def _check(sigmas: Sequence[float]) -> None:
    falling = all(sigma >= following >= 0 and sigma > 0 for sigma, following in pairwise(sigmas))
    if len(sigmas) < 2 or not falling:
        first = ", ".join(f"{sigma:g}" for sigma in sigmas[:8])
        raise InvalidArgument(f"noise levels [{first}]: at least two, falling, only the last may be 0")


def _need(noise: Noise | None, who: str) -> Noise:
    if noise is None:
        raise InvalidArgument(f"{who} needs noise; pass seeded_noise(seeds)")
    return noise


def _report(
    callback: Callback | None, index: int, sigmas: Sequence[float], x: Tensor, denoised: Tensor
) -> None:
    if callback is not None:
        callback(Step(index, len(sigmas) - 1, sigmas[index + 1], x, denoised))
