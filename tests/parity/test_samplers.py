"""Each sampler against diffusers' scheduler: every network input, timestep and state of the whole sequence.

    start, seeds ─┬─► latentcodec: levels, denoiser_of(network), sampler ─► inputs, timesteps, states ─┐
                  └─► diffusers: scheduler.step(network(scaled input)) ───► inputs, timesteps, states ─┴─► ==

The network is a smooth non-linear function of x and t.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from latentcodec.diffusion import levels as make
from latentcodec.diffusion.levels import Levels, Spacing
from latentcodec.diffusion.noise import seeded_noise, start_from_image
from latentcodec.diffusion.prediction import Prediction, consistency_denoiser, denoiser_of
from latentcodec.diffusion.samplers import (
    Step,
    sample_ddim,
    sample_dpmpp_2m,
    sample_euler,
    sample_euler_ancestral,
    sample_lcm,
    sample_plms,
)
from latentcodec.diffusion.schedule import (
    NoiseSchedule,
    from_variance_preserving,
    to_variance_preserving,
)
from tests.parity.oracle import relative_error

diffusers = pytest.importorskip("diffusers")
# diffusers hands a torch tensor to numpy's array(), which numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = (1, 2, 4, 10, 25, 50)
SPACINGS: tuple[Spacing, ...] = ("leading", "trailing", "linspace")
PREDICTIONS: tuple[Prediction, ...] = ("epsilon", "v", "sample")
SEEDS = (7, 8)
KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
NAMES = {"epsilon": "epsilon", "v": "v_prediction", "sample": "sample"}

CONFIGURATIONS = {
    "DDIM": "1-50 steps, leading and trailing (1000, linspace); epsilon, v, sample; eta 0 and 0.9",
    "PLMS": "1-50 steps, leading and trailing (1000, linspace); epsilon, v",
    "Euler": "1-50 steps, all spacings, with and without Karras levels; epsilon, v, sample",
    "Euler ancestral": "1-50 steps, all spacings; epsilon, v",
    "DPM++ 2M": "1-50 steps, all spacings; epsilon, v, sample",
    "DPM++ 2M Karras": "1-50 steps; epsilon, v, sample",
    "LCM": "1-50 steps of 50, strength 0.1-1; epsilon, v, sample",
}

STABLE_DIFFUSION = NoiseSchedule()
UPSCALER = NoiseSchedule(beta_start=1e-4, beta_end=0.02, kind="linear")


def network(x: Tensor, t: Tensor) -> Tensor:
    """Bounded, non-linear, different at every pixel and timestep."""
    t = t.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1)) / 1000
    return torch.tanh(0.9 * x + 0.4 * x.roll(1, -1) - 0.3 * x.roll(1, -2) ** 2 + torch.cos(5 * t) - t)


@dataclass
class Trace:
    """What the network was given, and the states after each step, in variance-preserving scale."""

    inputs: list[Tensor]
    timesteps: list[float]
    states: list[Tensor]

    def network(self, x: Tensor, t: Tensor) -> Tensor:
        self.inputs.append(x)
        self.timesteps.append(float(t.flatten()[0]))
        return network(x, t)


def start(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(len(SEEDS), 4, 6, 5, generator=torch.Generator().manual_seed(1)).to(dtype)


def ours(
    sample: Callable[..., Tensor],
    levels: Levels,
    schedule: NoiseSchedule,
    prediction: Prediction,
    x: Tensor,
    *,
    consistency: bool = False,
) -> Trace:
    """`x` and the states are in variance-preserving scale."""
    trace = Trace([], [], [])
    denoiser = denoiser_of(trace.network, schedule, prediction, levels.rule)
    if consistency:
        denoiser = consistency_denoiser(denoiser, schedule)

    def keep(step: Step) -> None:
        trace.states.append(to_variance_preserving(step.x, step.sigma))

    x = from_variance_preserving(x, levels.sigmas[0])
    sample(denoiser, x, levels.sigmas, noise=seeded_noise(SEEDS), callback=keep)
    return trace


def scheduler(name: str, schedule: NoiseSchedule, prediction: str, **options: Any) -> Any:
    return getattr(diffusers, name)(
        num_train_timesteps=schedule.timesteps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=KINDS[schedule.kind],
        prediction_type=NAMES[prediction],
        **options,
    )


def theirs(reference: Any, x: Tensor, *, sigma_space: bool = False, **step_options: Any) -> Trace:
    """Runs the scheduler over its timesteps; `x` and the states are in variance-preserving scale."""
    trace = Trace([], [], [])
    if sigma_space:
        x = x * (reference.sigmas[0] ** 2 + 1) ** 0.5
    for index, t in enumerate(reference.timesteps):
        output = trace.network(reference.scale_model_input(x, t), t)
        x = reference.step(output, t.item(), x, **step_options).prev_sample
        norm = (reference.sigmas[index + 1] ** 2 + 1) ** 0.5 if sigma_space else 1.0
        trace.states.append(x / norm)
    return trace


def in_float64(reference: Any, schedule: NoiseSchedule) -> Any:
    """The scheduler with tables in double precision: its formulas without its float32 rounding."""
    reference.alphas_cumprod = torch.from_numpy(schedule.alphas_cumprod)
    if float(reference.final_alpha_cumprod) != 1:
        reference.final_alpha_cumprod = reference.alphas_cumprod[0]
    return reference


Case = tuple[str, str, Callable[[], tuple[Trace, Trace]]]


def ddim_cases() -> Iterator[Case]:
    def run(
        steps: int,
        spacing: Spacing,
        prediction: Prediction,
        eta: float,
        schedule: NoiseSchedule = STABLE_DIFFUSION,
        to_zero: bool = False,
        double: bool = False,
    ) -> tuple[Trace, Trace]:
        levels = make.ddim_levels(schedule, steps, spacing, to_zero=to_zero)
        options = {"clip_sample": False, "set_alpha_to_one": to_zero, "steps_offset": 1}
        reference = scheduler("DDIMScheduler", schedule, prediction, timestep_spacing=spacing, **options)
        if double:
            in_float64(reference, schedule)
        reference.set_timesteps(steps)
        x, noise = start(torch.float64 if double else torch.float32), seeded_noise(SEEDS)
        found = ours(partial(sample_ddim, eta=eta), levels, schedule, prediction, x)
        expected = Trace([], [], [])
        for t in reference.timesteps:
            drawn = noise(x) if eta else None
            output = expected.network(x, t)
            x = reference.step(output, t, x, eta=eta, variance_noise=drawn).prev_sample
            expected.states.append(x)
        return found, expected

    for steps, spacing, prediction, eta, double in itertools.product(
        STEPS, SPACINGS[:2], PREDICTIONS, (0.0, 0.9), (False, True)
    ):
        name = f"{steps}-{spacing}-{prediction}-eta{eta}-{'float64' if double else 'float32'}"
        yield "DDIM", name, partial(run, steps, spacing, prediction, eta, double=double)
    for prediction, eta in itertools.product(PREDICTIONS, (0.0, 0.9)):
        name = f"25-to-zero-{prediction}-eta{eta}"
        yield "DDIM", name, partial(run, 25, "trailing", prediction, eta, to_zero=True)
    # Only with all the timesteps does the reference, which steps by T // N, meet its own linspace ones. In
    # float32 a thousand steps round to just above the limit.
    yield "DDIM", "1000-linspace-v-float64", partial(run, 1000, "linspace", "v", 0.9, double=True)
    for schedule in (UPSCALER, NoiseSchedule(kind="cosine")):
        yield "DDIM", f"25-{schedule.kind}-v", partial(run, 25, "leading", "v", 0.9, schedule)


def plms_cases() -> Iterator[Case]:
    def run(
        steps: int, spacing: Spacing, prediction: Prediction, double: bool = False
    ) -> tuple[Trace, Trace]:
        schedule = STABLE_DIFFUSION
        levels = make.ddim_levels(schedule, steps, spacing)
        reference = scheduler(
            "PNDMScheduler",
            schedule,
            prediction,
            timestep_spacing=spacing,
            skip_prk_steps=True,
            steps_offset=1,
        )
        if double:
            in_float64(reference, schedule)
        reference.set_timesteps(steps)
        x = start(torch.float64 if double else torch.float32)
        sample = partial(sample_plms, slope="v" if prediction == "v" else "epsilon")
        found = ours(sample, levels, schedule, prediction, x)
        expected = theirs(reference, x)
        if steps > 1:
            del expected.states[0]  # the guess that Heun's method corrects: compared as a network input
        return found, expected

    for steps, spacing, prediction, double in itertools.product(
        STEPS, SPACINGS[:2], PREDICTIONS[:2], (False, True)
    ):
        name = f"{steps}-{spacing}-{prediction}-{'float64' if double else 'float32'}"
        yield "PLMS", name, partial(run, steps, spacing, prediction, double)
    yield "PLMS", "1000-linspace-v", partial(run, 1000, "linspace", "v")


def euler_cases() -> Iterator[Case]:
    def run(
        ancestral: bool, steps: int, spacing: Spacing, prediction: Prediction, karras: bool
    ) -> tuple[Trace, Trace]:
        schedule = STABLE_DIFFUSION
        name = "EulerAncestralDiscreteScheduler" if ancestral else "EulerDiscreteScheduler"
        options: dict[str, Any] = {"timestep_spacing": spacing, "steps_offset": 1}
        if karras:
            options["use_karras_sigmas"] = True
        reference = scheduler(name, schedule, prediction, **options)
        reference.set_timesteps(steps)
        levels = make.euler_levels(schedule, steps, spacing, karras=karras)
        sample = sample_euler_ancestral if ancestral else sample_euler
        x = start()
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        found = ours(sample, levels, schedule, prediction, x)
        return found, theirs(reference, x, sigma_space=True, generator=generators)

    for steps, spacing, prediction, karras in itertools.product(STEPS, SPACINGS, PREDICTIONS, (False, True)):
        if (steps, spacing) != (1, "linspace"):  # where the reference starts at timestep 0
            name = f"{steps}-{spacing}-{prediction}-{'karras' if karras else 'plain'}"
            yield "Euler", name, partial(run, False, steps, spacing, prediction, karras)
    for steps, spacing, prediction in itertools.product(STEPS, SPACINGS, PREDICTIONS[:2]):
        if (steps, spacing) != (1, "linspace"):
            name = f"{steps}-{spacing}-{prediction}"
            yield "Euler ancestral", name, partial(run, True, steps, spacing, prediction, False)


def dpm_cases() -> Iterator[Case]:
    def run(
        steps: int,
        spacing: Spacing,
        prediction: Prediction,
        karras: bool,
        schedule: NoiseSchedule = STABLE_DIFFUSION,
    ) -> tuple[Trace, Trace]:
        reference = scheduler(
            "DPMSolverMultistepScheduler",
            schedule,
            prediction,
            timestep_spacing=spacing,
            steps_offset=1,
            use_karras_sigmas=karras,
        )
        reference.set_timesteps(steps)
        levels = make.dpm_levels(schedule, steps, spacing, karras=karras)
        x = start()
        return ours(sample_dpmpp_2m, levels, schedule, prediction, x), theirs(reference, x)

    for steps, spacing, prediction in itertools.product(STEPS, SPACINGS, PREDICTIONS):
        name = f"{steps}-{spacing}-{prediction}"
        yield "DPM++ 2M", name, partial(run, steps, spacing, prediction, False)
    for steps, prediction in itertools.product(STEPS, PREDICTIONS):
        name = f"{steps}-karras-{prediction}"
        yield "DPM++ 2M Karras", name, partial(run, steps, "linspace", prediction, True)
    yield "DPM++ 2M", "25-linear-v", partial(run, 25, "linspace", "v", False, UPSCALER)


def lcm_cases() -> Iterator[Case]:
    def run(
        steps: int, prediction: Prediction, strength: float = 1.0, double: bool = False
    ) -> tuple[Trace, Trace]:
        schedule = STABLE_DIFFUSION
        reference = scheduler("LCMScheduler", schedule, prediction)
        if double:
            in_float64(reference, schedule)
        reference.set_timesteps(steps, strength=strength)
        levels = make.lcm_levels(schedule, steps, strength=strength)
        x, noise = start(torch.float64 if double else torch.float32), seeded_noise(SEEDS)
        found = ours(sample_lcm, levels, schedule, prediction, x, consistency=True)
        with pytest.MonkeyPatch.context() as patch:  # float64 has other random numbers than float32
            module = diffusers.schedulers.scheduling_lcm
            patch.setattr(module, "randn_tensor", lambda shape, **_: noise(x))
            return found, theirs(reference, x)

    for steps, prediction, double in itertools.product(STEPS, PREDICTIONS, (False, True)):
        name = f"{steps}-{prediction}-{'float64' if double else 'float32'}"
        yield "LCM", name, partial(run, steps, prediction, double=double)
    for steps, strength in ((1, 0.1), (4, 0.5), (7, 0.3), (10, 0.8)):
        yield "LCM", f"{steps}-strength{strength}-float32", partial(run, steps, "epsilon", strength)


CASES = [*ddim_cases(), *plms_cases(), *euler_cases(), *dpm_cases(), *lcm_cases()]


@pytest.mark.parametrize(
    ("sampler", "run"), [pytest.param(each[0], each[2], id="-".join(each[:2])) for each in CASES]
)
def test_the_sequence_is_the_references(
    check: Callable[[str, str, Tensor, Tensor], None], sampler: str, run: Callable[[], tuple[Trace, Trace]]
) -> None:
    found, expected = run()
    assert found.timesteps == pytest.approx(expected.timesteps, abs=1e-4)
    assert len(found.states) == len(expected.states)
    pairs = zip(found.inputs + found.states, expected.inputs + expected.states, strict=True)
    check(sampler, CONFIGURATIONS[sampler], *max(pairs, key=lambda pair: relative_error(*pair)))


@pytest.mark.parametrize("eta", [0.0, 0.9])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", STEPS[1:])
def test_a_ddim_step_is_the_references_where_its_linspace_misses(
    steps: int, prediction: Prediction, eta: float
) -> None:
    """The reference steps by T // N, then calls that level another: its steps, one by one, are ours."""
    schedule = STABLE_DIFFUSION
    reference = scheduler(
        "DDIMScheduler",
        schedule,
        prediction,
        timestep_spacing="linspace",
        clip_sample=False,
        set_alpha_to_one=False,
    )
    in_float64(reference, schedule)
    reference.set_timesteps(steps)
    x = expected = start(torch.float64)
    noise, their_noise = seeded_noise(SEEDS), seeded_noise(SEEDS)
    denoiser = denoiser_of(network, schedule, prediction, "linear")
    for t in reference.timesteps:
        drawn = their_noise(x) if eta else None
        output = network(expected, t)
        expected = reference.step(output, t, expected, eta=eta, variance_noise=drawn).prev_sample
        sigmas = schedule.sigma_of(int(t)), schedule.sigma_of(max(0, int(t) - schedule.timesteps // steps))
        x = from_variance_preserving(x, sigmas[0])
        x = to_variance_preserving(sample_ddim(denoiser, x, sigmas, noise, eta=eta), sigmas[1])
        assert float((x - expected).norm() / expected.norm()) <= 1e-9


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_img2img_starts_as_the_reference_noises(name: str) -> None:
    reference = scheduler(name, STABLE_DIFFUSION, "epsilon", timestep_spacing="trailing")
    reference.set_timesteps(20)
    levels = make.ddim_levels(STABLE_DIFFUSION, 20, "trailing").from_strength(0.6)
    image, noise = start(), seeded_noise(SEEDS)(start())
    expected = reference.add_noise(image, noise, reference.timesteps[8:9].repeat(len(SEEDS)))
    found = start_from_image(image, noise, levels.sigmas[0])
    if name != "EulerDiscreteScheduler":
        found = to_variance_preserving(found, levels.sigmas[0])
    assert relative_error(found, expected) <= 1e-6


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "cosine"])
def test_the_schedules_are_the_references(kind: Any) -> None:
    schedule = NoiseSchedule(kind=kind)
    reference = scheduler("EulerDiscreteScheduler", schedule, "epsilon")
    assert torch.from_numpy(schedule.betas).float() == pytest.approx(reference.betas, rel=1e-5)
    sigmas = torch.from_numpy(schedule.sigmas).flip(0).float()
    assert sigmas == pytest.approx(reference.sigmas[:-1], rel=1e-4)  # the reference's 1 - a is in float32
