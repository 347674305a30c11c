"""MS-SSIM as its authors define it, with gradients, of whole pictures and cell by cell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentcodec.nn.structure import MS_SSIM_WEIGHTS, ms_ssim, structure_cells
from tests.conftest import photograph


def picture(name: str, height: int, width: int) -> Tensor:
    return torch.from_numpy(photograph(name, width, height)).permute(2, 0, 1)[None].float() / 255


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
    assert ms_ssim(x, x).item() == pytest.approx(1, abs=1e-5)
    scores = [ms_ssim(x, distorted(x, amount)).item() for amount in (0.01, 0.03, 0.1, 0.3)]
    assert scores == sorted(scores, reverse=True)


def test_ms_ssim_has_gradients_even_for_opposites() -> None:
    x = picture("chelsea", 128, 128)
    for y in (distorted(x, 0.1), 1 - x, torch.zeros_like(x)):
        y = y.clone().requires_grad_()
        ms_ssim(x, y).sum().backward()
        assert y.grad is not None
        assert y.grad.isfinite().all()


def test_cells_are_near_what_ms_ssim_lacks_where_little_is() -> None:
    x = torch.cat([picture("astronaut", 256, 192), picture("coffee", 256, 192)])
    for amount in (0.005, 0.02, 0.05):
        y = distorted(x, amount)
        cells = structure_cells(x, y, 16)
        assert cells.shape == (2, 16, 12)
        assert torch.allclose(cells.mean((1, 2)), 1 - ms_ssim(x, y), rtol=0.15)


def test_a_cell_s_damage_shows_there_most() -> None:
    x = picture("chelsea", 128, 160)
    y = x.clone()
    y[..., 48:64, 96:112] = y[..., 48:64, 96:112].flip(-1)
    cells = structure_cells(x, y, 16)[0]
    assert int(cells.argmax()) == 3 * 10 + 6
    assert cells[:, :2].abs().max() < 1e-4
    assert structure_cells(x, x, 16).abs().max() < 1e-5


def test_cells_have_gradients_even_for_opposites() -> None:
    x = picture("coffee", 64, 48)
    for y in (x, 1 - x, torch.zeros_like(x)):
        y = y.clone().requires_grad_()
        structure_cells(x, y, 16).sum().backward()  # type: ignore[no-untyped-call]
        assert y.grad is not None
        assert y.grad.isfinite().all()
