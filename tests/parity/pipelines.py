"""What the parity tests of pipelines share: tiny models of each family, twice: ours, and in diffusers' parts.

family, dtype ─► random UNet, autoencoder, text encoders ─┬─► Model (ours)
                                                          └─► the same tensors in diffusers' networks
sampler ─► diffusers' scheduler of the same settings;   seeds ─► the same generators
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.generate.conditioning import TextTowers
from latentcodec.generate.defaults import defaults_of, settle
from latentcodec.generate.latents import decode
from latentcodec.generate.models import UPSCALER_SCHEDULE, Model
from latentcodec.generate.text_to_image import Task, conditions
from latentcodec.nn.stable_diffusion.autoencoder import (
    SD_VAE,
    SDXL_VAE,
    X4_VAE,
    AutoencoderConfig,
    AutoencoderKL,
)
from latentcodec.nn.stable_diffusion.depth import DepthEstimator
from latentcodec.nn.stable_diffusion.text_encoder import CLIP_L, OPENCLIP_BIGG, TextEncoder
from latentcodec.nn.stable_diffusion.unet import SD2, UNet, UNetConfig
from latentcodec.weights.checkpoints.detected import AUTOENCODER, EPSILON, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder
from tests.parity import test_autoencoder, test_depth, test_unet
from tests.parity.oracle import random_on, sharing
from tests.parity.test_samplers import in_float64, scheduler

_LEVELS = {"depth": (1, 0), "heads": (2, 2), "cross_only": (False, False)}
UNETS: dict[str, UNetConfig] = {
    "sd1": test_unet.TINY["SD 1.5"],
    "sd1-inpainting": replace(test_unet.TINY["SD 1.5"], inputs=9),
    "sd2": test_unet.TINY["SD 2"],
    "sd2-depth": test_unet.TINY["SD 2 depth"],
    "sd2-inpainting": replace(SD2, inputs=9, channels=(32, 64), context=32, **_LEVELS),
    "x4": replace(test_unet.TINY["x4 upscaler"], classes=351),
    "sdxl": replace(test_unet.TINY["SDXL"], context=24, added=16 + 6 * 8),
    "lcm": test_unet.TINY["LCM"],
}
VAES: dict[str, AutoencoderConfig] = {
    "sdxl": replace(SDXL_VAE, channels=(8, 8, 12, 12), groups=4, blocks=1),
    "x4": replace(X4_VAE, channels=(8, 12, 12), groups=4, blocks=1),
}
_VAE = replace(SD_VAE, channels=(8, 8, 12, 12), groups=4, blocks=1)
SCHEDULERS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "plms": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {"clip_sample": False, "set_alpha_to_one": True}),
}
PICTURE_LIMIT = 2 / 255  # of float32: the issue's
LATENT_LIMIT = 1e-9  # of float64
SEEDS = (7, 8)
PROMPTS = ("a lighthouse on a cliff, storm", "夕日の中の猫, watercolour")


@dataclass
class Pair:
    """A model of ours and the parts of diffusers' pipelines, on the same tensors."""

    model: Model
    unet: Any
    vae: Any

    def scheduler(self, name: str, **options: Any) -> Any:
        """diffusers' scheduler of one of our samplers."""
        kind, fixed = SCHEDULERS[name]
        schedule, prediction = self.model.schedule, self.model.prediction
        options = {"timestep_spacing": "leading", "steps_offset": 1} | fixed | options
        made = scheduler(kind, schedule, prediction, **options)
        return (
            in_float64(made, schedule)
            if self.model.dtype == torch.float64 and name in ("ddim", "plms")
            else made
        )

    def pipeline(self, kind: str, scheduler: Any, **parts: Any) -> Any:
        """A pipeline of diffusers, quiet and without a safety checker."""
        build = getattr(diffusers, kind)
        if "XL" in kind:
            parts = {"text_encoder_2": None, "tokenizer_2": None} | parts
        elif "Depth" not in kind and "Upscale" not in kind:
            parts = {
                "safety_checker": None,
                "feature_extractor": None,
                "requires_safety_checker": False,
            } | parts
        parts = {"vae": self.vae, "unet": self.unet, "text_encoder": None, "tokenizer": None} | parts
        made = build(scheduler=scheduler, **parts)
        made.set_progress_bar_config(disable=True)
        return made

    def texts(self, task: Task) -> dict[str, Tensor]:
        """The embeddings of a task's prompts, for diffusers. Encoding them is compared in test_prompts.py."""
        with torch.inference_mode():
            condition, negative = conditions(self.model, task)
        given = {"prompt_embeds": condition.context.clone()}
        if negative is not None:
            given["negative_prompt_embeds"] = negative.context.clone()
        width = self.model.unet.config.added - 6 * 8
        if condition.added is not None:
            given["pooled_prompt_embeds"] = condition.added[:, :width].clone()
            if negative is not None and negative.added is not None:
                given["negative_pooled_prompt_embeds"] = negative.added[:, :width].clone()
        return given


@cache
def pair_of(family: str, dtype: torch.dtype, prediction: str = EPSILON) -> Pair:
    """Tiny networks of a family, the UNet's prediction as large as noise and the pictures' range usual."""
    config, vae_config = UNETS[family], VAES.get(family, _VAE)
    theirs = random_on(lambda: test_unet.reference_of(config, 8), dtype, seed=1)
    theirs.register_to_config(sample_size=8)
    unet = sharing(lambda: UNet(config), dict(theirs.state_dict()))
    vae_theirs = random_on(lambda: test_autoencoder.reference_of(vae_config), dtype, seed=2)
    vae = sharing(lambda: AutoencoderKL(vae_config), dict(vae_theirs.state_dict()))
    _calm(unet, vae)
    sizes = {"layers": 2, "heads": 2, "feed_forward": 16}
    if family == "sdxl":
        first = random_on(lambda: TextEncoder(replace(CLIP_L, width=8, **sizes)), dtype, seed=3)
        bigger = replace(OPENCLIP_BIGG, width=16, projection=16, **sizes)
        second = random_on(lambda: TextEncoder(bigger), dtype, seed=4)
    else:
        narrow = replace(CLIP_L, width=config.context, quick_gelu=family.startswith("sd1"), **sizes)
        first, second = random_on(lambda: TextEncoder(narrow), dtype, seed=3), None
    kind = {"sdxl": "kl-sdxl", "x4": "kl-x4"}.get(family, "kl-sd")
    detected = Detected(
        family=family, layout="diffusers", components=(AUTOENCODER,), kind=kind, prediction=prediction
    )
    model = Model(
        name=f"tiny-{family}",
        detected=detected,
        device=torch.device("cpu"),
        dtype=dtype,
        unet=unet,
        call=unet,
        autoencoder=LoadedAutoencoder(vae, detected, Identity("tiny", kind, "0" * 64)),
        towers=TextTowers(first, second, family),
        schedule=UPSCALER_SCHEDULE if family == "x4" else NoiseSchedule(),
        defaults=defaults_of(family, prediction),
        depth=None
        if family != "sd2-depth"
        else random_on(lambda: DepthEstimator(test_depth.TINY), dtype, seed=6),
    )
    return Pair(model, theirs, vae_theirs)


@torch.no_grad()
def _calm(unet: UNet, vae: AutoencoderKL) -> None:
    """Scales outputs, in place, so in both: predictions of variance 1, usual latents and pictures."""
    dtype = next(unet.parameters()).dtype
    config, generator = unet.config, torch.Generator().manual_seed(5)
    x = torch.randn(1, config.inputs, 8, 8, generator=generator).to(dtype)
    added = torch.zeros(1, config.added, dtype=dtype) if config.added else None
    labels = torch.zeros(1, dtype=torch.long) if config.classes else None
    context = torch.randn(1, 77, config.context, generator=generator).to(dtype)
    spread = unet(x, 100.0, context, added=added, labels=labels).std()
    unet.conv_out.weight /= spread
    assert vae.quant_conv is not None
    assert vae.decoder.conv_out.bias is not None
    picture = torch.rand(1, 3, 64, 64, generator=generator).to(dtype)
    vae.quant_conv.weight /= vae.encode(picture).std()
    z = torch.randn(1, 4, 8, 8, generator=generator).to(dtype)
    vae.decoder.conv_out.weight *= 0.2 / vae.decode(z).std()
    vae.decoder.conv_out.bias += 2 * (0.5 - vae.decode(z).mean())


def generators() -> list[torch.Generator]:
    """One for each of SEEDS: diffusers draws from them what we draw."""
    return [torch.Generator().manual_seed(seed) for seed in SEEDS]


@contextmanager
def same_randomness(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """diffusers encodes to the posterior's mean, as we do, and draws its noise in float32."""
    from diffusers.utils import torch_utils

    drawn = torch_utils.randn_tensor

    def in_float32(
        shape: Any, generator: Any = None, device: Any = None, dtype: Any = None, layout: Any = None
    ) -> Tensor:
        return drawn(shape, generator=generator, device=device, dtype=torch.float32).to(dtype)

    with patch.context() as context:
        context.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mean)
        for name, module in list(__import__("sys").modules.items()):
            if name.startswith("diffusers.") and "randn_tensor" in vars(module):
                context.setattr(module, "randn_tensor", in_float32)
        yield


def task(pair: Pair, size: tuple[int, int] = (72, 56), negative: str = "blurry", **asked: Any) -> Task:
    """Two prompts, two seeds, four steps."""
    settings = settle(pair.model.defaults, **{"steps": 4} | asked)
    return Task(prompts=PROMPTS, negative=negative, settings=settings, size=size, seeds=SEEDS)


def expected_latents(pair: Pair, pipeline: Any, made: Task, **given: Any) -> Tensor:
    """What a pipeline of diffusers samples for a task."""
    settings = made.settings
    arguments = {
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        **pair.texts(made),
    }
    arguments |= {"eta": settings.eta} if settings.eta else {}
    arguments |= {"guidance_rescale": settings.rescale} if settings.rescale else {}
    latents: Tensor = pipeline(generator=generators(), output_type="latent", **arguments | given).images
    return latents


def check(pair: Pair, found: Tensor, expected: Tensor) -> None:
    """Latents within LATENT_LIMIT in float64, where diffusers does not round to float32 itself; pictures
    within PICTURE_LIMIT."""
    assert found.shape == expected.shape
    if pair.model.dtype == torch.float64:
        error = float((found - expected).abs().max())
        assert error <= LATENT_LIMIT
    with torch.inference_mode():
        decoded = decode(pair.model.autoencoder.module, found).clamp(0, 1)
        theirs = pair.vae.decode(expected / pair.vae.config.scaling_factor).sample.add(1).div(2).clamp(0, 1)
    assert decoded.shape == theirs.shape
    error = float((decoded - theirs).abs().max())
    assert error <= PICTURE_LIMIT
