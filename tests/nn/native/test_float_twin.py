"""What the integers cost: the shipped decoder against itself in float arithmetic."""

from __future__ import annotations

import math
from importlib import resources

import pytest
import torch
from torch import Tensor

from latentcodec.nn import integer
from latentcodec.nn.native import transform
from latentcodec.nn.native.model import NativeModel
from latentcodec.training.native.warm_start import warm_start
from latentcodec.weights.native import FILES, NATIVE_MODEL
from tests.conftest import photograph

LEVELS = [400.0, 2000.0, 3600.0]


def shipped_model() -> NativeModel:
    with resources.as_file(resources.files("latentcodec.weights") / FILES[NATIVE_MODEL]) as path:
        start = warm_start(path)
    model = NativeModel(start.config).eval()
    model.load_state_dict(start.state)
    return model


@pytest.mark.parametrize("level", LEVELS)
def test_integer_arithmetic_costs_under_1_5_percent(level: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations unrounded, clamps and symbols as they are: the rate may fall by 1.5 % at most.

    The weights are the shipped ones, so this leaves out what rounding them costs: docs/training.md has that.
    """
    model = shipped_model()
    x = torch.from_numpy(photograph("coffee", 256, 256)).permute(2, 0, 1)[None].float() / 255
    quality = torch.tensor([level])
    with torch.no_grad():
        y = model.analysis(x, quality)
        _, bits_y, bits_z = model.entropy(y, quality, relaxed=False)
        exact = float(bits_y + bits_z)
        monkeypatch.setattr(integer, "round_half_up", lambda values: values)
        monkeypatch.setattr(integer._FloorEighth, "apply", lambda values: values / 8)
        _, bits_y, bits_z = model.entropy(y, quality, relaxed=False)
    assert exact <= 1.015 * float(bits_y + bits_z)


@pytest.mark.parametrize("level", LEVELS)
def test_integer_samples_cost_under_a_tenth_of_a_decibel(
    level: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream and all activations of the synthesis unrounded, clamps as they are."""
    model = shipped_model()
    x = torch.from_numpy(photograph("coffee", 256, 256)).permute(2, 0, 1)[None].float() / 255
    quality = torch.tensor([level])

    def decibels(latents: Tensor) -> float:
        return -10 * math.log10(float((model.synthesis(latents, quality) - x).square().mean()))

    with torch.no_grad():
        latents, _, _ = model.entropy(model.analysis(x, quality), quality, relaxed=False)
        exact = decibels(latents)
        for module in (integer, transform):
            monkeypatch.setattr(module, "round_half_up", lambda values: values)
        unrounded = decibels(latents)
    assert unrounded != exact
    assert unrounded - exact < 0.1
