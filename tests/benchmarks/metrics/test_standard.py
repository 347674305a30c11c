"""metrics.standard: by hand, by definition, and against scikit-image."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.metrics.standard import METRICS, ms_ssim, mse, psnr, psnr_y, ssim, ssimulacra2
from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidArgument, MissingDependency


@pytest.fixture(scope="module")
def reference() -> Pixels:
    y, x = np.mgrid[:240, :256]
    waves = 128 + 60 * np.sin(x / 9) + 50 * np.cos(y / 13) + 15 * np.sin(x * y / 300)
    noise = np.random.default_rng(3).normal(0, 8, (240, 256, 3))
    return np.clip(waves[..., None] + noise, 0, 255).astype(np.uint8)


def worse(picture: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(4).normal(0, sigma, picture.shape)
    return np.clip(np.rint(picture + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", METRICS)
def test_identity_is_best_and_worse_pictures_score_worse(name: str, reference: Pixels) -> None:
    metric = METRICS[name]
    scores = [metric(reference, worse(reference, sigma)) for sigma in (2, 8, 30)]
    assert metric(reference, reference) == pytest.approx(metric.best, abs=1e-6)
    assert scores == sorted(scores, reverse=metric.higher_is_better)
    low, high = sorted((metric.worst, metric.best))
    assert all(low <= score <= high for score in scores)
    assert all(isinstance(score, float) for score in scores)


def test_mse_and_psnr_by_hand() -> None:
    reference = np.zeros((1, 2, 3), np.uint8)
    distorted = np.array([[[3, 0, 0], [0, 4, 255]]], np.uint8)
    assert mse(reference, distorted) == (9 + 16 + 65025) / 6
    assert mse(distorted, reference) == mse(reference, distorted)  # no wrap-around of uint8
    assert psnr(reference, reference + np.uint8(1)) == pytest.approx(48.1308036, abs=1e-7)  # 20 log10 255
    assert psnr(reference, reference + np.uint8(255)) == 0
    assert psnr(reference, reference) == math.inf


def test_luma_by_hand_and_by_pillow(reference: Pixels) -> None:
    black = np.zeros((1, 2, 3), np.uint8)
    green = np.array([[[0, 100, 0], [0, 0, 0]]], np.uint8)
    assert psnr_y(black, green) == pytest.approx(10 * math.log10(255**2 / (58.7**2 / 2)))
    assert psnr_y(black, black) == math.inf
    distorted = worse(reference, 8)
    lumas = [np.asarray(Image.fromarray(each).convert("L"), np.float64) for each in (reference, distorted)]
    rounded = peak_signal_noise_ratio(*lumas, data_range=255)
    assert psnr_y(reference, distorted) == pytest.approx(rounded, abs=0.05)
    assert psnr_y(reference, distorted) > psnr(
        reference, distorted
    )  # the noise of three channels averages out


def test_mse_of_a_tall_picture_counts_every_row() -> None:
    reference = np.zeros((1000, 2, 3), np.uint8)
    distorted = reference.copy()
    distorted[-1] = 10
    assert mse(reference, distorted) == pytest.approx(100 / 1000)


def test_agreement_with_scikit_image(reference: Pixels) -> None:
    distorted = worse(reference, 8)
    assert psnr(reference, distorted) == pytest.approx(
        peak_signal_noise_ratio(reference, distorted, data_range=255), abs=1e-9
    )
    expected = structural_similarity(reference, distorted, channel_axis=-1, data_range=255)
    assert ssim(reference, distorted) == pytest.approx(expected, abs=1e-12)


def test_ms_ssim_by_its_definition_for_flat_pictures() -> None:
    # Without structure only the luminance term of the last scale is left, to the power of its weight 0.1333.
    one, other = np.full((176, 176, 3), 100, np.uint8), np.full((176, 176, 3), 120, np.uint8)
    constant = (0.01 * 255) ** 2
    luminance = (2 * 100 * 120 + constant) / (100**2 + 120**2 + constant)
    assert ms_ssim(one, other) == pytest.approx(luminance**0.1333, abs=1e-4)


def test_ssimulacra2_of_a_visible_distortion(reference: Pixels) -> None:
    assert ssimulacra2(reference, worse(reference, 40)) < 50 < ssimulacra2(reference, worse(reference, 2))


@pytest.mark.parametrize("name", METRICS)
def test_the_smallest_picture(name: str) -> None:
    metric, least = METRICS[name], METRICS[name].smallest_side
    picture = np.random.default_rng(6).integers(0, 256, (least, least, 3), dtype=np.uint8)
    assert metric(picture, picture) == pytest.approx(metric.best)
    assert metric(picture, 255 - picture) != pytest.approx(metric.best)
    if least > 1:
        with pytest.raises(
            InvalidArgument, match=f"at least {least}x{least} pixels, these have {least}x{least - 1}"
        ):
            metric(picture[1:], picture[1:])


@pytest.mark.parametrize("name", METRICS)
def test_what_cannot_be_compared(name: str) -> None:
    metric, picture = METRICS[name], np.zeros((256, 256, 3), np.uint8)
    for other in (
        picture[:-1],
        picture.astype(np.float32),
        picture[..., 0],
        np.zeros((256, 256, 4), np.uint8),
    ):
        with pytest.raises(InvalidArgument, match=metric.label):
            metric(picture, other)
        with pytest.raises(InvalidArgument, match=metric.label):
            metric(other, picture)
    with pytest.raises(InvalidArgument):
        metric(picture[:0], picture[:0])


@pytest.mark.parametrize(("name", "module"), [("ms_ssim", "pytorch_msssim"), ("ssimulacra2", "ssimulacra2")])
def test_a_missing_package_is_named(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    picture = np.zeros((256, 256, 3), np.uint8)
    with pytest.raises(MissingDependency, match=r"latentcodec\[bench\]"):
        METRICS[name](picture, picture)
