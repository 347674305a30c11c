"""PSNR by hand, MS-SSIM against the package pytorch-msssim."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.metrics import standard
from latentcodec.errors import InvalidArgument
from latentcodec.picture.similarity.structure import ms_ssim, psnr
from tests.conftest import photograph
from tests.picture.similarity.test_ssimulacra2 import coded


def test_psnr() -> None:
    a = np.zeros((300, 4, 3), np.uint8)
    b = a.copy()
    assert psnr(a, b) == math.inf
    b[299, 3, 2] = 255
    assert psnr(a, b) == pytest.approx(10 * math.log10(3600))
    seen = np.zeros((300, 4), bool)
    seen[299] = True
    assert psnr(a, b, seen) == pytest.approx(10 * math.log10(12))
    assert psnr(a, b, ~seen) == math.inf
    wide = b.astype(np.uint16) * 257
    assert psnr(a.astype(np.uint16), wide) == pytest.approx(10 * math.log10(3600))
    pixels = photograph()
    assert psnr(pixels, coded(pixels, 50)) == pytest.approx(standard.psnr(pixels, coded(pixels, 50)))


@pytest.mark.parametrize("size", [(161, 161), (202, 307), (303, 170)])
def test_ms_ssim(size: tuple[int, int]) -> None:
    pixels = photograph("coffee", height=size[0], width=size[1])
    assert ms_ssim(pixels, pixels) == 1
    for distorted in (coded(pixels, 5), coded(pixels, 95), 255 - pixels):
        assert ms_ssim(pixels, distorted) == pytest.approx(standard.ms_ssim(pixels, distorted), abs=1e-5)
    wide = coded(pixels, 20).astype(np.uint16) * 257
    assert ms_ssim(pixels.astype(np.uint16) * 257, wide) == pytest.approx(
        ms_ssim(pixels, coded(pixels, 20)), abs=1e-5
    )


def test_ms_ssim_needs_its_scales() -> None:
    pixels = photograph(height=160, width=400)
    with pytest.raises(InvalidArgument, match="MS-SSIM needs 161 pixels a side, the pictures have 400x160"):
        ms_ssim(pixels, pixels)
