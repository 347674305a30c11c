"""Refinement: better latents for the same bits, in pieces whose gradients fit into memory."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from latentcodec.codec.api import Codec
from latentcodec.codec.arguments import MAX_EFFORT, REFINED_FROM
from latentcodec.codec.autoencoder import refine as module
from latentcodec.codec.autoencoder.encoder import LatentEncoder
from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.autoencoder.refine import STEPS, _kept_bytes, refine, split
from latentcodec.codec.autoencoder.steps import choose_steps
from latentcodec.codec.planes import LatentBox
from latentcodec.picture.picture import from_array
from latentcodec.weights.checkpoints.detected import AUTOENCODER, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder
from tests.conftest import photograph

ROOT = Path(__file__).resolve().parents[3]
CHILD = """
import numpy as np, re, torch
from pathlib import Path
from latentcodec.codec.autoencoder import encoder
from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.targets import PSNR
from latentcodec.picture.picture import from_array
from latentcodec.nn.stable_diffusion.autoencoder import SD_VAE, AutoencoderKL
from latentcodec.weights.checkpoints.detected import AUTOENCODER, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder

def tell(what):
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text()).group(1)) * 1024
    print(what, peak, flush=True)

torch.set_num_threads(1)
torch.manual_seed(1)
module = AutoencoderKL(SD_VAE).eval().requires_grad_(False)
detected = Detected(family="other", layout="diffusers", components=(AUTOENCODER,))
loaded = LoadedAutoencoder(module, detected, Identity("kl", "other", "ab" * 32))
codec = LatentCodec(loaded, torch.device("cpu"))
picture = lambda side: from_array(np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8))
encoder.STEPS = (0,) * 4 + (1,) * 6
encoder.LatentEncoder(codec, picture(400), effort=4).attempt(2000, measure=PSNR)
tell("refined")
encoder.LatentEncoder(codec, picture(768)).attempt(2000, measure=PSNR)  # one piece, the largest
tell("plain")
"""


def test_the_ladder() -> None:
    assert len(STEPS) == MAX_EFFORT + 1
    assert not any(STEPS[:REFINED_FROM])
    assert list(STEPS[REFINED_FROM - 1 :]) == sorted(set(STEPS))


@pytest.mark.parametrize("positions", [1, 500, 2000, 5000])
@pytest.mark.parametrize(
    ("core", "width", "height"),
    [((0, 0, 1, 1), 1, 1), ((0, 0, 50, 30), 50, 30), ((16, 16, 80, 80), 96, 96), ((0, 16, 64, 40), 80, 40)],
)
def test_parts(positions: int, core: LatentBox, width: int, height: int) -> None:
    counted = np.zeros((height, width), int)
    for seen, counts in split(core, width, height, positions):
        assert (seen[2] - seen[0]) * (seen[3] - seen[1]) <= max(positions, 400)
        assert 0 <= seen[0] <= counts[0] < counts[2] <= seen[2] <= width
        assert 0 <= seen[1] <= counts[1] < counts[3] <= seen[3] <= height
        counted[counts[1] : counts[3], counts[0] : counts[2]] += 1
    assert (counted[core[1] : core[3], core[0] : core[2]] == 1).all()
    assert counted.max() == 1


def test_parts_are_refined_as_the_whole_is(toy: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = toy._latent
    assert codec is not None
    pixels = photograph(width=96, height=64)
    latents = codec.analyse(pixels)
    steps = choose_steps(2400, np.full(4, 50.0), latents.mean((1, 2)))
    whole = refine(codec, latents, pixels, steps, 2)
    monkeypatch.setattr(module, "MEMORY", 1)
    parts = refine(codec, latents, pixels, steps, 2)
    assert np.abs(whole - latents).max() > 0
    # The same noise, and but for what reaches beyond a halo of 6 the same gradient.
    assert np.corrcoef((parts - latents).ravel(), (whole - latents).ravel())[0, 1] > 0.9


def test_what_a_gradient_keeps(toy: Codec) -> None:
    assert toy._latent is not None
    # Eleven blocks of 64 channels; at full size, 64 samples a position, there are some ten maps of them.
    assert 5 * 64 * 64 * 4 < _kept_bytes(toy._latent, toy._latent.module) < 20 * 64 * 64 * 4


def test_what_is_not_finite_is_left_as_it_was(toy: Codec) -> None:
    assert toy._latent is not None
    whole = toy._latent.module

    class Broken(torch.nn.Module):
        config = whole.config
        encode = whole.encode

        def decode(self, latent: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.interpolate(latent[:, :3] * torch.inf, scale_factor=8)

    detected = Detected(family="other", layout="taesd", components=(AUTOENCODER,))
    codec = LatentCodec(
        LoadedAutoencoder(Broken(), detected, Identity("broken", "other", "cd" * 32)),  # type: ignore[arg-type]
        torch.device("cpu"),
    )
    latents = np.zeros((4, 4, 4))
    pixels = photograph(width=32, height=32)
    steps = choose_steps(2400, np.full(4, 50.0), np.zeros(4))
    assert (refine(codec, latents, pixels, steps, 2) == latents).all()


def test_efforts_below_refinement_are_the_same(toy: Codec) -> None:
    assert toy._latent is not None
    picture = from_array(photograph(width=40, height=40))
    made = {
        effort: LatentEncoder(toy._latent, picture, effort=effort).encode(2000).data for effort in range(1, 6)
    }
    assert made[1] == made[2] == made[3]
    assert len({made[3], made[4], made[5]}) == 3


@pytest.mark.release
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc is Linux's")
def test_memory_of_stable_diffusion_s_autoencoder() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=ROOT, capture_output=True, text=True, check=False, timeout=7200
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    peaks = {name: int(size) for name, size in re.findall(r"(\w+) (\d+)", done.stdout)}
    assert peaks["refined"] < 3.2e9
    assert peaks["plain"] < 3.2e9
