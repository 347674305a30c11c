"""From a condition to latents: the UNet as a network, guidance, levels, and the run itself.

    Condition, negative ─► network_of ─► network(x, t) ─┐
    Settings ─► levels_of ─► Levels ────────────────────┴─► sample ─► latents (B, C, h, w), the autoencoder's
                    first state: start (noise alone) or diffusion.noise.start_from_image

The state is in sigma space and in float32 at least, whatever precision the network runs in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor

from latentcodec.diffusion.guidance import guide, guide_batch
from latentcodec.diffusion.levels import Levels, ddim_levels, dpm_levels, euler_levels, lcm_levels
from latentcodec.diffusion.noise import Noise, start_from_noise
from latentcodec.diffusion.prediction import (
    Denoiser,
    Network,
    Prediction,
    consistency_denoiser,
    denoiser_of,
)
from latentcodec.diffusion.samplers import (
    Callback,
    Sampler,
    sample_ddim,
    sample_dpmpp_2m,
    sample_euler,
    sample_euler_ancestral,
    sample_lcm,
    sample_plms,
)
from latentcodec.diffusion.schedule import NoiseSchedule, to_variance_preserving
from latentcodec.generate.defaults import Settings
from latentcodec.nn.stable_diffusion.layers import MAX_PERIOD

GUIDANCE_SCALE = 1000.0  # of a latent consistency model's guidance embedding: Luo et al. (2023), as released


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a UNet gets beside latent and time, a row for each picture; see UNet.forward.

    planes: (B, c, h, w), joined to the latent's channels: a mask, a depth, a small picture.
    """

    context: Tensor
    added: Tensor | None = None
    time_condition: Tensor | None = None
    labels: Tensor | None = None
    planes: Tensor | None = None

    def above(self, other: Condition) -> Condition:
        """The rows of this one, then those of the other, which has the same parts."""
        joined: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            joined[field.name] = None if mine is None else torch.cat([mine, theirs])
        return Condition(**joined)


def unet_network(unet: Callable[..., Any], condition: Condition) -> Network:
    """The UNet under a condition. Its own precision is that of the context; the prediction has x's."""

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        inputs = x.to(condition.context.dtype)
        if condition.planes is not None:
            inputs = torch.cat([inputs, condition.planes], dim=1)
        predicted: Tensor = unet(
            inputs,
            timestep,
            condition.context,
            labels=condition.labels,
            added=condition.added,
            time_condition=condition.time_condition,
        )
        return predicted.to(x.dtype)

    return network


def network_of(
    unet: Callable[..., Any],
    condition: Condition,
    negative: Condition | None,
    settings: Settings,
    *,
    together: bool = True,
) -> Network:
    """The network that is sampled. negative: the condition of the negative prompt; None without guidance.

    together: both conditions in one batch, or one after the other in half the memory.
    """
    if negative is None:
        return unet_network(unet, condition)
    if together:
        pair = unet_network(unet, negative.above(condition))
        return guide_batch(pair, settings.guidance, settings.rescale)
    return guide(
        unet_network(unet, condition), unet_network(unet, negative), settings.guidance, settings.rescale
    )


def guidance_embedding(guidance: float, channels: int, rows: int, like: Tensor) -> Tensor:
    """(rows, channels): how a latent consistency model is told its guidance; sines first, then cosines.

    In float32 and in the order of the released code: of angles in the thousands the last digits count.
    """
    half = channels // 2
    step = torch.tensor(float(MAX_PERIOD)).log() / max(half - 1, 1)
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -step)
    angles = torch.tensor(guidance - 1) * GUIDANCE_SCALE * frequencies
    return torch.cat([angles.sin(), angles.cos()]).expand(rows, -1).to(like.device, like.dtype)


def levels_of(settings: Settings, schedule: NoiseSchedule) -> Levels:
    """The noise levels that are run, of a strength below 1 the last ones."""
    steps, spacing, offset = settings.steps, settings.spacing, settings.offset
    if settings.sampler == "lcm":
        return lcm_levels(schedule, steps, strength=settings.strength)
    if settings.sampler in ("ddim", "plms"):
        levels = ddim_levels(schedule, steps, spacing, offset=offset)
    elif settings.sampler == "dpm++2m":
        levels = dpm_levels(schedule, steps, spacing, offset=offset, karras=settings.karras)
    else:
        levels = euler_levels(schedule, steps, spacing, offset=offset, karras=settings.karras)
    return levels.from_strength(settings.strength)


def start(noise: Tensor, settings: Settings, levels: Levels) -> Tensor:
    """The first state of a run without a picture; noise (B, C, h, w) is standard normal.

    Of variance 1 to the network, but with Euler's samplers that begin at the highest level of all, sigma
    times the noise: that is how diffusers does either (diffusion/noise.py says more).
    """
    euler = settings.sampler in ("euler", "euler-a") and settings.spacing != "leading"
    return start_from_noise(noise, levels.sigmas[0], variance_preserving=not euler)


def keeping(denoiser: Denoiser, *, first: float, inside: Tensor, latent: Tensor, noise: Tensor) -> Denoiser:
    """A denoiser that sees a picture's own latent, as noisy as the rest, where `inside` (bool) is False.

    What a sampler has there is of no use, and is never seen: `torch.where` at the end puts the latent there.
    For every sampler that equals replacing the state after each step, as diffusers does; at the first level
    the state is the caller's.
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        return denoiser(torch.where(inside, x, latent + sigma * noise) if sigma < first else x, sigma)

    return denoise


def sample(
    network: Network,
    x: Tensor,
    levels: Levels,
    settings: Settings,
    schedule: NoiseSchedule,
    prediction: Prediction,
    noise: Noise,
    callback: Callback | None = None,
    wrap: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser,
) -> Tensor:
    """Latents (B, C, h, w), in the autoencoder's scale, of a first state x in sigma space.

    wrap: makes another denoiser of the network's, such as `keeping`.
    """
    denoiser = denoiser_of(network, schedule, prediction, levels.rule)
    if settings.sampler == "lcm":
        denoiser = consistency_denoiser(denoiser, schedule)
    denoiser = wrap(denoiser)
    sigmas = levels.sigmas
    if settings.sampler == "ddim":
        x = sample_ddim(denoiser, x, sigmas, noise, callback, eta=settings.eta)
    elif settings.sampler == "plms":
        slope: Literal["epsilon", "v"] = "v" if prediction == "v" else "epsilon"  # as diffusers does
        x = sample_plms(denoiser, x, sigmas, noise, callback, slope=slope)
    else:
        x = _SAMPLERS[settings.sampler](denoiser, x, sigmas, noise, callback)
    return to_variance_preserving(x, sigmas[-1])


_SAMPLERS: Mapping[str, Sampler] = {
    "euler": sample_euler,
    "euler-a": sample_euler_ancestral,
    "dpm++2m": sample_dpmpp_2m,
    "lcm": sample_lcm,
}
