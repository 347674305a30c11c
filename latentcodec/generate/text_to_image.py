"""Text to image; and what every pipeline shares: a batch's task, its conditions, the run under them.

prompts, negative ─► text encoders ─► Condition of each ─┐
seeds ─► noise ─► first state ───────────────────────────┴─► the UNet, step by step ─► latents
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentcodec.diffusion.levels import Levels
from latentcodec.diffusion.noise import Noise, seeded_noise
from latentcodec.diffusion.prediction import Denoiser
from latentcodec.diffusion.samplers import Callback
from latentcodec.errors import InvalidArgument, ModelError
from latentcodec.generate.conditioning import encode_prompts
from latentcodec.generate.defaults import Settings
from latentcodec.generate.latents import plane_size
from latentcodec.generate.models import Model, check_finite
from latentcodec.generate.sampling import (
    Condition,
    guidance_embedding,
    levels_of,
    network_of,
    sample,
    start,
)
from latentcodec.nn.stable_diffusion.unet import size_embedding

_SIZES = 6  # numbers that SDXL is told: original height and width, crop top and left, target height and width


@dataclass(frozen=True, kw_only=True)
class Task:
    """One batch: a prompt and a seed for each picture of (width, height) pixels."""

    prompts: tuple[str, ...]
    negative: str
    settings: Settings
    size: tuple[int, int]
    seeds: tuple[int, ...]
    callback: Callback | None = None


def text_to_image(model: Model, task: Task) -> Tensor:
    """Latents (B, C, h, w) of pictures that show the prompts.

    Raises InvalidArgument for a model of another purpose, ModelError where memory runs out or the latents
    are not finite; what the callback raises ends the run.
    """
    need(model, 0, "text to image")
    condition, negative = conditions(model, task)
    levels, noise = levels_of(task.settings, model.schedule), seeded_noise(task.seeds)
    x = start(noise(blank(model, task)), task.settings, levels)
    return run(model, task, condition, negative, x, levels, noise)


def need(model: Model, planes: int, purpose: str) -> None:
    """Raise InvalidArgument where the UNet takes not as many planes beside the latent as a pipeline gives."""
    found = model.unet.config.inputs - model.channels
    if found == planes and not model.unet.config.classes:
        return
    what = {1: "it is for depth to image", 5: "it is for inpainting"}.get(found, "")
    what = "it is for upscaling" if model.unet.config.classes else what or "it is for text and image to image"
    raise InvalidArgument(
        f"{model.name} is of {model.family}, and cannot do {purpose}: {what}; {_WHO_CAN[planes]}"
    )


_WHO_CAN = {
    0: "take sd15, sd2-base, sd2-v, sdxl-turbo or lcm-dreamshaper",
    1: "take sd2-depth",
    5: "take sd2-inpainting",
}


def conditions(model: Model, task: Task, planes: Tensor | None = None) -> tuple[Condition, Condition | None]:
    """What the UNet gets under the prompts, and under the negative one where that counts.

    planes: (B, c, h, w), beside the latent, under both.
    """
    rows, config = len(task.prompts), model.unet.config
    guided = task.settings.guided and not config.time_condition
    # SDXL was trained with zeros for no text; diffusers: force_zeros_for_empty_prompt
    zeros = guided and bool(config.added) and not task.negative
    if not zeros and set(task.prompts) == {task.negative}:
        guided = False  # away from the very same: nothing changes, at twice the cost
    texts = [*task.prompts, *([task.negative] if guided and not zeros else [])]
    with model.on_device(model.towers.first, model.towers.second):
        encoded = encode_prompts(model.towers, texts)
    context, pooled = encoded.context, encoded.pooled
    if context.shape[2] != config.context:
        raise ModelError(
            f"{model.name}: its text encoder gives {context.shape[2]} channels, its UNet takes "
            f"{config.context}: they are of different models"
        )
    condition = Condition(
        context=context[:rows],
        added=None if pooled is None else _added(model, pooled[:rows], task.size),
        planes=None if planes is None else planes.to(model.device, model.dtype),
    )
    if config.time_condition:
        embedding = guidance_embedding(task.settings.guidance, config.time_condition, rows, context)
        condition = replace(condition, time_condition=embedding)
    if not guided:
        return condition, None
    without = torch.zeros_like(context[:1]) if zeros else context[rows:]
    negative = replace(condition, context=without.expand(rows, -1, -1))
    if pooled is not None:
        without = torch.zeros_like(pooled[:1]) if zeros else pooled[rows:]
        negative = replace(negative, added=_added(model, without.expand(rows, -1), task.size))
    return condition, negative


def _added(model: Model, pooled: Tensor, size: tuple[int, int]) -> Tensor:
    width, height = size
    sizes = torch.tensor([[height, width, 0, 0, height, width]], device=pooled.device).expand(len(pooled), -1)
    channels = (model.unet.config.added - pooled.shape[1]) // _SIZES
    return size_embedding(pooled, sizes, channels)


def blank(model: Model, task: Task) -> Tensor:
    """An empty state (B, C, h, w) of the task's pictures, for `noise` to take its shape from."""
    shape = (len(task.seeds), model.channels, *plane_size(task.size, model.downscale))
    return torch.empty(shape, dtype=model.state_dtype, device=model.device)


def run(
    model: Model,
    task: Task,
    condition: Condition,
    negative: Condition | None,
    x: Tensor,
    levels: Levels,
    noise: Noise,
    wrap: Callable[[Denoiser], Denoiser] = lambda denoiser: denoiser,
) -> Tensor:
    """Latents of a first state x in sigma space; raises as text_to_image does."""
    network = network_of(model.call, condition, negative, task.settings, together=not model.offload)
    with model.on_device(model.unet):
        latents = sample(
            network,
            x,
            levels,
            task.settings,
            model.schedule,
            model.prediction,
            noise,
            task.callback,
            wrap,
        )
    check_finite(model, latents, "latent")
    return latents
