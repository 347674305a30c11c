"""The safety checker against diffusers' StableDiffusionSafetyChecker on the same random weights."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessor

from latentcodec.errors import InvalidWeights, UnknownModel
from latentcodec.nn.stable_diffusion.safety_checker import picture_for_checker
from latentcodec.weights.safety_checker import load_safety_checker
from tests.conftest import photograph
from tests.parity.oracle import randomise

PICTURES = [
    Image.fromarray(photograph(width=96, height=64)),
    Image.fromarray(photograph("coffee", width=61, height=90)),
    Image.new("RGB", (40, 40), "red"),
    Image.new("RGB", (300, 31)),
]


@pytest.fixture
def reference() -> StableDiffusionSafetyChecker:
    vision = {
        "hidden_size": 64, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 1,
        "image_size": 28, "patch_size": 14, "projection_dim": 16,
    }  # fmt: skip
    return randomise(StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=16)))


def test_the_preparation_of_pictures() -> None:
    processor = CLIPImageProcessor()
    for image in PICTURES:
        expected = processor(image, return_tensors="pt").pixel_values
        assert (
            picture_for_checker(image) - expected
        ).abs().max() < 0.02  # it rounds to 8 bits after resizing


@pytest.mark.parametrize("threshold", [-0.3, -0.1, -0.005, 0.0, 0.05, 0.15])
def test_the_same_pictures_are_flagged(
    tmp_path: Path, reference: StableDiffusionSafetyChecker, threshold: float
) -> None:
    with torch.no_grad():
        reference.concept_embeds_weights.fill_(threshold)
        reference.special_care_embeds_weights.fill_(threshold)
    reference.save_pretrained(tmp_path / "safety_checker")
    if threshold < 0:  # as the published files name them
        file = tmp_path / "safety_checker" / "model.safetensors"
        state = {
            re.sub(r"^(vision_model\.)+", 2 * r"\1", name): tensor for name, tensor in load_file(file).items()
        }
        save_file(state, file)
    ours = load_safety_checker(tmp_path)
    pictures = torch.cat([picture_for_checker(image, 28) for image in PICTURES])
    shown = np.ones((len(PICTURES), 4, 4, 3))
    _, expected = reference(pictures, shown)
    with torch.no_grad():
        assert ours(pictures) == expected


def test_what_is_none(tmp_path: Path, reference: StableDiffusionSafetyChecker) -> None:
    with pytest.raises(UnknownModel, match="holds no safety checker"):
        load_safety_checker(tmp_path)
    with pytest.raises(UnknownModel, match="no such file"):
        load_safety_checker(tmp_path / "none")
    reference.vision_model.save_pretrained(tmp_path)
    with pytest.raises(InvalidWeights, match="no safety checker"):
        load_safety_checker(tmp_path)
