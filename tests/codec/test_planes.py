"""Tiles with halos: through any network of that reach, pieces give what the whole gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from latentcodec.codec import decoder
from latentcodec.codec.planes import (
    PATCH,
    Box,
    Pixels,
    analyse_tile,
    empty_plane,
    latent_box,
    pad_to_patches,
    synthesise_tile,
    with_halo,
)

HALO = 3


def cut(width: int, height: int, side: int) -> list[Box]:
    """A plane in boxes of at most side x side."""
    return [
        (x, y, min(x + side, width), min(y + side, height))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def blur(plane: Tensor) -> Tensor:
    """A network that reaches HALO positions, with zeros around the plane: (C, H, W) -> (C, H, W)."""
    kernel = torch.rand(1, 1, 2 * HALO + 1, 2 * HALO + 1, generator=torch.Generator().manual_seed(1))
    return F.conv2d(plane[:, None], kernel / kernel.sum(), padding=HALO)[:, 0]


def analyse(pixels: Pixels) -> Tensor:
    """A stand-in for the analysis: the mean of each patch, blurred."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).double()
    return blur(F.avg_pool2d(planes, PATCH).float())


def synthesise(latents: Tensor) -> Pixels:
    enlarged = blur(latents.float()).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    return enlarged.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (9, 7), (64, 41)])
def test_padding_repeats_the_borders(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    padded = pad_to_patches(pixels)
    assert padded.shape[0] % PATCH == padded.shape[1] % PATCH == 0
    assert padded.shape[0] - size[0] < PATCH
    assert padded.shape[1] - size[1] < PATCH
    assert np.array_equal(padded[: size[0], : size[1]], pixels)
    assert (padded[size[0] :, : size[1]] == pixels[-1]).all()
    assert (padded[:, size[1] :] == padded[:, size[1] - 1 : size[1]]).all()


def test_halos_end_at_the_plane() -> None:
    assert with_halo((4, 5, 6, 7), 2, 100, 100) == (2, 3, 8, 9)
    assert with_halo((1, 0, 6, 7), 2, 7, 8) == (0, 0, 7, 8)


def test_boxes_in_latents() -> None:
    assert latent_box((0, 64, 1, 65)) == (0, 8, 1, 9)
    assert latent_box((64, 0, 128, 100)) == (8, 0, 16, 13)


@pytest.mark.parametrize("side", [1, 4, 5, 30])
def test_pieces_are_analysed_as_the_whole(side: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (11 * PATCH, 14 * PATCH, 3), np.uint8)
    whole = analyse(pixels)
    for box in cut(14, 11, side):
        part = analyse_tile(pixels, box, HALO, analyse)
        assert torch.allclose(part, whole[:, box[1] : box[3], box[0] : box[2]], atol=1e-3)


@pytest.mark.parametrize("side", [1, 4, 5, 30])
def test_pieces_are_synthesised_as_the_whole(side: int) -> None:
    latents = torch.randint(0, 256, (3, 11, 14), generator=torch.Generator().manual_seed(2)).to(torch.int16)
    whole = synthesise(latents)
    for box in cut(14, 11, side):
        part = synthesise_tile(latents, box, HALO, synthesise)
        x0, y0, x1, y1 = (edge * PATCH for edge in box)
        assert np.abs(part.astype(int) - whole[y0:y1, x0:x1]).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(1, 1), (4096, 6), (4097, 6), (300, 129), (129, 1000)])
def test_synthesis_pieces_cover_every_latent_once(width: int, height: int) -> None:
    seen = np.zeros((height, width), int)
    boxes = decoder.pieces(width, height)
    for x0, y0, x1, y1 in boxes:
        seen[y0:y1, x0:x1] += 1
        assert (x1 - x0) * (y1 - y0) <= decoder.PIECE_LATENTS
    assert (seen == 1).all()
    assert (len(boxes) == 1) == (width * height <= decoder.PIECE_LATENTS)


def test_an_empty_plane_is_zeros_of_sixteen_bits() -> None:
    plane = empty_plane(5, 17, 8)
    assert plane.shape == (5, 1, 3)
    assert plane.dtype == torch.int16
    assert not plane.any()
