"""What models do by default, and what is asked for over it."""

from __future__ import annotations

from typing import Any

import pytest

from latentcodec.errors import InvalidArgument
from latentcodec.generate.defaults import SAMPLERS, defaults_of, needs_few_steps, settle, with_scheduler
from latentcodec.weights.checkpoints.families import FAMILIES

SD1 = defaults_of("sd1", "epsilon")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_own_defaults_and_their_source(family: str) -> None:
    defaults = defaults_of(family, FAMILIES[family].prediction)
    assert defaults.source
    settings = settle(defaults)
    assert settings.sampler in SAMPLERS
    assert settings.run == defaults.steps


def test_what_no_tensor_shows() -> None:
    assert defaults_of("sd2", "v_prediction").side == 768
    assert defaults_of("sd2", "epsilon").side == 512
    turbo = defaults_of("sdxl", "epsilon", few_steps=True)
    assert (turbo.steps, turbo.guidance, turbo.spacing) == (1, 0, "trailing")
    assert defaults_of("sdxl", "epsilon").side == 1024


def test_another_sampler_takes_neither_eta_nor_levels_of_the_models_own() -> None:
    inpainting = defaults_of("sd2-inpainting", "epsilon")
    assert settle(inpainting).eta == 1
    assert settle(inpainting, sampler="euler").eta == 0


def test_a_folders_scheduler_is_the_default() -> None:
    stated: dict[str, Any] = {"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}
    settings = settle(with_scheduler(SD1, stated))
    assert (settings.sampler, settings.spacing, settings.karras, settings.offset) == (
        "dpm++2m",
        "linspace",
        True,
        0,
    )
    stated = {"_class_name": "PNDMScheduler", "timestep_spacing": "leading", "steps_offset": 1}
    settings = settle(with_scheduler(SD1, stated))
    assert (settings.sampler, settings.spacing, settings.karras, settings.offset) == (
        "plms",
        "leading",
        False,
        1,
    )
    assert settings.steps == SD1.steps
    for nonsense in ({}, {"_class_name": "KDPM2DiscreteScheduler"}, {"_class_name": ["DDIMScheduler"]}):
        assert with_scheduler(SD1, nonsense) == SD1
    odd = with_scheduler(SD1, {"_class_name": "DDIMScheduler", "timestep_spacing": 3, "steps_offset": "one"})
    assert (odd.spacing, odd.offset) == ("leading", 1)


def test_few_steps_are_needed_by_name_or_by_turbos_scheduler() -> None:
    turbo: dict[str, Any] = {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}
    assert needs_few_steps(["sd_xl_Turbo_1.0_fp16"], {})
    assert needs_few_steps(["mine"], turbo)
    assert not needs_few_steps(["mine"], turbo | {"rescale_betas_zero_snr": True})
    assert not needs_few_steps(["mine"], turbo | {"_class_name": "DDIMScheduler"})
    assert not needs_few_steps(["mine"], {})


@pytest.mark.parametrize(("strength", "steps", "run"), [(0.29, 100, 29), (1.0, 4, 4), (0.5, 3, 1)])
def test_strength_is_a_share_of_the_steps(strength: float, steps: int, run: int) -> None:
    assert settle(SD1, strength=strength, steps=steps).run == run


def test_a_model_of_one_step_runs_as_many_as_a_strength_needs() -> None:
    turbo = defaults_of("sdxl", "epsilon", few_steps=True)
    for strength, steps in ((0.5, 2), (0.3, 4), (1.0, 1)):
        settings = settle(turbo, strength=strength)
        assert (settings.steps, settings.run) == (steps, 1)
    assert settle(defaults_of("lcm", "epsilon"), strength=0.1).steps == 4  # of a shorter schedule


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"steps": 0}, "steps 0: it is a whole number from 1 to 1000"),
        ({"steps": True}, "steps True"),
        ({"steps": 2.5}, "steps 2.5"),
        ({"guidance": -1}, "guidance -1: it is a number from 0 to 100"),
        ({"guidance": float("nan")}, "guidance nan"),
        ({"guidance": "7"}, "guidance '7'"),
        ({"rescale": 1.5}, "rescale 1.5"),
        ({"sampler": "heun"}, "sampler 'heun': use one of ddim"),
        ({"spacing": "even"}, "spacing 'even'"),
        ({"karras": True}, "karras: ddim has no such levels; euler and dpm"),
        ({"eta": 0.5, "sampler": "euler"}, "eta 0.5: of ddim only"),
        ({"strength": 1.5}, "strength 1.5: it is a number from 0 to 1"),
        ({"strength": 0.3, "steps": 2}, "strength 0.3 of 2 steps leaves none to run: .* 0.5, or at least 4"),
        ({"strength": 0}, "strength 0 leaves no step"),
    ],
)
def test_what_is_out_of_range(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        settle(SD1, **asked)
