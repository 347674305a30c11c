"""A safety checker from the user's own files: a folder as diffusers writes it, or one weights file.

path, path/safety_checker ─► model.safetensors (or .bin) ─► sizes by the tensors' shapes ─► SafetyChecker
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from latentcodec.errors import InvalidWeights, UnknownModel
from latentcodec.nn.stable_diffusion.safety_checker import SafetyChecker, SafetyCheckerConfig
from latentcodec.weights.checkpoints.checkpoint import Checkpoint, open_checkpoint
from latentcodec.weights.checkpoints.key_rules import Block, KeyRules, check_finite, read_tensors
from latentcodec.weights.checkpoints.networks import on_meta, shapes_of

HEAD = 64  # channels of a head, in all of CLIP's
_FILES = ("model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "pytorch_model.fp16.bin")
_VISION = "vision_model."


def load_safety_checker(path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> SafetyChecker:
    """The safety checker of a file, of a folder with one, or of a diffusers folder that has one.

    Raises UnknownModel where there is none, InvalidWeights where it is damaged or something else, OSError.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        folders = (place, place / "safety_checker")
        found = [file for folder in folders for name in _FILES if (file := folder / name).is_file()]
        if not found:
            raise UnknownModel(f"{place}: holds no safety checker ({', '.join(_FILES[::2])})")
        place = found[0]
    if not place.is_file():
        raise UnknownModel(f"{place}: no such file or folder; name that of a safety checker's weights")
    checkpoint = open_checkpoint(place)
    # Twice in the published files; transformers from 5.6 on writes it once.
    prefix = 2 * _VISION if any(name.startswith(2 * _VISION) for name in checkpoint) else _VISION
    rules = KeyRules(
        "diffusers", blocks=(Block(_VISION, prefix), Block("", "")), ignored=(r".*\.position_ids",)
    )
    module = on_meta(SafetyChecker, _config(checkpoint, prefix))
    shapes = shapes_of(module)
    tensors = read_tensors(checkpoint, shapes, rules, "safety checker")
    check_finite(checkpoint, map(rules.name, shapes), "")
    state = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)


def _config(checkpoint: Checkpoint, prefix: str) -> SafetyCheckerConfig:
    """The sizes that the tensors have. Raises InvalidWeights where these are no safety checker's."""
    layers = {
        match[1] for name in checkpoint if (match := re.match(prefix + r"encoder\.layers\.(\d+)\.", name))
    }
    try:
        width, _, patch, _ = checkpoint.shape(prefix + "embeddings.patch_embedding.weight")
        positions, _ = checkpoint.shape(prefix + "embeddings.position_embedding.weight")
        concepts, projection = checkpoint.shape("concept_embeds")
        special, _ = checkpoint.shape("special_care_embeds")
        feed_forward, _ = checkpoint.shape(prefix + "encoder.layers.0.mlp.fc1.weight")
    except (KeyError, ValueError) as error:
        raise InvalidWeights(
            f"{checkpoint.path}: holds no safety checker of Stable Diffusion ({error})"
        ) from error
    return SafetyCheckerConfig(
        width=width,
        layers=len(layers),
        heads=max(width // HEAD, 1),
        feed_forward=feed_forward,
        side=patch * round((positions - 1) ** 0.5),
        patch=patch,
        projection=projection,
        concepts=concepts,
        special=special,
    )
