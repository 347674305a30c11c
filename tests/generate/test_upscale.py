"""Upscaling: tiles that cover and overlap, no seams, sizes, noise levels."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from latentcodec.errors import InvalidArgument
from latentcodec.generate import upscale as made
from latentcodec.generate.generator import Generator
from latentcodec.generate.upscale import in_tiles, starts
from tests.conftest import photograph

parity = pytest.importorskip("tests.parity.pipelines", reason="its tiny networks are diffusers'")


@pytest.fixture(scope="module")
def upscaler() -> Generator:
    return Generator(parity.pair_of("x4", torch.float32, "v_prediction").model)


@pytest.mark.parametrize(("side", "overlap"), [(192, 32), (8, 2)])
def test_tiles_cover_everything_and_overlap(side: int, overlap: int) -> None:
    for size in (1, side - 1, side, side + 1, 2 * side - overlap, 2 * side, 5 * side + 3):
        places = starts(size, side, overlap)
        assert places[0] == 0
        assert places[-1] + side >= size
        assert all(a + side - b >= overlap for a, b in itertools.pairwise(places))
        assert all(place + min(side, size) <= size for place in places)


def test_of_what_depends_on_neighbours_alone_tiles_make_the_whole() -> None:
    def network(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.tanh(x[:, :4]) + x[:, 3:4]

    x = torch.randn(2, 7, 50, 31, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(in_tiles(network, 16, 4)(x), network(x), atol=1e-5)


def test_tiles_fade_into_each_other() -> None:
    """Each tile says another number: between two tiles it changes little by little."""
    numbers = itertools.count()

    def network(x: Tensor) -> Tensor:
        return torch.full_like(x[:, :1], next(numbers))

    row = in_tiles(network, 16, 8)(torch.zeros(1, 4, 16, 24))[0, 0, 8]
    assert row[0] == 0
    assert row[-1] == 1
    assert (row[1:] - row[:-1]).max() < 0.25


@pytest.mark.parametrize("prompt", ["", "a coffee"])
def test_a_picture_of_four_times_the_sides(upscaler: Generator, prompt: str) -> None:
    source = photograph(width=13, height=7)
    result = upscaler.upscale(source, prompt, steps=2, seed=1)
    assert result.images[0].size == (52, 28)
    assert result.latents.shape == (1, 4, 7, 13)
    assert result.parameters[0].noise_level == 20


def test_in_tiles_it_is_the_same_picture_nearly(upscaler: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    source = photograph(width=40, height=24)
    whole = upscaler.upscale(source, "coffee", steps=2, seed=1).latents
    sizes: list[Any] = []

    def seen(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        sizes.append(tuple(x.shape[2:]))
        result: Tensor = upscaler.model.unet(x, *arguments, **options)
        return result

    monkeypatch.setattr(made, "WHOLE", 100)
    monkeypatch.setattr(made, "in_tiles", lambda unet: in_tiles(unet, 24, 12))
    tiled = Generator(replace(upscaler.model, call=seen)).upscale(source, "coffee", steps=2, seed=1).latents
    assert set(sizes) == {(24, 24)}  # memory is a tile's
    assert (tiled - whole).norm() < 0.3 * whole.norm()  # norms and attention see a tile only


@pytest.mark.parametrize("level", [-1, 351, 2.5])
def test_noise_levels_that_are_none(upscaler: Generator, level: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"noise_level .* from 0 to 350"):
        upscaler.upscale(photograph(width=8, height=8), noise_level=level)


def test_an_upscaler_does_nothing_else(upscaler: Generator) -> None:
    with pytest.raises(InvalidArgument, match="cannot do text to image: it is for upscaling; take sd15"):
        upscaler.text_to_image("a cat")
