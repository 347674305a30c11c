"""Whole pictures beside diffusers': both sides run, and make the same picture."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
import torch
from rich.console import Console

from benchmarks.experiments.networks import generation
from benchmarks.peers.diffusion import DiffusionPair, make_pair
from latentcodec.nn.stable_diffusion.autoencoder import SDXL_VAE
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def pair() -> DiffusionPair:
    """SDXL Turbo in small."""
    family = FAMILIES["sdxl"]
    assert family.text_encoder_2 is not None
    unet = replace(
        family.unet, channels=(32, 64, 64), heads=(2, 4, 4), depth=(0, 1, 1), middle_depth=1, context=24,
        added=16 + 6 * 256,
    )  # fmt: skip
    small = replace(family.text_encoder, width=8, layers=2, heads=2, feed_forward=16)
    second = replace(family.text_encoder_2, width=16, projection=16, layers=2, heads=2, feed_forward=16)
    sizes = replace(family, unet=unet, text_encoder=small, text_encoder_2=second)
    with pytest.MonkeyPatch.context() as patch:
        vae = replace(SDXL_VAE, channels=(8, 8, 12, 12), groups=4, blocks=1)
        patch.setitem(AUTOENCODERS, family.autoencoder, vae)
        return make_pair("sdxl", torch.float32, torch.device("cpu"), sizes)


def test_both_make_the_same_picture(pair: DiffusionPair) -> None:
    (ours,) = pair.ours.text_to_image("a lighthouse", size=(32, 32), seed=3).images
    theirs = pair.theirs(
        "a lighthouse", height=32, width=32, num_inference_steps=1, guidance_scale=0.0,
        generator=torch.Generator().manual_seed(3),
    ).images[0]  # fmt: skip
    assert np.abs(np.asarray(ours).astype(int) - np.asarray(theirs)).max() <= 2


@pytest.mark.slow
def test_the_table(pair: DiffusionPair) -> None:
    table = generation(pair, 32, steps=2, rounds=1)
    text = StringIO()
    Console(file=text, width=160).print(table)
    for row in ("the floor", "2 steps and a decode", "a picture of one step", "image to image", "a step"):
        assert row in text.getvalue()
