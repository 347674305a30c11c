"""Diffusion clean-up of a decoded latent: its quantisation error is taken for noise, and removed as such.

    encoder   latent, quantised latent ─► latent_error (C,), stored
    decoder   y^ ─► + noise that each channel lacks up to sigma ─► DDIM from sigma to 0 ─► cleaned
                    sigma: the RMS of the stored error (matched), or a strength on a grid of steps
              y^ + share of the amount * (cleaned - y^) ─► autoencoder
    encoder   decodes off, weak and full, compares with the source ─► choose_amount, stored for each tile

The rule of the noise level. In sigma space a network takes x = x0 + sigma n with the same sigma in every
channel, and y^ = y + e with a root mean square error e_c in channel c. So sigma = sqrt(mean of e_c^2): the
network's noise has the power of the error. A channel with less gets seeded noise of the missing variance
sigma^2 - e_c^2; one with more keeps its excess. Noise and denoiser take the latent in the network's scale.

Clean-up that invents detail is bounded by `choose_amount`: in each tile the error of what is shown exceeds
that of the plain decode by no more than the limit that the user set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from torch import Tensor

from latentcodec.diffusion.levels import Levels, ddim_levels, karras_sigmas
from latentcodec.diffusion.noise import seeded_noise
from latentcodec.diffusion.prediction import Denoiser
from latentcodec.diffusion.presets import MATCHED, PRESETS, Cleanup
from latentcodec.diffusion.samplers import Callback, sample_ddim
from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import InvalidArgument


class Amount(IntEnum):
    """How much of a clean-up is shown in a tile; the number is what a file stores."""

    OFF = 0
    WEAK = 1
    FULL = 2


# How far each goes from the plain latent to the cleaned one.
SHARES: Mapping[Amount, float] = MappingProxyType({Amount.OFF: 0.0, Amount.WEAK: 0.5, Amount.FULL: 1.0})


def latent_error(latent: Tensor, decoded: Tensor) -> Tensor:
    """(C,) float64 root mean square error of each channel of two latents (B, C, h, w)."""
    if latent.shape != decoded.shape:
        raise InvalidArgument(f"latent error: shapes {tuple(latent.shape)} and {tuple(decoded.shape)} differ")
    return (latent.double() - decoded.double()).square().mean((0, 2, 3)).sqrt()


def cleanup_levels(error: Tensor, schedule: NoiseSchedule, settings: Cleanup) -> Levels | None:
    """The noise levels that a clean-up runs through, down to 0; None where the error is below all of them.

    error: (C,) as `latent_error` gives it. An error below the schedule's least level is one that the network
    has never seen: matched clean-up leaves it alone. Raises InvalidArgument for one above the highest level.
    """
    if error.ndim != 1 or not len(error) or not bool((error.isfinite() & (error >= 0)).all()):
        raise InvalidArgument("clean-up: the latent's error must be one finite number >= 0 for each channel")
    if settings.strength is not None:
        return ddim_levels(schedule, settings.steps, to_zero=True).from_strength(settings.strength)
    if settings.steps < 1:
        raise InvalidArgument(f"clean-up of {settings.steps} steps: it takes at least 1")
    sigma = math.sqrt(float(error.double().square().mean()))
    if sigma > schedule.most:
        raise InvalidArgument(
            f"clean-up: the latent's error {sigma:.3g} is above the network's highest noise "
            f"{schedule.most:.3g}; is it in the network's scale?"
        )
    if sigma < schedule.least:
        return None
    return Levels((*karras_sigmas(schedule.least, sigma, settings.steps), 0.0))


def clean_up(
    latent: Tensor,
    error: Tensor,
    denoiser: Denoiser,
    schedule: NoiseSchedule,
    settings: Cleanup = PRESETS[MATCHED],
    callback: Callback | None = None,
) -> Tensor:
    """The cleaned latent (B, C, h, w), in the network's scale as `latent` is.

    error: (C,) root mean square error of the latent's channels. denoiser: `denoiser_of` with the rule "log".
    A seed means the same noise on every device.
    """
    if latent.ndim != 4 or error.shape != latent.shape[1:2]:
        raise InvalidArgument(
            f"clean-up: errors of shape {tuple(error.shape)} for a latent of shape {tuple(latent.shape)}; "
            "it takes (C,) and (B, C, h, w)"
        )
    levels = cleanup_levels(error, schedule, settings)
    if levels is None:
        return latent
    noise = seeded_noise([settings.seed + index for index in range(len(latent))])
    missing = (levels.sigmas[0] ** 2 - error.double().square()).clamp(min=0).sqrt()
    x = latent + missing.to(latent.device, latent.dtype)[:, None, None] * noise(latent)
    return sample_ddim(denoiser, x, levels.sigmas, noise, callback, eta=settings.eta)


def choose_amount(
    original: Tensor, plain: Tensor, candidates: Mapping[Amount, Tensor], limit: float
) -> Amount:
    """The most clean-up that loses at most `limit` dB of PSNR against the plain decode; off if none does.

    original, plain and candidates: one tile's pixels, of one shape and scale, best as they will be shown
    (rounded). limit: 0 allows only candidates at least as near to the source as the plain decode. A candidate
    with NaN is never chosen.
    """
    if not limit >= 0:
        raise InvalidArgument(f"clean-up limit {limit:g} dB: it must be 0 or more")
    allowed = _squared_error(original, plain) * 10 ** min(limit / 10, 300)  # a limit of inf dB allows all
    harmless = [
        amount for amount, decoded in candidates.items() if _squared_error(original, decoded) <= allowed
    ]
    return max(harmless, default=Amount.OFF)


def _squared_error(original: Tensor, decoded: Tensor) -> float:
    if original.shape != decoded.shape:
        raise InvalidArgument(
            f"clean-up: a candidate of shape {tuple(decoded.shape)} for a source of {tuple(original.shape)}"
        )
    return float((original.double() - decoded.double()).square().mean())
