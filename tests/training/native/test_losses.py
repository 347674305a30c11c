"""The loss: MS-SSIM as its authors define it, and rate and distortion in the balance that is written down."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from latentcodec.nn.layers import lambda_of_level
from latentcodec.nn.perceptual import VISIBLE_SCALE, visible_difference
from latentcodec.nn.structure import MS_SSIM_SCALE, ms_ssim
from latentcodec.training.native.losses import rate_distortion_loss
from tests.conftest import picture


def distorted(x: Tensor, amount: float) -> Tensor:
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    return (x + amount * noise).clamp(0, 1)


def test_the_loss_is_the_one_that_is_written_down() -> None:
    x = torch.cat([picture("astronaut", 128, 128), picture("coffee", 128, 128)])
    y, bits, level = distorted(x, 0.05), torch.tensor([9000.0, 30_000.0]), torch.tensor([0.0, 3000.0])
    for share, visible in ((0.0, 0.0), (0.5, 0.0), (0.3, 0.25), (0.0, 1.0)):
        loss, parts = rate_distortion_loss(x, y, bits, level, share, visible)
        weight = lambda_of_level(level)
        mse = ((x - y) ** 2).mean((1, 2, 3)) * 255**2
        distortion = (1 - share - visible) * mse + share * MS_SSIM_SCALE * (1 - ms_ssim(x, y))
        distortion = distortion + visible * VISIBLE_SCALE * visible_difference(x, y)
        expected = ((bits / 128**2 + weight * distortion) / weight**0.5).mean()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert parts["loss"] == pytest.approx(loss.item())
        assert parts["bpp"] == pytest.approx(19_500 / 128**2)
        assert parts["mse"] == pytest.approx(mse.mean().item(), rel=1e-5)
        assert 0 < parts["ms_ssim"] < 1
        assert parts["visible"] == pytest.approx(visible_difference(x, y).mean().item(), rel=1e-5)
