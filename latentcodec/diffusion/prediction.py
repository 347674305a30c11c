"""A network of any prediction type as `denoiser(x, sigma) -> x0`.

    x (sigma space) ─► / sqrt(1 + sigma^2) ─► network(., timestep of sigma) ─► F
    x0 = c_skip x + c_out F
                              c_skip              c_out
        epsilon   F = n       1                   -sigma
        v                     1 / (1 + sigma^2)   -sigma / sqrt(1 + sigma^2)
        sample    F = x0      0                   1

v = sqrt(a) n - sqrt(1 - a) x0: Salimans and Ho, "Progressive distillation" (2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from latentcodec.diffusion.schedule import NoiseSchedule, TimestepRule, to_variance_preserving
from latentcodec.errors import InvalidArgument

Denoiser = Callable[[Tensor, float], Tensor]
"""x (B, ...) in sigma space, its noise level (above 0) -> the estimate of x0, of x's shape and dtype."""
Network = Callable[[Tensor, Tensor], Tensor]
"""x (B, ...) in variance-preserving scale, timesteps (B,) float32 -> the prediction. Text and the like are
bound by the caller: `lambda x, t: unet(x, t, context)`."""
Prediction = Literal["epsilon", "v", "sample"]

LCM_TIMESTEP_SCALE = 10.0  # Luo et al., "Latent consistency models" (2023), as released
LCM_SIGMA_DATA = 0.5  # ibid., section 4.1, after Song et al., "Consistency models" (2023)


def denoiser_of(
    network: Network, schedule: NoiseSchedule, prediction: Prediction, rule: TimestepRule = "log"
) -> Denoiser:
    """The denoiser that a network is; `rule` says how timesteps are found (`Levels.rule`)."""
    _check(prediction)

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return estimate(prediction, x, sigma, predict(network, schedule, x, sigma, rule))

    return denoise


def predict(
    network: Network, schedule: NoiseSchedule, x: Tensor, sigma: float, rule: TimestepRule = "log"
) -> Tensor:
    """What a network predicts of x (B, ...) in sigma space at level `sigma`.

    It is brought to x's dtype, so that a half-precision network does not round the sampler's state.
    """
    timestep = torch.full((len(x),), schedule.timestep_of(sigma, rule), dtype=torch.float32, device=x.device)
    return network(to_variance_preserving(x, sigma), timestep).to(x.dtype)


def estimate(prediction: Prediction, x: Tensor, sigma: float, predicted: Tensor) -> Tensor:
    """x0 of x in sigma space, by what was predicted of it. Raises InvalidArgument for an unknown type."""
    _check(prediction)
    if prediction == "epsilon":
        return x - sigma * predicted
    if prediction == "v":
        return x / (1 + sigma**2) - sigma / math.sqrt(1 + sigma**2) * predicted
    return predicted


def consistency_denoiser(denoiser: Denoiser, schedule: NoiseSchedule) -> Denoiser:
    """The consistency function of a latent consistency model: c_skip x_vp + c_out x0.

    c_skip = d^2 / (s^2 + d^2), c_out = s / sqrt(s^2 + d^2) with s = 10 timesteps and d = 0.5: the identity at
    timestep 0, and next to the plain denoiser elsewhere.
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        scaled = LCM_TIMESTEP_SCALE * schedule.timestep_of(sigma)
        norm = scaled**2 + LCM_SIGMA_DATA**2
        skip = LCM_SIGMA_DATA**2 / norm * to_variance_preserving(x, sigma)
        return skip + scaled / math.sqrt(norm) * denoiser(x, sigma)

    return denoise


def _check(prediction: Prediction) -> None:
    if prediction not in ("epsilon", "v", "sample"):
        raise InvalidArgument(f"prediction {prediction!r}: use epsilon, v or sample")
