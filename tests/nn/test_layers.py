"""Knots, levels and the residual block."""

from __future__ import annotations

import pytest
import torch

from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT, MAX_LEVEL
from latentcodec.nn.layers import (
    LAMBDA_HIGH,
    LAMBDA_LOW,
    ResidualBlock,
    interpolate_knots,
    lambda_of_level,
    signed_log,
)


def test_knots_are_met_exactly_and_lines_lie_between() -> None:
    table = torch.randn(KNOTS, 5)
    levels = torch.arange(KNOTS) * float(LEVELS_PER_KNOT)
    assert torch.equal(interpolate_knots(table, levels)[:, :, 0, 0], table)
    between = interpolate_knots(table, torch.tensor([LEVELS_PER_KNOT * 3.25]))
    assert torch.allclose(between[0, :, 0, 0], 0.75 * table[3] + 0.25 * table[4])


def test_interpolation_is_continuous() -> None:
    table = torch.randn(KNOTS, 3)
    levels = torch.arange(0, MAX_LEVEL + 1).float()
    steps = interpolate_knots(table, levels)[:, :, 0, 0].diff(dim=0).abs()
    steepest = table.diff(dim=0).abs().amax() / LEVELS_PER_KNOT
    assert steps.max() <= steepest + 1e-5


def test_a_batch_is_interpolated_sample_by_sample() -> None:
    table, levels = torch.randn(KNOTS, 4), torch.tensor([0.0, 17.5, 2222.0, 4000.0])
    together = interpolate_knots(table, levels)
    assert together.shape == (4, 4, 1, 1)
    for one, level in zip(together, levels, strict=True):
        assert torch.allclose(one, interpolate_knots(table, level[None])[0])


def test_lambda_rises_geometrically_between_its_ends() -> None:
    found = lambda_of_level(torch.tensor([0.0, 1000.0, 2000.0, 3000.0, 4000.0]))
    assert found[0].item() == pytest.approx(LAMBDA_LOW)
    assert found[-1].item() == pytest.approx(LAMBDA_HIGH)
    ratios = found[1:] / found[:-1]
    assert torch.allclose(ratios, ratios[0].expand(4), rtol=1e-4)


def test_signed_log_is_odd_and_invertible() -> None:
    x = torch.linspace(-500, 500, 1001)
    y = signed_log(x)
    assert torch.equal(signed_log(-x), -y)
    assert torch.allclose(y.sign() * torch.expm1(y.abs()), x, atol=1e-3)
    assert (y.diff() > 0).all()


def test_signed_log_has_its_slope_at_zero_too() -> None:
    x = torch.tensor([-3.0, 0.0, 0.5], requires_grad=True)
    signed_log(x).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.equal(x.grad, torch.tensor([0.25, 1.0, 1 / 1.5]))


def test_residual_block_starts_near_the_identity_and_depends_on_the_level() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(8)
    x = torch.randn(2, 8, 6, 6)
    level = torch.tensor([0.0, 4000.0])
    out = block(x, level)
    assert out.shape == x.shape
    assert (out - x).std() < 0.2 * x.std()
    with torch.no_grad():
        block.bias[-1] += 1
    again = block(x, level)
    assert torch.allclose(again[0], out[0], atol=1e-5)
    assert not torch.allclose(again[1], out[1], atol=1e-2)
