"""Text to image and image to image against diffusers' pipelines: latents, and the pictures that they decode to.

The same tiny random weights, the same noise, two prompts in a batch of two. In float64 the latents agree to
1e-9, where diffusers' scheduler does not round to float32 itself; in float32 the pictures do to 2/255.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latentcodec.generate.defaults import settle
from latentcodec.generate.latents import decode
from latentcodec.generate.text_to_image import Task, text_to_image
from tests.parity.pipelines import (
    LATENT_LIMIT,
    PICTURE_LIMIT,
    SEEDS,
    VELOCITY,
    Pair,
    compare_pictures,
    generators,
    pair_of,
    same_randomness,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PROMPTS = ("a lighthouse on a cliff, storm", "夕日の中の猫, watercolour")
F32, F64 = torch.float32, torch.float64


def task(pair: Pair, size: tuple[int, int] = (64, 48), negative: str = "blurry", **asked: Any) -> Task:
    settings = settle(pair.model.defaults, **{"steps": 4} | asked)
    return Task(prompts=PROMPTS, negative=negative, settings=settings, size=size, seeds=SEEDS)


def theirs(pair: Pair, kind: str, scheduler: Any, made: Task, **given: Any) -> tuple[Any, Any]:
    """Latents and pictures of a pipeline of diffusers."""
    settings = made.settings
    pipeline = pair.pipeline(kind, scheduler)
    arguments = {
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "guidance_rescale": settings.rescale,
        **pair.texts(made),
        **given,
    }
    if settings.eta:
        arguments["eta"] = settings.eta
    latents = pipeline(generator=generators(), output_type="latent", **arguments).images
    return latents, pipeline(generator=generators(), output_type="np", **arguments).images


def check(pair: Pair, found: torch.Tensor, expected: tuple[Any, Any]) -> None:
    latents, pictures = expected
    assert found.shape == latents.shape
    if pair.model.dtype == F64:
        assert float((found - latents).abs().max()) <= LATENT_LIMIT
    with torch.inference_mode():
        decoded = decode(pair.model.autoencoder.module, found)
    assert compare_pictures(decoded, pictures) <= PICTURE_LIMIT


# family, prediction, what is asked for, and what diffusers' scheduler is told
CASES = [
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
    ("sd2", "epsilon", {"sampler": "ddim"}, {}),
    ("sd2", VELOCITY, {"sampler": "ddim"}, {}),
    ("sd2", VELOCITY, {"sampler": "plms"}, {}),
    ("sd2", VELOCITY, {"sampler": "euler", "spacing": "linspace"}, {"timestep_spacing": "linspace"}),
    ("sd2", VELOCITY, {"sampler": "dpm++2m"}, {}),
    ("sdxl", "epsilon", {"sampler": "euler"}, {}),
    ("sdxl", "epsilon", {"sampler": "ddim", "guidance": 5.0}, {}),
    ("sdxl", "epsilon", {"sampler": "euler-a", "spacing": "trailing", "guidance": 0, "steps": 1},
     {"timestep_spacing": "trailing"}),  # Turbo
    ("sdxl", "epsilon", {"sampler": "euler-a", "spacing": "trailing", "guidance": 0, "steps": 4},
     {"timestep_spacing": "trailing"}),
    ("lcm", "epsilon", {}, {}),
    ("lcm", "epsilon", {"steps": 1}, {}),
]  # fmt: skip
PIPELINES = {
    "sdxl": ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
    "lcm": ("LatentConsistencyModelPipeline", "LatentConsistencyModelImg2ImgPipeline"),
}
SD = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")


@pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
@pytest.mark.parametrize(("family", "prediction", "asked", "told"), CASES)
def test_text_to_image(
    monkeypatch: pytest.MonkeyPatch, family: str, prediction: str, asked: Any, told: Any, dtype: torch.dtype
) -> None:
    pair = pair_of(family, dtype, prediction)
    made = task(pair, **asked)
    if dtype == F64 and made.settings.sampler not in ("ddim", "plms"):
        pytest.skip("diffusers' scheduler rounds to float32")
    scheduler = pair.scheduler(made.settings.sampler, **told)
    with same_randomness(monkeypatch):
        width, height = made.size
        expected = theirs(pair, PIPELINES.get(family, SD)[0], scheduler, made, height=height, width=width)
        check(pair, text_to_image(pair.model, made), expected)
