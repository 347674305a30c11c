"""Classifier-free guidance of networks: by two of them, by one of twice the batch, and its rescaling."""

from __future__ import annotations

import torch
from torch import Tensor

from latentcodec.diffusion.guidance import guide, guide_batch

X = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
T = torch.tensor([500.0, 500.0])
SCALE = 7.5


def with_condition(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x + 0.3)


def without(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x)


def both(x: Tensor, t: Tensor) -> Tensor:
    assert len(t) == len(x) == 2 * len(X)
    half = len(X)
    return torch.cat([without(x[:half], t[:half]), with_condition(x[half:], t[half:])])


def test_two_networks_and_one_of_twice_the_batch_agree() -> None:
    expected = without(X, T) + SCALE * (with_condition(X, T) - without(X, T))
    assert torch.equal(guide(with_condition, without, SCALE)(X, T), expected)
    assert torch.equal(guide_batch(both, SCALE)(X, T), expected)


def test_scale_1_is_the_conditional_one_and_calls_no_other() -> None:
    def never(x: Tensor, t: Tensor) -> Tensor:
        raise AssertionError

    assert torch.equal(guide(lambda x, t: 2 * x, never, 1.0)(X, T), 2 * X)


def test_rescaling_goes_from_nothing_to_the_conditional_spread() -> None:
    plain = guide(with_condition, without, SCALE)(X, T)
    axes = (1, 2, 3)
    wanted = with_condition(X, T).std(axes)
    full = guide_batch(both, SCALE, 1.0)(X, T)
    assert torch.allclose(full.std(axes), wanted)
    assert torch.allclose(full / plain, (wanted / plain.std(axes))[:, None, None, None].expand_as(X))
    half = guide(with_condition, without, SCALE, 0.5)(X, T)
    assert torch.allclose(half, (full + plain) / 2)
