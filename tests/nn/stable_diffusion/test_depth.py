"""The depth network and what is around it: sizes, ranges, flat pictures. tests/parity has the reference."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.depth import (
    DPT_HYBRID,
    MAX_SIDE,
    DepthConfig,
    DepthEstimator,
    depth_condition,
    picture_for_depth,
)

TINY = DepthConfig(
    stem=16, backbone_widths=(32, 64, 96), backbone_depths=(1, 1, 2), norm_groups=2, width=32, layers=3,
    heads=4, feed_forward=64, grid=4, taps=(2, 3), reassembled_widths=(32, 32), fusion_width=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def network() -> DepthEstimator:
    torch.manual_seed(0)
    network = DepthEstimator(TINY).eval().requires_grad_(False)
    network.head["head"][4].bias.fill_(1)  # type: ignore[index, union-attr, operator]
    return network


def test_parameter_count() -> None:
    """MiDaS's 123.1 million without the classifier of 769,000 that its transformer came with."""
    with torch.device("meta"):
        network = DepthEstimator(DPT_HYBRID)
    assert sum(parameter.numel() for parameter in network.parameters()) == 122_377_985


@pytest.mark.parametrize("size", [(64, 64), (32, 96), (128, 32)])
def test_depth_has_the_pictures_size_and_is_not_negative(
    network: DepthEstimator, size: tuple[int, int]
) -> None:
    depth = network(torch.rand(2, 3, *size))
    assert depth.shape == (2, *size)
    assert depth.min() >= 0
    assert depth.std() > 0


def test_pictures_do_not_see_each_other(network: DepthEstimator) -> None:
    pictures = torch.rand(2, 3, 64, 96)
    both = network(pictures)
    torch.testing.assert_close(both[1:], network(pictures[1:]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_near_float32(network: DepthEstimator, dtype: torch.dtype) -> None:
    """Also where the weights of a filter are so small that their variance is below float16."""
    half = DepthEstimator(TINY).eval().requires_grad_(False)
    state = network.state_dict()
    state["dpt.embeddings.backbone.bit.embedder.convolution.weight"] *= 1e-3
    half.load_state_dict(state)
    picture = torch.rand(1, 3, 64, 64)
    expected = half(picture)
    found = half.to(dtype)(picture.to(dtype))
    assert found.dtype == dtype
    assert (found.float() - expected).norm() / expected.norm() < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (512, 512, (384, 384)),
        (512, 768, (384, 576)),
        (768, 512, (576, 384)),
        (100, 120, (320, 384)),
        (1, 1, (384, 384)),
        (2000, 50, (384, 32)),
        (400, 9000, (384, MAX_SIDE)),
        (20, 3000, (32, 384)),
    ],
)
def test_size_for_the_network(height: int, width: int, expected: tuple[int, int]) -> None:
    resized = picture_for_depth(torch.rand(1, 3, height, width))
    assert resized.shape == (1, 3, *expected)
    assert resized.min() >= 0
    assert resized.max() <= 1


def test_a_picture_of_one_colour_keeps_it() -> None:
    picture = torch.full((1, 3, 500, 333), 0.25, dtype=torch.float16)
    resized = picture_for_depth(picture)
    assert resized.dtype == torch.float16
    torch.testing.assert_close(resized, torch.full_like(resized, 0.25))


def test_the_condition_fills_its_range_for_each_picture() -> None:
    depth = torch.rand(3, 384, 384) * torch.tensor([1e-2, 1.0, 3e4])[:, None, None] + 5
    condition = depth_condition(depth, (48, 64))
    assert condition.shape == (3, 1, 48, 64)
    torch.testing.assert_close(condition.amin((1, 2, 3)), -torch.ones(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(condition.amax((1, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("value", [0.0, 1e-30, 0.1, 3.3, 2.9e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_where_all_is_equally_far_the_condition_is_the_middle(value: float, dtype: torch.dtype) -> None:
    condition = depth_condition(torch.full((1, 384, 512), value, dtype=dtype), (64, 80))
    assert condition.dtype == torch.float32
    assert condition.abs().max() < 0.02  # not NaN, and what rounding leaves is not stretched


@pytest.mark.parametrize(
    "picture", [torch.rand(3, 64, 64), torch.rand(1, 1, 64, 64), torch.rand(1, 3, 0, 64)]
)
def test_refused_pictures(network: DepthEstimator, picture: Tensor) -> None:
    for use in (network, picture_for_depth):
        with pytest.raises(InvalidArgument, match=r"expected \(batch, 3, height, width\)"):
            use(picture)


def test_refused_sides(network: DepthEstimator) -> None:
    with pytest.raises(InvalidArgument, match="multiples of 32; use picture_for_depth"):
        network(torch.rand(1, 3, 64, 48))


def test_the_configuration_survives_json() -> None:
    assert DepthConfig.from_dict(json.loads(json.dumps(TINY.to_dict()))) == TINY
