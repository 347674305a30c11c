"""Prompts without weights, of one chunk, against diffusers' pipelines: encode_prompt on random encoders."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from latentcodec.generate.conditioning import TextTowers, encode_prompts
from latentcodec.nn.stable_diffusion.text_encoder import (
    CLIP_L,
    OPENCLIP_BIGG,
    OPENCLIP_H,
    OPENCLIP_H_TRUNCATED,
    TextEncoder,
    TextEncoderConfig,
)
from tests.parity.conftest import Check
from tests.parity.oracle import sharing
from tests.parity.test_text_encoder import own_names, random_reference
from tests.parity.test_tokenizer import build

PROMPTS = ["a photograph of an astronaut, riding a horse", "", "夕日の中の猫 🐈 watercolour, " + "very " * 40]
DTYPES = [torch.float32, torch.float64]


def tiny(config: TextEncoderConfig, width: int) -> TextEncoderConfig:
    """With the vocabulary and the length of the real one."""
    return replace(
        config, width=width, layers=3, heads=4, feed_forward=37, projection=config.projection and 24
    )


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, CLIPTokenizer]:
    end, padded = "<|endoftext|>", {"pad_token": "!"}
    common = {"bos_token": "<|startoftext|>", "eos_token": end, "unk_token": end, "model_max_length": 77}
    return {"CLIP": build(**common, pad_token=end), "OpenCLIP": build(**common, **padded)}


def ours(config: TextEncoderConfig, reference: torch.nn.Module) -> TextEncoder:
    return sharing(lambda: TextEncoder(config), own_names(reference.state_dict()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("family", "config", "padding"),
    [("sd1", CLIP_L, "CLIP"), ("lcm", CLIP_L, "CLIP"), ("sd2", OPENCLIP_H_TRUNCATED, "OpenCLIP"),
     ("x4", OPENCLIP_H_TRUNCATED, "OpenCLIP")],
)  # fmt: skip
def test_one_encoder(
    check: Check,
    tokenizers: dict[str, CLIPTokenizer],
    family: str,
    config: TextEncoderConfig,
    padding: str,
    dtype: torch.dtype,
) -> None:
    small = tiny(config, 32)
    reference = random_reference(small, dtype)
    pipeline = StableDiffusionPipeline(
        vae=None,
        text_encoder=reference,
        tokenizer=tokenizers[padding],
        unet=None,
        scheduler=None,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    found = encode_prompts(TextTowers(ours(small, reference), None, family), PROMPTS)
    with torch.no_grad():
        expected, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
    assert found.pooled is None
    check(f"prompts, {family}", "tiny", found.context, expected)


def test_a_whole_openclip_encoder_is_read_before_its_last_layer() -> None:
    """Its features are those of the files of diffusers, which lack the layer."""
    whole = tiny(OPENCLIP_H, 32)
    reference = random_reference(whole, torch.float64)
    short = replace(whole, layers=whole.layers - 1, projection=None)
    state = {
        name: tensor
        for name, tensor in own_names(reference.state_dict()).items()
        if not name.startswith((f"encoder.layers.{short.layers}.", "text_projection."))
    }
    a, b = (
        encode_prompts(TextTowers(encoder, None, "sd2"), PROMPTS).context
        for encoder in (ours(whole, reference), sharing(lambda: TextEncoder(short), state))
    )
    assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_encoders(check: Check, tokenizers: dict[str, CLIPTokenizer], dtype: torch.dtype) -> None:
    first, second = tiny(CLIP_L, 32), tiny(OPENCLIP_BIGG, 40)
    references = random_reference(first, dtype), random_reference(second, dtype)
    pipeline = StableDiffusionXLPipeline(
        vae=None,
        text_encoder=references[0],
        text_encoder_2=references[1],
        tokenizer=tokenizers["CLIP"],
        tokenizer_2=tokenizers["OpenCLIP"],
        unet=None,
        scheduler=None,
        add_watermarker=False,
    )
    towers = TextTowers(ours(first, references[0]), ours(second, references[1]), "sdxl")
    found = encode_prompts(towers, PROMPTS)
    with torch.no_grad():
        expected, _, pooled, _ = pipeline.encode_prompt(
            PROMPTS, device="cpu", do_classifier_free_guidance=False
        )
    assert found.pooled is not None
    check("prompts, sdxl", "tiny", found.context, expected)
    check("prompts, sdxl", "tiny", found.pooled, pooled)
