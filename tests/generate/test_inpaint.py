"""Masks: what they may be, and that nothing outside of them changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from latentcodec.errors import InvalidArgument
from latentcodec.generate.generator import Generator
from latentcodec.generate.inpaint import _shrunk, read_mask
from tests.conftest import photograph

SIZE = (41, 30)
SOURCE = photograph(width=41, height=30)


def mask(rows: slice, columns: slice, size: tuple[int, int] = SIZE) -> Any:
    made = np.zeros(size[::-1], bool)
    made[rows, columns] = True
    return made


@pytest.mark.parametrize("strength", [None, 0.5])
def test_outside_the_mask_the_pixels_are_the_sources(toy: Generator, strength: float | None) -> None:
    inside = mask(slice(8, 22), slice(3, 30))
    made = toy.inpaint(SOURCE, inside, "a cat", strength=strength, steps=4, seed=1)
    image = np.asarray(made.images[0])
    assert made.images[0].size == SIZE
    assert np.array_equal(image[~inside], SOURCE[~inside])
    assert (image[inside] != SOURCE[inside]).any(-1).mean() > 0.9
    kept = toy.model.encode(SOURCE).float()[0]
    assert torch.equal(made.latents[0, :, 3], kept[:, 3])  # the last row of latents has no mask in it


def test_masks_of_all_kinds_are_the_same() -> None:
    inside = mask(slice(8, 22), slice(3, 30))
    white = inside * np.uint8(255)
    for given in (
        inside,
        white,
        Image.fromarray(white),
        Image.fromarray(inside),
        Image.fromarray(white).convert("RGB"),
    ):
        assert np.array_equal(read_mask(given, SIZE)[0], inside)
    assert not read_mask(np.where(inside, np.uint8(128), np.uint8(127)), SIZE)[0][~inside].any()


def test_a_mask_of_another_size_is_resized_and_that_is_said(toy: Generator) -> None:
    small = mask(slice(2, 4), slice(1, 3), (8, 6))
    inside, notes = read_mask(small, (40, 30))
    assert inside.sum() == 25 * small.sum()
    assert notes == ["the mask of 8x6 was resized to 40x30 by nearest neighbours"]
    made = toy.inpaint(SOURCE, small, "a cat", steps=1)
    assert "the mask of 8x6 was resized to 41x30 by nearest neighbours" in made.notes


def test_an_empty_mask_is_refused_and_a_full_one_is_said(toy: Generator) -> None:
    with pytest.raises(InvalidArgument, match="mask: it is empty"):
        toy.inpaint(SOURCE, np.zeros((30, 41), bool), "a cat")
    made = toy.inpaint(SOURCE, np.ones((30, 41), bool), "a cat", steps=1)
    assert "the mask is full: the whole picture is painted anew" in made.notes


@pytest.mark.parametrize("given", [None, "mask.png", np.zeros((3, 3, 3), np.uint8), np.ones((3, 3))])
def test_what_is_no_mask(given: Any) -> None:
    with pytest.raises(InvalidArgument, match="mask"):
        read_mask(given, SIZE)


def test_a_mask_between_the_latents_positions_is_not_lost() -> None:
    wide = torch.zeros(1, 1, 24, 24, dtype=torch.bool)
    wide[..., 10:12, 10:12] = True
    assert _shrunk(wide, 8).nonzero().tolist() == [[0, 0, 1, 1]]
    wide[..., 8, 16] = True
    assert _shrunk(wide, 8).nonzero().tolist() == [[0, 0, 1, 2]]  # nearest neighbours, as in the references
