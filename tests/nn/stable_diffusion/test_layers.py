"""Layout, sinusoids, and the changes of resolution."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from latentcodec.nn.stable_diffusion.layers import (
    Convolution,
    Downsample,
    GroupNorm,
    Upsample,
    fast_layout,
    sinusoid,
)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random networks on every run."""
    torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fast_layout_keeps_values(dtype: torch.dtype) -> None:
    x = torch.randn(2, 3, 4, 5).to(dtype)
    fast = fast_layout(x)
    assert torch.equal(fast, x)
    assert fast.is_contiguous(memory_format=torch.channels_last)


def test_sinusoids_are_cosines_then_sines() -> None:
    found = sinusoid(torch.tensor([0.0, 999.0, 12.25]), 6)
    assert torch.equal(found[0], torch.tensor([1.0, 1, 1, 0, 0, 0]))
    for row, position in ((1, 999.0), (2, 12.25)):
        angles = [position * 10_000 ** (-index / 3) for index in range(3)]
        expected = [*map(math.cos, angles), *map(math.sin, angles)]
        torch.testing.assert_close(found[row], torch.tensor(expected), rtol=0, atol=2e-4)


def test_sinusoids_are_float32_for_all_positions() -> None:
    for positions in (torch.tensor(999), torch.tensor([999.0], dtype=torch.float64)):
        assert sinusoid(positions, 8).dtype == torch.float32
    assert sinusoid(torch.zeros(2, 6), 8).shape == (2, 6, 8)


@pytest.mark.parametrize("side", [64, 256])
def test_norms_of_large_maps_are_accurate(side: int) -> None:
    x = fast_layout(torch.randn(1, 32, side, side) + 0.5)
    norm = GroupNorm(8, 32)
    expected = functional.group_norm(x.double(), 8)
    assert (norm(x) - expected).norm() / expected.norm() < 1e-6
    assert norm(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(7, 9), (8, 8), (17, 16), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_the_same_as_a_matrix_product(size: tuple[int, int], stride: int) -> None:
    convolution = Convolution(5, 6, stride).double()
    x = torch.randn(2, 5, *size, dtype=torch.float64)
    expected = functional.conv2d(x, convolution.weight, convolution.bias, stride, padding=1)
    torch.testing.assert_close(convolution(x), expected)


@pytest.mark.parametrize(("one_sided", "size"), [(True, (4, 3)), (False, (4, 4))])
def test_downsampling_pads_one_side_or_both(one_sided: bool, size: tuple[int, int]) -> None:
    assert Downsample(4, one_sided=one_sided)(torch.zeros(1, 4, 8, 7)).shape == (1, 4, *size)


@pytest.mark.parametrize(
    ("size", "wanted"), [((4, 4), (8, 8)), ((4, 4), (8, 7)), ((20, 17), (40, 34)), ((20, 17), (39, 33))]
)
def test_upsampling_is_nearest_neighbours_and_a_convolution(
    size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    upsample = Upsample(4).double()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    weight, bias = upsample.conv.weight, upsample.conv.bias
    expected = functional.conv2d(functional.interpolate(x, size=wanted), weight, bias, padding=1)
    torch.testing.assert_close(upsample(x, wanted), expected)
