"""Planes of latents, and boxes in them."""

from __future__ import annotations

import numpy as np
import pytest

from latentcodec.codec.planes import PATCH, empty_plane, latent_box, pad_to_patches, with_halo


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


def test_an_empty_plane_is_zeros_of_sixteen_bits() -> None:
    plane = empty_plane(5, 17, 8)
    assert plane.shape == (5, 1, 3)
    assert plane.dtype == np.int16
    assert not plane.any()
