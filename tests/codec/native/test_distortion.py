"""What the search minimises: near the loss's distortion, local, and blind to pixels that do not count."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from latentcodec.codec.native import distortion
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.distortion import CELL, STRUCTURE, VISIBLE, _distortion, measure
from latentcodec.codec.native.tile_search import search_network
from latentcodec.nn.device import full_precision
from latentcodec.nn.perceptual import VISIBLE_SCALE, visible_cells, visible_difference
from latentcodec.nn.structure import MS_SSIM_SCALE, ms_ssim, structure_cells
from tests.conftest import photograph, picture

# What equal pictures may differ by: their local means, in float32, differ by a few units of the last place if
# two kernels took them, and a root of such differences is some 0.04.
ROUNDING = 0.08


def jpeg(name: str, height: int, width: int) -> Tensor:
    stream = io.BytesIO()
    Image.fromarray(photograph(name, width, height)).save(stream, "JPEG", quality=50)
    with Image.open(stream) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255


def noisy(x: Tensor, amount: float = 0.03) -> Tensor:
    return (x + amount * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


@pytest.mark.parametrize(("structure", "visible"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (STRUCTURE, VISIBLE)])
@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_it_is_near_the_loss_s_with_its_shares(
    name: str, structure: float, visible: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distortion, "STRUCTURE", structure)
    monkeypatch.setattr(distortion, "VISIBLE", visible)
    x = picture(name, 192, 256)
    y = jpeg(name, 192, 256)
    cells = _distortion(x, y, torch.ones_like(x[:, :1]))
    expected = (1 - structure - visible) * (x - y).square().mean() * 255**2
    expected = expected + structure * MS_SSIM_SCALE * (1 - ms_ssim(x, y)[0])
    expected = expected + visible * VISIBLE_SCALE * visible_difference(x, y)[0]
    assert cells.shape == (12, 16)
    # A cell's 4-norm has fewer peaks than the picture's.
    tolerance = 0.45 * visible + 0.3 * structure + 1e-4
    assert float(cells.mean()) == pytest.approx(float(expected), rel=tolerance)


def test_it_is_the_sum_of_its_parts() -> None:
    x = picture("coffee", 48, 64)
    y = noisy(x)
    squared = 255**2 * (x - y).square().mean(1).unflatten(2, (4, 16)).unflatten(1, (3, 16)).mean((2, 4))
    expected = (1 - STRUCTURE - VISIBLE) * squared
    expected = expected + STRUCTURE * MS_SSIM_SCALE * structure_cells(x, y, CELL)
    expected = expected + VISIBLE * VISIBLE_SCALE * visible_cells(x, y, CELL)
    assert torch.allclose(_distortion(x, y, torch.ones_like(x[:, :1])), expected[0], rtol=1e-3)


def test_its_gradient_is_that_of_differences() -> None:
    x = picture("coffee", 48, 64)
    counts = torch.ones_like(x[:, :1])
    counts[..., 50:] = 0
    y = x.lerp(torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False), 0.8).requires_grad_()
    (slope,) = torch.autograd.grad(_distortion(x, y, counts).sum(), y)
    assert not slope[..., 50:].any()
    direction = slope.sign() * (slope.abs() > slope.abs().quantile(0.9))
    up, down = (float(_distortion(x, y.detach() + side * direction, counts).sum()) for side in (1e-3, -1e-3))
    assert (up - down) / 2e-3 == pytest.approx(float((slope * direction).sum()), rel=0.03)


def test_pixels_that_do_not_count_are_right() -> None:
    x = picture("chelsea", 64, 96)
    y = noisy(x)
    counts = torch.ones_like(x[:, :1])
    counts[..., 32:] = 0
    cells = _distortion(x, y, counts)
    other = y.clone()
    other[..., 32:] = 0.5
    assert torch.equal(_distortion(x, other, counts), cells)
    assert cells[:, :2].min() > 0.1
    assert _distortion(x, y, torch.zeros_like(counts)).max() < ROUNDING


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (24, 40), (16, 72)])
def test_sides_need_not_be_whole_cells(height: int, width: int) -> None:
    x = picture("coffee", height, width)
    counts = torch.ones_like(x[:, :1])
    cells = _distortion(x, noisy(x), counts)
    assert cells.shape == (-(-height // CELL), -(-width // CELL))
    assert cells.isfinite().all()
    assert (cells > 0).all()
    assert _distortion(x, x, counts).abs().max() < ROUNDING


def test_a_gray_picture_is_measured_as_it_is_shown(
    native: NativeCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean of the channels, in each of the three: what a decoder makes of a gray picture."""
    monkeypatch.setattr(distortion, "fast_precision", full_precision)
    level = 2400
    pixels = photograph("chelsea", 64, 64)
    pixels[:] = pixels[..., 1:2]
    latents = np.rint(16 * native.analyse(pixels, level)).astype(np.int32)
    samples = torch.cat([torch.from_numpy(pixels).permute(2, 0, 1) / 255, torch.ones(1, 64, 64)])
    core = slice(0, 8), slice(0, 8)
    synthesis = search_network(native)
    found = measure(synthesis, torch.from_numpy(latents), level, samples, core, gray=True, gradients=False)
    decoded = torch.from_numpy(native.synthesis(latents, level, 16).astype(np.float32) / 65535)
    shown = decoded.permute(2, 0, 1)[None].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    expected = _distortion(samples[None, :3], shown, samples[None, 3:])
    # A decoder's samples, but for biases that round otherwise between the knots.
    assert torch.allclose(found.distortion, expected, rtol=0.05, atol=0.02 * float(expected.mean()))
    assert found.gradients == ()
