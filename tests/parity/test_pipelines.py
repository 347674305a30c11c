"""Every pipeline against diffusers': latents, and the pictures that they decode to.

The same tiny random weights, the same noise, two prompts in a batch of two. In float64 the latents agree to
1e-9 (with samplers whose schedulers do not round to float32 themselves), in float32 the pictures to 2/255.
The embeddings of prompts are compared in test_prompts.py, the networks and samplers in their own files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latentcodec.generate.depth_to_image import depth_to_image, estimate_depth
from latentcodec.generate.generator import Generator
from latentcodec.generate.image_to_image import image_to_image
from latentcodec.generate.inpaint import inpaint
from latentcodec.generate.latents import encode, to_tensor
from latentcodec.generate.text_to_image import text_to_image
from latentcodec.generate.upscale import upscale
from latentcodec.weights.checkpoints.detected import VELOCITY
from tests.conftest import photograph
from tests.parity.pipelines import (
    PROMPTS,
    SEEDS,
    Pair,
    check,
    expected_latents,
    pair_of,
    same_randomness,
    task,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
F32, F64 = torch.float32, torch.float64
IN_FLOAT64 = ("ddim", "plms")  # samplers whose schedulers compute in double precision

# family, prediction, what is asked for, and what diffusers' scheduler is told
CASES: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    ("sd1", "epsilon", {"sampler": "ddim"}, {}),
    ("sd1", "epsilon", {"sampler": "ddim", "eta": 1.0}, {}),
    ("sd1", "epsilon", {"sampler": "ddim", "spacing": "trailing"}, {"timestep_spacing": "trailing"}),
    ("sd1", "epsilon", {"sampler": "ddim", "guidance": 1.0}, {}),
    ("sd1", "epsilon", {"sampler": "ddim", "rescale": 0.7}, {}),
    ("sd1", "epsilon", {"sampler": "plms"}, {}),
    ("sd1", "epsilon", {"sampler": "euler", "karras": True}, {"use_karras_sigmas": True}),
    ("sd1", "epsilon", {"sampler": "euler-a"}, {}),
    ("sd1", "epsilon", {"sampler": "dpm++2m", "karras": True, "steps": 6}, {"use_karras_sigmas": True}),
    ("sd1", "epsilon", {"sampler": "lcm", "guidance": 1.5}, {}),  # as with LCM-LoRA
    ("sd2", VELOCITY, {"sampler": "ddim"}, {}),
    ("sd2", VELOCITY, {"sampler": "plms"}, {}),
    ("sd2", VELOCITY, {"sampler": "euler", "spacing": "linspace"}, {"timestep_spacing": "linspace"}),
    ("sd2", VELOCITY, {"sampler": "dpm++2m"}, {}),
    ("sdxl", "epsilon", {"sampler": "euler"}, {}),
    ("sdxl", "epsilon", {"sampler": "ddim", "guidance": 5.0}, {}),
    ("sdxl", "epsilon", {"sampler": "euler-a", "spacing": "trailing", "guidance": 0, "steps": 1},
     {"timestep_spacing": "trailing"}),  # Turbo
    ("sdxl", "epsilon", {"sampler": "euler-a", "spacing": "trailing", "guidance": 0},
     {"timestep_spacing": "trailing"}),
    ("lcm", "epsilon", {}, {}),
    ("lcm", "epsilon", {"steps": 1}, {}),
]  # fmt: skip
PIPELINES = {
    "sdxl": ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
    "lcm": ("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
}
SD = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")


@pytest.fixture(autouse=True)
def randomness(monkeypatch: pytest.MonkeyPatch) -> Any:
    with same_randomness(monkeypatch):
        yield


def precisions(cases: list[Any], quick: str) -> list[Any]:
    """Each case in float32, and in float64 where diffusers computes in it.

    quick: the numbers of those that run every time, with "d" behind those in float64; the others are slow.
    """
    made = []
    for number, case in enumerate(cases):
        double = case[2].get("sampler", "ddim") in IN_FLOAT64 and case[0] != "lcm"
        for dtype, name in ((F32, f"{number}"), (F64, f"{number}d"))[: 1 + double]:
            marks = () if name in quick.split() else pytest.mark.slow
            made.append(pytest.param(*case, dtype, marks=marks, id=f"{case[0]}-{name}"))
    return made


@pytest.mark.parametrize(
    ("family", "prediction", "asked", "told", "dtype"), precisions(CASES, "1d 4d 7 13 17 18")
)
def test_text_to_image(family: str, prediction: str, asked: Any, told: Any, dtype: torch.dtype) -> None:
    pair = pair_of(family, dtype, prediction)
    made = task(pair, **asked)
    pipeline = pair.pipeline(PIPELINES.get(family, SD)[0], pair.scheduler(made.settings.sampler, **told))
    width, height = made.size
    expected = expected_latents(pair, pipeline, made, height=height, width=width)
    check(pair, text_to_image(pair.model, made), expected)


@pytest.mark.parametrize(
    ("family", "prediction", "asked", "told", "dtype"),
    precisions([
        ("sd1", "epsilon", {"sampler": "ddim", "steps": 8, "strength": 0.6}, {}),
        ("sd1", "epsilon", {"sampler": "euler-a", "steps": 8, "strength": 0.6}, {}),
        ("sd2", VELOCITY, {"sampler": "dpm++2m", "steps": 8, "strength": 1.0}, {}),
        ("sdxl", "epsilon", {"sampler": "euler-a", "spacing": "trailing", "guidance": 0, "steps": 2,
                             "strength": 0.5}, {"timestep_spacing": "trailing"}),
        ("lcm", "epsilon", {"strength": 0.5}, {}),
    ], "0d 4"),
)  # fmt: skip
def test_image_to_image(family: str, prediction: str, asked: Any, told: Any, dtype: torch.dtype) -> None:
    pair = pair_of(family, dtype, prediction)
    made = task(pair, **asked)
    pipeline = pair.pipeline(PIPELINES.get(family, SD)[1], pair.scheduler(made.settings.sampler, **told))
    pixels = photograph(width=72, height=56)
    expected = expected_latents(
        pair, pipeline, made, image=picture(pixels, dtype), strength=made.settings.strength
    )
    check(pair, image_to_image(pair.model, made, encoded(pair, pixels)), expected)


def picture(pixels: Any, dtype: torch.dtype) -> Tensor:
    """Two of a picture for diffusers, which of a Pillow image makes float32."""
    return to_tensor(pixels, 1, torch.empty(0, dtype=dtype)).repeat(2, 1, 1, 1)


def encoded(pair: Pair, pixels: Any) -> Tensor:
    network = pair.model.autoencoder.module
    like = next(network.parameters())
    with torch.inference_mode():
        return encode(network, to_tensor(pixels, 8, like))


@pytest.mark.parametrize(
    ("family", "prediction", "asked", "told", "dtype"),
    precisions([
        ("sd1-inpainting", "epsilon", {"sampler": "ddim", "strength": 1.0}, {}),
        ("sd1-inpainting", "epsilon", {"sampler": "ddim", "strength": 0.5}, {}),
        ("sd2-inpainting", "epsilon", {"sampler": "ddim", "eta": 1.0, "strength": 1.0}, {}),
        ("sd2-inpainting", "epsilon", {"sampler": "euler", "strength": 1.0}, {}),
        ("sd1", "epsilon", {"sampler": "ddim", "strength": 1.0}, {}),
        ("sd1", "epsilon", {"sampler": "ddim", "strength": 0.5, "eta": 1.0}, {}),
        ("sd1", "epsilon", {"sampler": "plms", "strength": 1.0, "steps": 5}, {}),
        ("sd1", "epsilon", {"sampler": "euler-a", "strength": 1.0}, {}),
        ("sd2", VELOCITY, {"sampler": "dpm++2m", "strength": 0.75}, {}),
    ], "1d 5d 7"),
)  # fmt: skip
def test_inpainting(family: str, prediction: str, asked: Any, told: Any, dtype: torch.dtype) -> None:
    pair = pair_of(family, dtype, prediction)
    made = task(pair, **asked)
    # Of black and white only: diffusers rounds the picture to float32 here.
    pixels, mask = (photograph(width=72, height=56) > 110) * np.uint8(255), np.zeros((56, 72), bool)
    mask[11:37, 19:50] = True
    pipeline = pair.pipeline("StableDiffusionInpaintPipeline", pair.scheduler(made.settings.sampler, **told))
    expected = expected_latents(
        pair,
        pipeline,
        made,
        image=picture(pixels, dtype),
        mask_image=torch.from_numpy(mask).to(dtype).expand(2, 1, -1, -1).clone(),
        strength=made.settings.strength,
        height=56,
        width=72,
    )
    check(pair, inpaint(pair.model, made, pixels, mask), expected)


@pytest.mark.parametrize("dtype", [pytest.param(F32, marks=pytest.mark.slow), F64])
def test_depth_to_image(dtype: torch.dtype) -> None:
    pair = pair_of("sd2-depth", dtype)
    made = task(pair, sampler="ddim", steps=5, strength=0.8)
    pixels = photograph(width=72, height=56)
    with torch.inference_mode():
        depth = estimate_depth(pair.model, to_tensor(pixels, 1, torch.empty(0, dtype=dtype)))
    pipeline = pair.pipeline(
        "StableDiffusionDepth2ImgPipeline",
        pair.scheduler("ddim"),
        depth_estimator=None,
        feature_extractor=None,
    )
    expected = expected_latents(
        pair,
        pipeline,
        made,
        image=picture(pixels, dtype),
        depth_map=depth.clone(),
        strength=made.settings.strength,
    )
    check(pair, depth_to_image(pair.model, made, encoded(pair, pixels), depth), expected)


@pytest.mark.parametrize(
    ("prompts", "size", "dtype"),
    [
        pytest.param(PROMPTS, (12, 8), F32, marks=pytest.mark.slow),
        (PROMPTS, (12, 8), F64),
        (("", ""), (16, 8), F32),
    ],
)
def test_upscaling(prompts: tuple[str, str], size: tuple[int, int], dtype: torch.dtype) -> None:
    pair = pair_of("x4", dtype, VELOCITY)
    width, height = size
    negative = "blurry" if any(prompts) else ""
    made = replace(task(pair, (4 * width, 4 * height), negative, sampler="ddim"), prompts=prompts)
    pixels = photograph(width=width, height=height)
    low = pair.scheduler("ddim")
    pipeline = pair.pipeline("StableDiffusionUpscalePipeline", pair.scheduler("ddim"), low_res_scheduler=low)
    given = pair.texts(made)
    if not negative:  # we leave out guidance away from the very same text, diffusers does not
        given["negative_prompt_embeds"] = given["prompt_embeds"]
    expected = expected_latents(pair, pipeline, made, image=picture(pixels, dtype), noise_level=20, **given)
    check(pair, upscale(pair.model, made, pixels, 20), expected)


def test_pictures_of_a_seed_are_diffusers_own() -> None:
    """Through Generator, to 8 bits, image by image: in a batch there, one at a time here."""
    pair = pair_of("sd1", F32)
    made = task(pair, sampler="ddim")
    pipeline = pair.pipeline("StableDiffusionPipeline", pair.scheduler("ddim"))
    found = Generator(pair.model).text_to_image(
        PROMPTS, size=(72, 56), negative="blurry", steps=4, seed=SEEDS[0]
    )
    arguments = {"height": 56, "width": 72, "num_inference_steps": 4, "guidance_scale": 7.5}
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    expected = pipeline(generator=generators, **pair.texts(made), **arguments).images
    for ours, theirs in zip(found.images, expected, strict=True):
        assert ours.size == theirs.size == (72, 56)
        assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 2
