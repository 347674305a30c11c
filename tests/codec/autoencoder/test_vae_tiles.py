"""Pieces and their blending: arithmetic, and pictures of autoencoders without seams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from latentcodec.codec.autoencoder import vae_tiles
from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.autoencoder.models import open_codec
from latentcodec.codec.autoencoder.vae_tiles import CORE, HALO, RAMP, WHOLE, Samples, blended
from latentcodec.codec.planes import LatentBox
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.weights.checkpoints.detected import AUTOENCODER, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder
from tests.conftest import photograph

SHARED = Path(__file__).resolve().parents[4] / "shared" / "weights"
real = pytest.mark.skipif(
    not (SHARED / "taef2_decoder.pth").exists(), reason="the weights of taef2 are not here"
)
CPU = torch.device("cpu")
SIZES = [(64, 64), (145, 64), (65, 150), (200, 210), (1, 9300), (128, 129)]


def assemble(width: int, height: int, scale: int, run) -> tuple[Samples, int]:  # type: ignore[no-untyped-def]
    out = np.full((height * scale, width * scale, 2), np.nan, np.float32)
    largest, below = 0, 0
    for top, band in blended(width, height, scale, 2, run):
        assert top == below
        below = top + len(band)
        out[top:below] = band
        largest = max(largest, len(band))
    return out, largest


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("scale", [1, 4])
def test_pieces_that_agree_give_the_plane_itself(width: int, height: int, scale: int) -> None:
    rng = np.random.default_rng(1)
    plane = rng.normal(size=(height * scale, width * scale, 2)).astype(np.float32)
    runs: list[LatentBox] = []

    def run(box: LatentBox) -> Samples:
        runs.append(box)
        x0, y0, x1, y1 = (edge * scale for edge in box)
        return plane[y0:y1, x0:x1]

    found, rows = assemble(width, height, scale, run)
    assert np.abs(found - plane).max() < 1e-5
    limit = CORE + 2 * HALO
    if len(runs) > 1:
        assert max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in runs) <= limit
        assert rows <= (CORE + RAMP) * scale


def test_pieces_that_differ_fade_without_a_step() -> None:
    def run(box: LatentBox) -> Samples:
        shade = np.float32(0.1 * (box[0] + 2 * box[1] > 0) + 0.1 * (box[1] > 0))
        return np.full((box[3] - box[1], box[2] - box[0], 2), shade, np.float32)

    found, _ = assemble(160, 160, 1, run)
    assert max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1)) <= 0.2 / (2 * RAMP) + 1e-6


# Seams in pictures: group norms and attention make every piece a little different from its neighbours.


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cores of 16 positions, so that small pictures have several."""
    for name, value in (("WHOLE", 0), ("CORE", 16), ("HALO", 6), ("RAMP", 4)):
        monkeypatch.setattr(vae_tiles, name, value)


def random_kl(config: AutoencoderConfig) -> LatentCodec:
    """Random weights; what they show of normal latents has the mean and spread of pictures."""
    torch.manual_seed(2)
    module = AutoencoderKL(config).eval().requires_grad_(False)
    out = module.decoder.conv_out
    shown = module.decode(torch.randn(1, config.latents, 16, 16))
    assert out.bias is not None
    out.weight *= 0.2 / shown.std()
    out.bias += 1 - 2 * module.decode(torch.randn(1, config.latents, 16, 16)).mean()
    detected = Detected(family="other", layout="diffusers", components=(AUTOENCODER,))
    return LatentCodec(LoadedAutoencoder(module, detected, Identity("kl", "other", "ab" * 32)), CPU)


def natural_latents(height: int, width: int) -> torch.Tensor:
    """(1, 4, height, width) of about unit spread, with the edges and surfaces of a photograph."""
    pixels = torch.from_numpy(wide_photograph(height * 4, width * 4)).permute(2, 0, 1)[None].float()
    small = F.avg_pool2d(pixels, 4)
    planes = torch.cat([small, small.mean(1, keepdim=True).flip(3)], 1)
    return (planes - planes.mean((2, 3), keepdim=True)) / planes.std((2, 3), keepdim=True)


def wide_photograph(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A photograph beside its mirror images, so that any size is reached without a step."""
    pixels = photograph("coffee")
    both = np.hstack([pixels, pixels[:, ::-1]])
    both = np.vstack([both, both[::-1]])
    return np.tile(both, (-(-height // len(both)), -(-width // both.shape[1]), 1))[:height, :width].copy()


def decoded(codec: LatentCodec, latents: torch.Tensor) -> Samples:
    """A picture in levels of 255, piece by piece as a decoder shows it."""
    height, width = latents.shape[2:]

    def run(box: LatentBox) -> Samples:
        x0, y0, x1, y1 = box
        shown: Samples = codec.synthesise(latents[:, :, y0:y1, x0:x1]).permute(1, 2, 0).numpy()
        return shown

    with torch.inference_mode():
        return 255 * np.concatenate([band for _, band in blended(width, height, codec.downscale, 3, run)])


def largest_steps(picture: Samples, core: int, scale: int) -> Iterator[tuple[float, float]]:
    """For both axes the largest step between neighbouring samples across borders of cores, and elsewhere."""
    for axis in (0, 1):
        steps = np.abs(np.diff(picture, axis=axis)).max(2).max(1 - axis)
        borders = np.arange(core * scale, picture.shape[axis], core * scale) - 1
        if len(borders):
            yield float(steps[borders].max()), float(np.delete(steps, borders).max())


def check_seams(codec: LatentCodec, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """No border shows: in the picture, and in what the pieces change of the undivided picture.

    In the latter the picture's own edges, which would hide a seam, are gone.
    """
    pieces = decoded(codec, latents)
    core = vae_tiles.CORE
    monkeypatch.setattr(vae_tiles, "WHOLE", 1 << 30)
    whole = decoded(codec, latents)
    assert 20 < whole.std() < 110
    assert np.abs(pieces - whole).max() > 0.1, "the pieces do not differ: nothing is tested"
    found = [
        pair for shown in (pieces, pieces - whole) for pair in largest_steps(shown, core, codec.downscale)
    ]
    assert found
    for across, inside in found:
        assert across <= inside + 2


def test_a_small_kl_shows_no_seams(small_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = random_kl(AutoencoderConfig(channels=(16, 16, 32, 32), groups=8))
    check_seams(codec, natural_latents(24, 40), monkeypatch)


@pytest.mark.release
def test_a_full_size_kl_in_small_pieces(small_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    check_seams(random_kl(AutoencoderConfig()), natural_latents(24, 40), monkeypatch)


@pytest.mark.release
def test_a_full_size_kl_in_pieces_of_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    latents = natural_latents(72, 136)
    assert latents.shape[2] * latents.shape[3] > WHOLE
    check_seams(random_kl(AutoencoderConfig()), latents, monkeypatch)


@real
@pytest.mark.parametrize(
    "core", [pytest.param(16, marks=pytest.mark.slow), pytest.param(CORE, marks=pytest.mark.release)]
)
def test_taef2_shows_no_seams_in_a_photograph(core: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_tiles, "CORE", core)
    monkeypatch.setattr(vae_tiles, "WHOLE", 0)
    codec = open_codec(SHARED, CPU)
    pixels = wide_photograph(core * 10, core * 18)
    with torch.inference_mode():
        latents = torch.from_numpy(codec.analyse(pixels)).float()[None]
    check_seams(codec, latents, monkeypatch)
