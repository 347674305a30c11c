"""The rules for alpha, depth and gray."""

from __future__ import annotations

import math

import numpy as np
import pytest

from latentcodec.errors import InvalidArgument
from latentcodec.picture.picture import Picture, from_array, with_depth
from latentcodec.picture.similarity.comparison import compare_pictures, visible_score
from latentcodec.picture.similarity.ssimulacra2 import ssimulacra2
from latentcodec.picture.similarity.structure import ms_ssim, psnr
from tests.conftest import photograph
from tests.picture.similarity.test_ssimulacra2 import coded

PIXELS = photograph(height=180, width=200)
DISTORTED = coded(PIXELS, 30)


def with_alpha(pixels: np.ndarray, alpha: np.ndarray) -> Picture:
    return from_array(np.dstack([pixels, alpha]))


def test_opaque_pictures() -> None:
    found = compare_pictures(from_array(PIXELS), from_array(DISTORTED))
    assert (found.width, found.height, found.identical, found.alpha_psnr) == (200, 180, False, None)
    assert found.psnr == psnr(PIXELS, DISTORTED)
    assert found.ms_ssim == ms_ssim(PIXELS, DISTORTED)
    assert found.ssimulacra2 == ssimulacra2(PIXELS, DISTORTED)
    same = compare_pictures(from_array(PIXELS), from_array(PIXELS))
    assert (same.identical, same.psnr, same.ms_ssim, same.ssimulacra2) == (True, math.inf, 1, 100)
    small = compare_pictures(from_array(PIXELS[:100]), from_array(DISTORTED[:100]))
    assert small.ms_ssim is None
    gray = compare_pictures(from_array(PIXELS[..., 0]), from_array(np.repeat(PIXELS[..., :1], 3, axis=2)))
    assert gray.identical


def test_other_sizes_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="the pictures are 200x180 and 180x200"):
        compare_pictures(from_array(PIXELS), from_array(PIXELS.transpose(1, 0, 2).copy()))


def test_what_is_hidden_does_not_count_and_other_alpha_does() -> None:
    alpha = np.full((180, 200), 255, np.uint8)
    alpha[:, :100] = 0
    hidden = PIXELS.copy()
    hidden[:, :100] = 9
    same = compare_pictures(with_alpha(PIXELS, alpha), with_alpha(hidden, alpha))
    assert (same.identical, same.psnr, same.alpha_psnr, same.ssimulacra2) == (True, math.inf, math.inf, 100)
    half = DISTORTED.copy()
    half[:, :100] = 0
    found = compare_pictures(with_alpha(PIXELS, alpha), with_alpha(half, alpha))
    assert found.psnr == psnr(PIXELS[:, 100:], DISTORTED[:, 100:])
    other = compare_pictures(with_alpha(PIXELS, alpha), from_array(PIXELS))
    assert (other.psnr, other.identical) == (math.inf, False)
    assert other.alpha_psnr == pytest.approx(10 * math.log10(2))
    assert other.ssimulacra2 < 30


def test_the_ground_where_less_is_alike_counts() -> None:
    alpha = np.full((180, 200), 255, np.uint8)
    alpha[40:80, 40:80] = 128
    dark = PIXELS // 8
    light = np.where(alpha[..., None] == 128, 255 - dark, dark)
    score = visible_score(with_alpha(dark, alpha), light)
    on = [ssimulacra2(*(_on(pixels, alpha, ground) for pixels in (dark, light))) for ground in (0.1, 0.9)]
    assert score == pytest.approx(min(on), abs=0.3)


def _on(pixels: np.ndarray, alpha: np.ndarray, ground: float) -> np.ndarray:
    cover = alpha[..., None] / 255
    return np.rint(pixels * cover + 255 * ground * (1 - cover)).astype(np.uint8)


def test_deep_samples_are_compared_with_those_of_8_bits() -> None:
    shallow, deep = from_array(PIXELS), from_array(PIXELS.astype(np.uint16) * 257)
    assert compare_pictures(shallow, deep).identical
    assert compare_pictures(deep, shallow).identical
    other = from_array(PIXELS.astype(np.uint16) * 257 + (PIXELS < 255))
    assert compare_pictures(shallow, other).psnr == pytest.approx(20 * math.log10(65535), abs=0.3)
    ten = with_depth(shallow, 10)
    assert compare_pictures(shallow, ten).psnr > 60
    assert visible_score(ten, with_depth(from_array(DISTORTED), 10).pixels) == pytest.approx(
        ssimulacra2(PIXELS, DISTORTED), abs=0.3
    )
