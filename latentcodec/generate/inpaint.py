"""Inpainting: what a mask shows is painted anew, the rest of the picture stays as it is, to the last bit.

    mask ─► >= 0.5 ─► nearest, at the latent's size ─► inside
    nine channels   x | inside | latents of the picture, gray inside ─► UNet
    four channels   outside, the UNet sees the picture's own latents with as much noise as the rest
    decoded ─► pixels inside the mask; all others are the source's

Rombach et al. (2022), section 4.5; masking without training: Lugmayr et al., "RePaint" (2022), algorithm 1
without its resampling.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from latentcodec.diffusion.noise import seeded_noise, start_from_image
from latentcodec.errors import InvalidArgument
from latentcodec.generate.latents import encode, to_tensor
from latentcodec.generate.models import Model
from latentcodec.generate.sampling import keeping, levels_of, start
from latentcodec.generate.text_to_image import Task, blank, conditions, need, run
from latentcodec.picture.picture import Pixels

Mask = npt.NDArray[np.bool_]
"""(H, W), True where a picture is to be painted."""

PLANES = 5  # beside the latent, of a model made for it: the mask, and the latents of what is around it
_HALF = 128  # of 255, from which on a mask counts
_GRAY = 0.5  # what the model was trained to see where it paints


def read_mask(mask: Any, size: tuple[int, int]) -> tuple[Mask, list[str]]:
    """A mask for a picture of (width, height), and what was done to it, for people.

    mask: a Pillow image or an array (H, W) of bool, or of uint8 where white is painted. One of another size
    is brought to the picture's by nearest neighbours. Raises InvalidArgument for an empty one and for what is
    no mask.
    """
    if isinstance(mask, Image.Image):
        mask = np.asarray(mask.convert("L"))
    if not isinstance(mask, np.ndarray) or mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
        raise InvalidArgument("mask: it is a Pillow image, or an array (H, W) of bool or uint8", ("mask",))
    inside = mask if mask.dtype == np.bool_ else mask >= _HALF
    notes = []
    if (inside.shape[1], inside.shape[0]) != size:
        notes.append(
            f"the mask of {inside.shape[1]}x{inside.shape[0]} was resized to {size[0]}x{size[1]} by nearest "
            "neighbours"
        )
        inside = np.asarray(Image.fromarray(inside).resize(size, Image.Resampling.NEAREST))
    if not inside.any():
        raise InvalidArgument("mask: it is empty: nothing would be painted; white is painted", ("mask",))
    if inside.all():
        notes.append("the mask is full: the whole picture is painted anew")
    return inside, notes


def inpaint(model: Model, task: Task, pixels: Pixels, mask: Mask) -> Tensor:
    """Latents (B, C, h, w) of the picture (H, W, 3) with the prompts shown inside the mask.

    A strength below 1 (of task.settings) begins inside with the picture's own latents. Raises as
    text_to_image does.
    """
    made_for_it = model.unet.config.inputs - model.channels == PLANES
    need(model, PLANES if made_for_it else 0, "inpainting")
    network, scale = model.autoencoder.module, model.downscale
    like = next(network.parameters())
    picture = to_tensor(pixels, scale, like)
    padded = np.pad(mask, ((0, -mask.shape[0] % scale), (0, -mask.shape[1] % scale)), mode="edge")
    wide = torch.from_numpy(padded).to(model.device)[None, None]
    inside = _shrunk(wide, scale)
    with model.on_device(network):
        latents = encode(network, picture).to(model.state_dtype)
        planes = None
        if made_for_it:
            around = encode(network, torch.where(wide, _GRAY, picture)).to(model.state_dtype)
            planes = torch.cat([inside.to(around.dtype), around], dim=1).expand(len(task.seeds), -1, -1, -1)
    condition, negative = conditions(model, task, planes)
    levels, noise = levels_of(task.settings, model.schedule), seeded_noise(task.seeds)
    drawn = noise(blank(model, task))
    if task.settings.strength < 1:
        x = start_from_image(latents, drawn, levels.sigmas[0])
    else:
        x = start(drawn, task.settings, levels)
    if made_for_it:
        return run(model, task, condition, negative, x, levels, noise)
    wrap = partial(keeping, first=levels.sigmas[0], inside=inside, latent=latents, noise=drawn)
    return torch.where(inside, run(model, task, condition, negative, x, levels, noise, wrap), latents)


def composed(painted: Image.Image, pixels: Pixels, mask: Mask) -> Image.Image:
    """The painted picture inside the mask, the source's pixels (H, W, 3) everywhere else."""
    return Image.fromarray(np.where(mask[..., None], np.asarray(painted), pixels))


def _shrunk(wide: Tensor, scale: int) -> Tensor:
    """A mask (1, 1, H, W) at the latent's size: by nearest neighbours; what these would lose, by any."""
    narrow = wide[..., ::scale, ::scale]
    return narrow if bool(narrow.any()) else F.max_pool2d(wide.float(), scale) > 0
