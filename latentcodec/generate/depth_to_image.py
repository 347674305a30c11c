"""Depth to image: another picture of the same shapes, by SD 2.0's depth model.

    picture ─┬─► MiDaS ─► depth ─► -1 (far) to 1 (near), at the latent's size ─┐
             └─► latents ─► + noise of the strength ───────────────────────────┴─► last steps ─► latents

A flat depth, of which the references make NaN, is about 0 everywhere (nn/stable_diffusion/depth.py).
"""

from __future__ import annotations

from torch import Tensor

from latentcodec.errors import ModelError
from latentcodec.generate.image_to_image import run_from
from latentcodec.generate.latents import plane_size
from latentcodec.generate.models import Model
from latentcodec.generate.text_to_image import Task, conditions, need
from latentcodec.nn.stable_diffusion.depth import depth_condition, picture_for_depth

PLANES = 1


def estimate_depth(model: Model, picture: Tensor) -> Tensor:
    """Relative inverse depth (1, H', W') of a picture (1, 3, H, W) in 0..1; larger is nearer.

    Raises ModelError where the model has no depth network, or what it finds is not finite.
    """
    network = model.depth
    if network is None:
        raise ModelError(f"{model.name}: holds no depth network; take sd2-depth, whose file has one")
    with model.on_device(network):
        depth: Tensor = network(picture_for_depth(picture.to(model.device, model.dtype)))
    if not bool(depth.isfinite().all()):
        raise ModelError(f"{model.name}: the depth is not finite; use dtype float32")
    return depth


def depth_to_image(model: Model, task: Task, latents: Tensor, depth: Tensor) -> Tensor:
    """Latents (B, C, h, w) of pictures of the prompts with the depth (1, H', W') of one.

    latents: that picture's, (1, C, h, w); a strength of 1 (of task.settings) hardly uses them. Raises as
    text_to_image does.
    """
    need(model, PLANES, "depth to image")
    plane = depth_condition(depth, plane_size(task.size, model.downscale)).to(model.state_dtype)
    condition, negative = conditions(model, task, plane.expand(len(task.seeds), -1, -1, -1))
    return run_from(model, task, latents, condition, negative)
