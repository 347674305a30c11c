"""Which noise levels a sampler visits, and img2img's late start."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from latentcodec.diffusion.levels import (
    Levels,
    ddim_levels,
    dpm_levels,
    euler_levels,
    karras_sigmas,
    lcm_levels,
    spaced_timesteps,
)
from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import InvalidArgument

SCHEDULE = NoiseSchedule()
SPACINGS: tuple[Any, ...] = ("leading", "linspace", "trailing")


def timesteps(levels: Levels) -> list[float]:
    return [round(SCHEDULE.timestep_of(each, levels.rule), 6) for each in levels.sigmas[:-1]]


def test_the_three_spacings_by_hand() -> None:
    assert spaced_timesteps(SCHEDULE, 4, "leading") == [751, 501, 251, 1]
    assert spaced_timesteps(SCHEDULE, 4, "leading", offset=0) == [750, 500, 250, 0]
    assert spaced_timesteps(SCHEDULE, 4, "linspace") == [999, 666, 333, 0]
    assert spaced_timesteps(SCHEDULE, 4, "trailing") == [999, 749, 499, 249]


@pytest.mark.parametrize("make", [ddim_levels, euler_levels, dpm_levels])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 30, 50, 666, 999, 1000])
def test_every_grid_falls_and_has_its_steps(make: Any, spacing: Any, steps: int) -> None:
    if make is dpm_levels and steps == 1000 and spacing != "trailing":
        with pytest.raises(InvalidArgument, match="1001 steps"):
            make(SCHEDULE, steps, spacing)
        return
    levels = make(SCHEDULE, steps, spacing)
    assert levels.steps == steps
    assert list(levels.sigmas) == sorted(levels.sigmas, reverse=True)
    assert levels.sigmas[0] <= SCHEDULE.most
    assert levels.sigmas[-1] == (SCHEDULE.least if make is ddim_levels else 0)


def test_one_step_of_linspace_and_trailing_starts_at_the_top() -> None:
    for spacing in SPACINGS[1:]:
        assert spaced_timesteps(SCHEDULE, 1, spacing) == [999]


def test_dpm_drops_the_lowest_of_one_timestep_more() -> None:
    assert timesteps(dpm_levels(SCHEDULE, 3, "linspace")) == [999, 666, 333]
    assert timesteps(dpm_levels(SCHEDULE, 3, "leading")) == [751, 501, 251]


def test_karras_ranges_differ_by_sampler() -> None:
    euler, dpm = (make(SCHEDULE, 10, "leading", karras=True) for make in (euler_levels, dpm_levels))
    assert euler.sigmas[0] == pytest.approx(SCHEDULE.sigma_of(901))
    assert euler.sigmas[-2] == pytest.approx(SCHEDULE.sigma_of(1))
    assert (dpm.sigmas[0], dpm.sigmas[-2]) == (pytest.approx(SCHEDULE.most), pytest.approx(SCHEDULE.least))
    assert (euler.rule, dpm.rule) == ("log", "nearest")


def test_karras_levels_are_even_in_the_seventh_root() -> None:
    roots = [each ** (1 / 7) for each in karras_sigmas(0.03, 14.6, 9)]
    assert [a - b for a, b in pairwise(roots)] == pytest.approx([(roots[0] - roots[-1]) / 8] * 8)
    assert karras_sigmas(0.03, 14.6, 1) == (pytest.approx(14.6),)


def test_lcm_takes_its_timesteps_from_the_distilled_ones() -> None:
    assert timesteps(lcm_levels(SCHEDULE, 4)) == [999, 759, 499, 259]
    assert timesteps(lcm_levels(SCHEDULE, 4, strength=0.5)) == [499, 379, 259, 139]


@pytest.mark.parametrize(
    ("steps", "settings"),
    [
        (0, {}),
        (51, {}),
        (26, {"strength": 0.5}),
        (1, {"strength": 0.0}),
        (4, {"strength": 1.5}),
        (4, {"original_steps": 2000}),
    ],
)
def test_lcm_grids_that_do_not_exist_are_refused(steps: int, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match="LCM"):
        lcm_levels(SCHEDULE, steps, **settings)


@pytest.mark.parametrize(
    ("steps", "strength", "run"),
    [
        (50, 1.0, 50),
        (50, 0.75, 37),
        (100, 0.29, 29),
        (66, 0.04, 2),
        (4, 0.1, 1),
        (1, 0.5, 1),
        (10, 0.0, 1),
        (10, 0.3, 3),
    ],
)
def test_a_strength_keeps_the_last_steps_and_never_none(steps: int, strength: float, run: int) -> None:
    levels = ddim_levels(SCHEDULE, steps)
    kept = levels.from_strength(strength)
    assert kept.steps == run
    assert kept.sigmas == levels.sigmas[-run - 1 :]
    assert kept.rule == levels.rule


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan")])
def test_strengths_outside_0_to_1_are_refused(strength: float) -> None:
    with pytest.raises(InvalidArgument, match="strength"):
        ddim_levels(SCHEDULE, 10).from_strength(strength)


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_step_counts_that_the_schedule_lacks_are_refused(steps: int) -> None:
    with pytest.raises(InvalidArgument, match="1 to 1000"):
        spaced_timesteps(SCHEDULE, steps, "leading")


def test_unknown_spacings_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="linspace"):
        spaced_timesteps(SCHEDULE, 4, "even")  # type: ignore[arg-type]
