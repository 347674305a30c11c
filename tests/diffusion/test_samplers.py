"""Samplers on a denoiser whose answers are known: all data Gaussian with mean M and deviation S.

There the estimate of x0 is (S^2 x + sigma^2 M) / (S^2 + sigma^2), and the probability flow from (x, sigma)
ends at M + (x - M) S / sqrt(S^2 + sigma^2). tests/parity compares the sequences with diffusers'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from latentcodec.diffusion.levels import ddim_levels, dpm_levels, euler_levels, karras_sigmas
from latentcodec.diffusion.noise import seeded_noise, start_from_noise
from latentcodec.diffusion.samplers import (
    Sampler,
    Step,
    sample_ddim,
    sample_dpmpp_2m,
    sample_euler,
    sample_euler_ancestral,
    sample_lcm,
    sample_one_step,
    sample_plms,
)
from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import InvalidArgument

M, S = 0.7, 0.4
SCHEDULE = NoiseSchedule()
SAMPLERS: dict[str, Sampler] = {
    "euler": sample_euler,
    "euler ancestral": sample_euler_ancestral,
    "ddim": sample_ddim,
    "ddim eta": partial(sample_ddim, eta=0.9),
    "plms": sample_plms,
    "plms v": partial(sample_plms, slope="v"),
    "dpm++ 2m": sample_dpmpp_2m,
    "lcm": sample_lcm,
    "one step": sample_one_step,
}
ODE = ("euler", "ddim", "plms", "plms v", "dpm++ 2m")
RANDOM = ("euler ancestral", "ddim eta", "lcm")
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def gaussian(x: Tensor, sigma: float) -> Tensor:
    return (S**2 * x + sigma**2 * M) / (S**2 + sigma**2)


def levels(steps: int, final: float = 0.0) -> tuple[float, ...]:
    return (*karras_sigmas(SCHEDULE.least, SCHEDULE.most, steps), final)


def start(images: int = 1, size: int = 8) -> Tensor:
    x = torch.zeros(images, 4, size, size, dtype=torch.float64)
    return start_from_noise(seeded_noise(range(images))(x), SCHEDULE.most)


def run(name: str, sigmas: tuple[float, ...], x: Tensor, seed: int = 0, **more: Any) -> Tensor:
    return SAMPLERS[name](gaussian, x, sigmas, seeded_noise(range(seed, seed + len(x))), **more)


def ode_error(name: str, steps: int) -> float:
    """The largest distance to the exact end of the probability flow, at the schedule's least level."""
    x, sigmas = start(), karras_sigmas(SCHEDULE.least, SCHEDULE.most, steps + 1)
    kept = math.sqrt((S**2 + sigmas[-1] ** 2) / (S**2 + sigmas[0] ** 2))
    return float((run(name, sigmas, x) - (M + (x - M) * kept)).abs().max())


@pytest.mark.parametrize("name", ODE)
def test_deterministic_samplers_converge_to_the_probability_flow(name: str) -> None:
    order = 2 if name in ("plms", "dpm++ 2m") else 1
    errors = [ode_error(name, steps) for steps in (50, 100, 200, 400)]
    assert errors[-1] < (0.01 if order == 1 else 0.001)
    assert all(later < 0.7 * former for former, later in pairwise(errors))
    assert errors[-1] < 1.3 * errors[-2] / 2**order


@pytest.mark.parametrize("name", ["euler ancestral", "ddim eta", *ODE])
def test_samples_have_the_datas_mean_and_deviation(name: str) -> None:
    found = run(name, levels(100), start(size=48) + M)
    assert found.mean().item() == pytest.approx(M, abs=0.02)
    assert found.std().item() == pytest.approx(S, rel=0.06)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"plms v"}))  # which leaves the line
def test_a_denoiser_that_knows_the_picture_is_obeyed(name: str) -> None:
    picture = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    found = SAMPLERS[name](lambda x, sigma: picture, start(), levels(7), seeded_noise([1]))
    assert torch.allclose(found, picture)


@every_sampler
def test_one_step_to_zero_is_the_denoiser(name: str) -> None:
    x = start()
    assert torch.allclose(run(name, (SCHEDULE.most, 0.0), x), gaussian(x, SCHEDULE.most))


def test_one_step_ignores_all_levels_but_the_first() -> None:
    sigmas = levels(9)
    assert torch.equal(run("one step", sigmas, start()), gaussian(start(), sigmas[0]))


@every_sampler
def test_a_seed_repeats_and_another_differs_where_noise_is_drawn(name: str) -> None:
    first = run(name, levels(6), start(), seed=5)
    assert torch.equal(first, run(name, levels(6), start(), seed=5))
    assert torch.equal(first, run(name, levels(6), start(), seed=6)) == (name not in RANDOM)


@every_sampler
def test_an_image_does_not_depend_on_its_batch(name: str) -> None:
    both = run(name, levels(5), start(2), seed=3)
    alone = SAMPLERS[name](gaussian, start(2)[1:], levels(5), seeded_noise([4]))
    assert torch.allclose(both[1:], alone)


@every_sampler
def test_the_callback_sees_every_step_and_the_last_is_the_result(name: str) -> None:
    seen: list[Step] = []
    sigmas = levels(6, final=0.01)
    found = run(name, sigmas, start(), callback=seen.append)
    if name == "one step":
        assert [(each.index, each.steps, each.sigma) for each in seen] == [(0, 1, 0.0)]
    else:
        assert [each.index for each in seen] == list(range(6))
        assert {each.steps for each in seen} == {6}
        assert [each.sigma for each in seen] == list(sigmas[1:])
    assert torch.equal(seen[-1].x, found)
    assert torch.allclose(seen[0].denoised, gaussian(start(), sigmas[0]))


@every_sampler
def test_a_callback_cancels_by_raising(name: str) -> None:
    calls = []

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        calls.append(sigma)
        return gaussian(x, sigma)

    def cancel(step: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SAMPLERS[name](denoiser, start(), levels(9), seeded_noise([0]), cancel)
    assert len(calls) <= 2  # PLMS calls twice in its first step


@pytest.mark.parametrize(("name", "calls"), [(each, 9 + each.startswith("plms")) for each in SAMPLERS][:-1])
def test_the_denoiser_is_called_once_a_step_and_never_at_the_last_level(name: str, calls: int) -> None:
    seen = []

    def denoiser(x: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return gaussian(x, sigma)

    SAMPLERS[name](denoiser, start(), levels(9), seeded_noise([0]))
    assert len(seen) == calls
    assert min(seen) > 0


@pytest.mark.parametrize("make", [ddim_levels, euler_levels, dpm_levels])
@every_sampler
def test_every_sampler_runs_on_every_grid(name: str, make: Callable[..., Any]) -> None:
    for steps in (1, 2, 3, 20):
        sigmas = make(SCHEDULE, steps, "trailing").sigmas
        found = run(name, sigmas, start())
        assert bool(found.isfinite().all())


def test_repeated_levels_change_nothing_without_noise() -> None:
    once, twice = (3.0, 1.0, 0.0), (3.0, 3.0, 1.0, 1.0, 0.0)
    for name in ("euler", "ddim", "dpm++ 2m"):
        assert torch.allclose(run(name, once, start()), run(name, twice, start()))


@every_sampler
def test_the_dtype_of_x_is_kept(name: str) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        assert run(name, levels(4), start().to(dtype)).dtype == dtype


@every_sampler
@pytest.mark.parametrize(
    "sigmas", [(), (1.0,), (0.0, 0.0), (1.0, 2.0, 0.0), (1.0, 0.0, 0.0), (1.0, -1.0), (float("nan"), 0.0)]
)
def test_levels_that_do_not_fall_are_refused(name: str, sigmas: tuple[float, ...]) -> None:
    with pytest.raises(InvalidArgument, match="noise levels"):
        run(name, sigmas, start())


@pytest.mark.parametrize("name", RANDOM)
def test_noise_that_is_missing_is_asked_for(name: str) -> None:
    with pytest.raises(InvalidArgument, match="seeded_noise"):
        SAMPLERS[name](gaussian, start(), levels(4))


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan")])
def test_eta_outside_0_to_1_is_refused(eta: float) -> None:
    with pytest.raises(InvalidArgument, match="eta"):
        sample_ddim(gaussian, start(), levels(4), seeded_noise([0]), eta=eta)
