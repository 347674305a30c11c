"""MS-SSIM as its authors define it, with gradients, of whole pictures and cell by cell."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from latentcodec.nn.structure import MS_SSIM_WEIGHTS, SIGMA, blur, ms_ssim, structure_cells
from tests.conftest import one_cell_flipped, photograph, picture


def distorted(x: Tensor, amount: float) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return (x + amount * noise).clamp(0, 1)


@pytest.mark.parametrize(("window", "height", "width"), [(11, 192, 256), (7, 128, 128), (7, 112, 208)])
def test_ms_ssim_is_pytorch_msssim_s(window: int, height: int, width: int) -> None:
    reference = pytest.importorskip("pytorch_msssim")
    x = torch.cat([picture("astronaut", height, width), picture("coffee", height, width)])
    for amount in (0.01, 0.05, 0.2):
        y = distorted(x, amount)
        found = ms_ssim(x, y, window=window)
        expected = reference.ms_ssim(
            x, y, data_range=1.0, size_average=False, win_size=window, weights=list(MS_SSIM_WEIGHTS)
        )
        assert found.shape == (2,)
        assert torch.allclose(found, expected, atol=1e-4)


def test_ms_ssim_of_the_same_is_one_and_falls_with_noise() -> None:
    x = picture("chelsea", 128, 128)
    assert ms_ssim(x, x).item() == pytest.approx(1, abs=1e-4)
    scores = [ms_ssim(x, distorted(x, amount)).item() for amount in (0.01, 0.03, 0.1, 0.3)]
    assert scores == sorted(scores, reverse=True)


def test_ms_ssim_has_gradients_even_for_opposites() -> None:
    x = picture("chelsea", 128, 128)
    for y in (distorted(x, 0.1), 1 - x, torch.zeros_like(x)):
        y = y.clone().requires_grad_()
        ms_ssim(x, y).sum().backward()
        assert y.grad is not None
        assert y.grad.isfinite().all()


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_cells_are_near_what_ms_ssim_lacks_where_little_is(quality: int) -> None:
    for name in ("astronaut", "coffee"):
        pixels = photograph(name, 192, 256)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
        with Image.open(stream) as image:
            other = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        x = picture(name, 256, 192)
        cells = structure_cells(x, other, 16)
        assert cells.shape == (1, 16, 12)
        assert float(cells.mean()) == pytest.approx(1 - float(ms_ssim(x, other)), rel=0.25)


def test_a_cell_s_damage_shows_there_most() -> None:
    x = picture("chelsea", 128, 160)
    cells = structure_cells(x, one_cell_flipped(x), 16)[0]
    assert int(cells.argmax()) == 3 * 10 + 6
    assert cells[:, :2].abs().max() < 1e-4
    assert structure_cells(x, x, 16).abs().max() < 1e-4


def test_cells_have_gradients_even_for_opposites() -> None:
    x = picture("coffee", 64, 48)
    for y in (x, 1 - x, torch.zeros_like(x)):
        y = y.clone().requires_grad_()
        structure_cells(x, y, 16).sum().backward()  # type: ignore[no-untyped-call]
        assert y.grad is not None
        assert y.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(5, 7), (128, 130), (3, 1000)])
def test_a_blur_in_blocks_is_a_renormalised_blur(shape: tuple[int, int]) -> None:
    values = torch.rand((2, *shape), generator=torch.Generator().manual_seed(1))

    def reference(image: Any) -> Any:
        return gaussian_filter(image, sigma=SIGMA, radius=5, mode="constant", axes=(-2, -1))

    expected = reference(values.numpy()) / reference(np.ones((1, *shape), np.float32))
    assert torch.allclose(blur(values, 5), torch.from_numpy(expected), atol=1e-5)


def test_a_long_strip_takes_no_more_than_a_square(one_thread: None) -> None:
    """A matrix of the whole side would be 275 GB here."""
    values = torch.rand(1, 1, 1 << 18)
    assert blur(values, 5).shape == values.shape
