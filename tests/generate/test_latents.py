"""Seeds, sizes, pictures to latents and back in one piece or in several, previews."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentcodec.codec.autoencoder import vae_tiles
from latentcodec.codec.autoencoder.vae_tiles import CORE, RAMP
from latentcodec.errors import InvalidArgument
from latentcodec.generate import latents as made
from latentcodec.generate.latents import (
    MAX_SEED,
    check_size,
    decode,
    encode,
    plane_size,
    preview,
    seeds_of,
    to_images,
    to_pixels,
    to_tensor,
)
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAESD, TinyAutoencoder
from tests.conftest import photograph
from tests.toy_diffusion import random_autoencoder
from tests.weights.made_checkpoints import random_network

NOTHING = torch.empty(0)


def test_a_seed_for_each_picture() -> None:
    assert seeds_of(5, 3) == (5, 6, 7)
    assert seeds_of(MAX_SEED, 2) == (MAX_SEED, 0)
    drawn = {seeds_of(None, 1)[0] for _ in range(5)}
    assert len(drawn) > 1
    assert all(0 <= seed <= MAX_SEED for seed in drawn)
    for seed in (-1, MAX_SEED + 1, 1.5, True):
        with pytest.raises(InvalidArgument, match="seed"):
            seeds_of(seed, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="count 0"):
        seeds_of(1, 0)


@pytest.mark.parametrize("size", [(0, 8), (8, 16_385), (8,), "ab", 8, (8.0, 8), None])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(InvalidArgument, match="size"):
        check_size(size)


def test_planes_cover_the_picture() -> None:
    assert plane_size((64, 48), 8) == (6, 8)
    assert plane_size((65, 41), 8) == (6, 9)


def test_pixels_come_back_through_a_tensor() -> None:
    pixels = photograph(width=37, height=21)
    tensor = to_tensor(pixels, 8, NOTHING)
    assert tensor.shape == (1, 3, 24, 40)
    assert torch.equal(tensor[..., 23, :], tensor[..., 20, :])  # the last row again
    (image,) = to_images(tensor, (37, 21))
    assert np.array_equal(np.asarray(image), pixels)


def test_pictures_of_any_kind_are_rgb_of_the_size_that_is_asked_for() -> None:
    gray = Image.fromarray(photograph(width=30, height=20)).convert("LA")
    assert to_pixels(gray).shape == (20, 30, 3)
    assert to_pixels(gray, (16, 24)).shape == (24, 16, 3)
    assert to_pixels(np.zeros((4, 5), np.uint8)).shape == (4, 5, 3)


def test_large_pictures_go_through_in_pieces_without_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a smooth latent the pieces show what the whole does, at borders of pieces as elsewhere."""
    autoencoder = random_autoencoder(1)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 100), indexing="ij")
    latents = torch.stack([x, y, x * y, torch.sin(9 * x + 5 * y)])[None]
    whole = decode(autoencoder, latents)
    monkeypatch.setattr(made, "WHOLE_PIXELS", 1)
    monkeypatch.setattr(vae_tiles, "WHOLE", 1)
    pieces = decode(autoencoder, latents)
    assert pieces.shape == whole.shape == (1, 3, 192, 800)
    error = (pieces - whole).abs()
    border = slice((CORE - RAMP) * 8, (CORE + RAMP) * 8)  # where the two pieces fade into each other
    assert error.mean() < 0.01
    assert error[..., border].mean() < 2 * error.mean() + 1e-4
    step = (pieces[..., 1:] - pieces[..., :-1]).abs().mean((0, 1, 2))
    assert step[border].max() < 1.5 * step.max()


@pytest.mark.slow
def test_encoding_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    autoencoder = random_autoencoder(1)
    picture = to_tensor(photograph(), 8, NOTHING).repeat(1, 1, 2, 2)[..., :800, :800]
    whole = encode(autoencoder, picture)
    monkeypatch.setattr(made, "WHOLE_PIXELS", 1)
    pieces = encode(autoencoder, picture)
    assert pieces.shape == whole.shape == (1, 4, 100, 100)
    assert (pieces - whole).norm() < 0.3 * whole.norm()


def test_previews() -> None:
    latents = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(1))
    for family in ("sd1", "sdxl", "x4", "unheard of"):
        image = preview(latents, family)
        assert (image.size, image.mode) == ((5, 6), "RGB")
    assert preview(torch.zeros(1, 4, 2, 2), "sd1").getpixel((0, 0)) == (128, 128, 128)  # gray, half-way
    assert preview(torch.full((1, 4, 2, 2), torch.nan), "sd1").size == (2, 2)
    tiny = random_network(lambda: TinyAutoencoder(TAESD))
    assert preview(latents, "sd1", tiny).size == (40, 48)
