"""Image to image: a picture with noise of the level that a strength says, denoised under the prompt.

    latents of a picture ─► + noise of the first level that is run ─► the UNet's last steps ─► latents

diffusers does the same; LDM's script is off by one, and adds the noise of the level before.
"""

from __future__ import annotations

from torch import Tensor

from latentcodec.diffusion.noise import seeded_noise, start_from_image
from latentcodec.generate.models import Model
from latentcodec.generate.sampling import Condition, levels_of
from latentcodec.generate.text_to_image import Task, blank, conditions, need, run


def image_to_image(model: Model, task: Task, latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) of pictures that show the prompts and resemble one of latents (1, C, h, w).

    The strength is of task.settings. Raises as text_to_image does.
    """
    need(model, 0, "image to image")
    condition, negative = conditions(model, task)
    return run_from(model, task, latents, condition, negative)


def run_from(
    model: Model, task: Task, latents: Tensor, condition: Condition, negative: Condition | None
) -> Tensor:
    """The last steps from a picture's latents (1, C, h, w), under conditions."""
    levels, noise = levels_of(task.settings, model.schedule), seeded_noise(task.seeds)
    x = start_from_image(
        latents.to(model.device, model.state_dtype), noise(blank(model, task)), levels.sigmas[0]
    )
    return run(model, task, condition, negative, x, levels, noise)
