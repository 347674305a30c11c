"""Classifier-free guidance of denoisers equals guidance of the network's output."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from latentcodec.diffusion.guidance import guide, guide_batch
from latentcodec.diffusion.prediction import denoiser_of
from latentcodec.diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule()
X = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SCALE, SIGMA = 7.5, 2.0


def with_condition(x: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x + 0.3)


def without(x: Tensor, t: Tensor) -> Tensor:
    return torch.sin(x)


def guided(x: Tensor, t: Tensor) -> Tensor:
    return without(x, t) + SCALE * (with_condition(x, t) - without(x, t))


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_guiding_denoisers_guides_the_network(prediction: Any) -> None:
    expected = denoiser_of(guided, SCHEDULE, prediction)(X, SIGMA)
    pair = [denoiser_of(each, SCHEDULE, prediction) for each in (with_condition, without)]
    assert torch.allclose(guide(pair[0], pair[1], SCALE)(X, SIGMA), expected)

    def both(x: Tensor, t: Tensor) -> Tensor:
        assert len(t) == len(x) == 2 * len(X)
        return torch.cat([without(x[: len(X)], t), with_condition(x[len(X) :], t)])

    batch = guide_batch(denoiser_of(both, SCHEDULE, prediction), SCALE)
    assert torch.allclose(batch(X, SIGMA), expected)


def test_scale_1_is_the_conditional_one_and_calls_no_other() -> None:
    def never(x: Tensor, sigma: float) -> Tensor:
        raise AssertionError

    assert torch.equal(guide(lambda x, sigma: 2 * x, never, 1.0)(X, SIGMA), 2 * X)
