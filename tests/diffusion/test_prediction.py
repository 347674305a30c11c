"""Networks of the three prediction types are one and the same denoiser."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from latentcodec.diffusion.prediction import consistency_denoiser, denoiser_of
from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import InvalidArgument

SCHEDULE = NoiseSchedule()
PREDICTIONS: tuple[Any, ...] = ("epsilon", "v", "sample")


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("timestep", [0, 16, 500, 999])
def test_a_perfect_network_gives_the_picture(prediction: Any, timestep: int) -> None:
    picture, n = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    a = float(SCHEDULE.alphas_cumprod[timestep])
    target = {
        "epsilon": n,
        "v": math.sqrt(a) * n - math.sqrt(1 - a) * picture,
        "sample": picture,
    }[prediction]
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.extend((x, t))
        return target

    sigma = SCHEDULE.sigma_of(timestep)
    found = denoiser_of(network, SCHEDULE, prediction)(picture + sigma * n, sigma)
    assert torch.allclose(found, picture)
    assert torch.allclose(seen[0], math.sqrt(a) * picture + math.sqrt(1 - a) * n)
    assert seen[1].dtype == torch.float32
    assert seen[1].tolist() == pytest.approx([timestep] * 3, abs=1e-4)


@pytest.mark.parametrize("rule", ["linear", "log", "nearest"])
def test_the_timestep_follows_the_rule(rule: Any) -> None:
    seen: list[float] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(float(t))
        return x

    denoiser_of(network, SCHEDULE, "epsilon", rule)(torch.zeros(1, 4, 2, 2), 0.05)
    assert seen == [pytest.approx(SCHEDULE.timestep_of(0.05, rule), abs=1e-6)]
    assert (seen[0] == round(seen[0])) == (rule == "nearest")


def test_a_half_precision_network_does_not_round_the_state() -> None:
    x = torch.randn(1, 4, 6, 6)
    denoiser = denoiser_of(lambda x, t: torch.zeros_like(x, dtype=torch.float16), SCHEDULE, "epsilon")
    found = denoiser(x, 3.0)
    assert found.dtype == torch.float32
    assert torch.equal(found, x)


def test_an_unknown_prediction_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="epsilon, v or sample"):
        denoiser_of(lambda x, t: x, SCHEDULE, "flow")  # type: ignore[arg-type]


def test_a_consistency_function_is_the_identity_at_timestep_0_and_the_denoiser_far_from_it() -> None:
    x = torch.randn(1, 4, 6, 6, dtype=torch.float64)
    function = consistency_denoiser(lambda x, sigma: torch.zeros_like(x), SCHEDULE)
    least, most = SCHEDULE.least, SCHEDULE.most
    assert torch.allclose(function(x, least), x / math.sqrt(1 + least**2))
    assert function(x, most).abs().max() < 1e-7
    skip = 0.25 / ((10 * 16) ** 2 + 0.25)
    sigma = SCHEDULE.sigma_of(16)
    assert torch.allclose(function(x, sigma), skip * x / math.sqrt(1 + sigma**2))
