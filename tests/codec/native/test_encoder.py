"""The native model's encoder: tiles with halos are analysed as the whole picture is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from latentcodec.codec.native.coder import Floats
from latentcodec.codec.native.encoder import analyse_tile
from latentcodec.codec.planes import PATCH
from latentcodec.picture.picture import Pixels
from tests.codec.native.halos import HALO, blur, cut


def analyse(pixels: Pixels) -> Floats:
    """A stand-in for the analysis: the mean of each patch, blurred."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).double()
    return blur(F.avg_pool2d(planes, PATCH).float()).numpy()


@pytest.mark.parametrize("side", [1, 4, 5, 30])
def test_pieces_are_analysed_as_the_whole(side: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (11 * PATCH, 14 * PATCH, 3), np.uint8)
    whole = analyse(pixels)
    for box in cut(14, 11, side):
        part = analyse_tile(pixels, box, HALO, analyse)
        assert np.allclose(part, whole[:, box[1] : box[3], box[0] : box[2]], atol=1e-3)
