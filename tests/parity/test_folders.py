"""Folders that diffusers writes, opened by their path: from prompt to picture as diffusers itself.

The sizes are of no known family: they are read from the config.json of each part.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentcodec.generate.generator import Generator
from latentcodec.nn.stable_diffusion.text_encoder import (
    CLIP_L,
    OPENCLIP_BIGG,
    OPENCLIP_H_TRUNCATED,
    TextEncoderConfig,
)
from tests.conftest import photograph
from tests.parity.oracle import randomise
from tests.parity.pipelines import UNETS, pair_of, same_randomness
from tests.parity.test_depth import TINY as DEPTH
from tests.parity.test_depth import reference_of as depth_reference
from tests.parity.test_prompts import tiny
from tests.parity.test_text_encoder import random_reference
from tests.parity.test_tokenizer import build

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PROMPT, NEGATIVE = "a lighthouse on a cliff, 夕日", "blurry!"
_END = "<|endoftext|>"
_TOKENIZER = {
    "bos_token": "<|startoftext|>", "eos_token": _END, "unk_token": _END, "model_max_length": 77,
}  # fmt: skip


def text_parts(config: TextEncoderConfig, width: int, *, padding: str = _END) -> tuple[Any, Any]:
    """A tokenizer and a text encoder of random weights."""
    small = replace(tiny(config, width), projection=config.projection and width)
    encoder = random_reference(small)
    return build(**_TOKENIZER, pad_token=padding), encoder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """folder(pipeline, family, parts): the pipeline, and where it was written."""

    def save(kind: str, family: str, scheduler: str = "ddim", **parts: Any) -> tuple[Any, Path]:
        pair = pair_of(family, torch.float32)
        pipeline = pair.pipeline(kind, pair.scheduler(scheduler), **parts)
        pipeline.save_pretrained(tmp_path / "model")
        return pipeline, tmp_path / "model"

    with same_randomness(monkeypatch):
        yield save


def difference(ours: Image.Image, theirs: Image.Image) -> int:
    assert ours.size == theirs.size
    return int(np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max())


@pytest.mark.parametrize(
    ("family", "config", "padding"),
    [
        pytest.param("sd1", CLIP_L, _END, marks=pytest.mark.slow),
        ("sd2", OPENCLIP_H_TRUNCATED, "!"),
    ],
)
def test_text_to_image(folder: Any, family: str, config: TextEncoderConfig, padding: str) -> None:
    tokenizer, encoder = text_parts(config, UNETS[family].context, padding=padding)
    pipeline, path = folder("StableDiffusionPipeline", family, tokenizer=tokenizer, text_encoder=encoder)
    generator = Generator.open(path, device="cpu")
    assert generator.model.family == family
    (found,) = generator.text_to_image(PROMPT, negative="blurry", size=(64, 48), steps=3, seed=5).images
    (expected,) = pipeline(
        PROMPT, negative_prompt="blurry", height=48, width=64, num_inference_steps=3,
        guidance_scale=generator.model.defaults.guidance, generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    assert difference(found, expected) <= 2


@pytest.mark.slow
def test_two_text_encoders(folder: Any) -> None:
    first, encoder = text_parts(CLIP_L, 8)
    second, encoder_2 = text_parts(OPENCLIP_BIGG, 16, padding="!")
    pipeline, path = folder(
        "StableDiffusionXLPipeline", "sdxl", "euler",
        tokenizer=first, text_encoder=encoder, tokenizer_2=second, text_encoder_2=encoder_2,
    )  # fmt: skip
    generator = Generator.open(path, device="cpu")
    (found,) = generator.text_to_image(PROMPT, size=(64, 48), steps=3, seed=5).images
    (expected,) = pipeline(
        PROMPT, height=48, width=64, num_inference_steps=3, guidance_scale=5.0,
        generator=torch.Generator().manual_seed(5),
    ).images  # fmt: skip
    assert difference(found, expected) <= 2


@pytest.mark.slow
def test_a_depth_network(folder: Any) -> None:
    tokenizer, encoder = text_parts(OPENCLIP_H_TRUNCATED, UNETS["sd2-depth"].context, padding="!")
    depth = randomise(depth_reference(DEPTH))
    _, path = folder(
        "StableDiffusionDepth2ImgPipeline", "sd2-depth", tokenizer=tokenizer, text_encoder=encoder,
        depth_estimator=depth, feature_extractor=None,
    )  # fmt: skip
    generator = Generator.open(path, device="cpu")
    made = generator.depth_to_image(photograph(width=70, height=50), PROMPT, steps=2, seed=5)
    assert made.images[0].size == (70, 50)
