"""Noise schedules, and timesteps to noise levels and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from latentcodec.diffusion.schedule import (
    NoiseSchedule,
    from_variance_preserving,
    to_variance_preserving,
)
from latentcodec.errors import InvalidArgument

KINDS: tuple[Any, ...] = ("linear", "scaled_linear", "cosine")


@pytest.mark.parametrize("kind", KINDS)
def test_noise_rises_all_the_way(kind: Any) -> None:
    schedule = NoiseSchedule(kind=kind)
    assert schedule.betas.shape == schedule.sigmas.shape == (1000,)
    assert (np.diff(schedule.alphas_cumprod) < 0).all()
    assert (np.diff(schedule.sigmas) > 0).all()
    assert (schedule.least, schedule.most) == (schedule.sigmas[0], schedule.sigmas[-1])


def test_stable_diffusions_ends_are_the_published_ones() -> None:
    schedule = NoiseSchedule()
    assert schedule.least == pytest.approx(0.0292, abs=1e-4)  # k-diffusion prints these two
    assert schedule.most == pytest.approx(14.6146, abs=1e-3)


def test_scaled_linear_has_square_roots_on_a_line() -> None:
    roots = np.sqrt(NoiseSchedule().betas)
    assert np.diff(roots) == pytest.approx(np.full(999, np.diff(roots).mean()))
    assert (roots[0] ** 2, roots[-1] ** 2) == (pytest.approx(0.00085), pytest.approx(0.012))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["linear", "log", "nearest"])
def test_whole_timesteps_come_back_by_every_rule(kind: Any, rule: Any) -> None:
    schedule = NoiseSchedule(kind=kind)
    for timestep in (0, 1, 16, 499, 998, 999):
        assert schedule.timestep_of(schedule.sigma_of(timestep), rule) == pytest.approx(timestep, abs=1e-6)


def test_between_timesteps_linear_undoes_sigma_and_the_others_come_near() -> None:
    schedule = NoiseSchedule()
    for timestep in (0.25, 41.625, 957.375):
        sigma = schedule.sigma_of(timestep)
        assert schedule.timestep_of(sigma, "linear") == pytest.approx(timestep, abs=1e-9)
        assert schedule.timestep_of(sigma, "log") == pytest.approx(timestep, abs=0.06)
        assert schedule.timestep_of(sigma, "nearest") == round(timestep)


def test_levels_past_the_ends_have_the_timesteps_of_the_ends() -> None:
    schedule = NoiseSchedule()
    for rule in ("linear", "log", "nearest"):
        assert schedule.timestep_of(1e-5, rule) == 0
        assert schedule.timestep_of(100.0, rule) == 999


def test_the_two_scales_are_inverse_and_the_network_sees_variance_1() -> None:
    x = torch.randn(2, 4, 32, 32, dtype=torch.float64)
    assert torch.allclose(from_variance_preserving(to_variance_preserving(x, 3.0), 3.0), x)
    noisy = x + 3.0 * torch.randn_like(x)
    assert to_variance_preserving(noisy, 3.0).std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    "settings",
    [
        {"timesteps": 1},
        {"beta_start": 0.0},
        {"beta_start": 0.1, "beta_end": 0.01},
        {"beta_end": 1.0},
        {"kind": "sigmoid"},
    ],
)
def test_impossible_schedules_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="noise schedule"):
        NoiseSchedule(**settings)


@pytest.mark.parametrize("timestep", [-0.5, 999.5, float("nan")])
def test_timesteps_outside_the_schedule_are_refused(timestep: float) -> None:
    with pytest.raises(InvalidArgument, match="0 to 999"):
        NoiseSchedule().sigma_of(timestep)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_no_noise_has_no_timestep(sigma: float) -> None:
    with pytest.raises(InvalidArgument, match="above 0"):
        NoiseSchedule().timestep_of(sigma)
