"""The native model's decoder: pieces with halos are synthesised as the whole picture is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcodec.codec.native import decoder
from latentcodec.codec.native.decoder import synthesise_tile
from latentcodec.codec.planes import PATCH, LatentPlane
from latentcodec.picture.picture import Pixels
from tests.codec.native.halos import HALO, blur, cut


def synthesise(latents: LatentPlane) -> Pixels:
    enlarged = blur(torch.from_numpy(latents).float()).repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    return enlarged.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("side", [1, 4, 5, 30])
def test_pieces_are_synthesised_as_the_whole(side: int) -> None:
    latents = np.random.default_rng(2).integers(0, 256, (3, 11, 14), np.int16)
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
