"""What may be asked of a clean-up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latentcodec import CleanupSettings
from latentcodec.errors import InvalidArgument


def test_defaults() -> None:
    settings = CleanupSettings(unet="sd15")
    assert (settings.limit, settings.preset, settings.prompt, settings.seed) == (0.0, "matched", "", 0)
    assert settings.tokens == ()


def test_settings_are_named_and_frozen() -> None:
    with pytest.raises(TypeError):
        CleanupSettings("sd15")  # type: ignore[misc]
    settings = CleanupSettings(unet=Path("sd15"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.seed = 1  # type: ignore[misc]


def test_a_prompt_is_text_and_files_hold_its_tokens() -> None:
    settings = CleanupSettings(unet="sd15", prompt="a photo!")
    assert settings.tokens == (320, 1125, 256)
    assert dataclasses.replace(settings, prompt="a photo").tokens == (320, 1125)
    assert len(CleanupSettings(unet="sd15", prompt="a " * 75).tokens) == 75


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"unet": None}, "UNet None: give the name"),
        ({"limit": -1.0}, "limit -1 dB"),
        ({"limit": float("nan")}, "limit nan dB"),
        ({"limit": "1"}, "limit '1': it must be a number"),
        ({"preset": "best"}, "preset 'best': use one of matched, seed-2022"),
        ({"prompt": [320, 1125]}, "it must be text, this is a list"),
        ({"prompt": "a " * 76}, "76 tokens: the model reads up to 75"),
        ({"prompt": "\ud800"}, "half of one"),
        ({"seed": -1}, "seed -1: it is a whole number from 0 to 4294967295"),
        ({"seed": 1 << 32}, "seed 4294967296"),
        ({"seed": 1.5}, "seed 1.5"),
        ({"seed": True}, "seed True"),
    ],
)
def test_what_a_file_cannot_say(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        CleanupSettings(**{"unet": "sd15", **fields})


def test_numbers_of_numpy_and_the_ends_of_the_ranges() -> None:
    assert CleanupSettings(unet="sd15", limit=float("inf"), seed=(1 << 32) - 1).seed == 4294967295
    assert CleanupSettings(unet="sd15", limit=np.float32(0.5), seed=np.int64(7)).seed == 7  # type: ignore[arg-type]
