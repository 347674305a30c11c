"""What each family of models does unless it is told otherwise. Loads no PyTorch: the command line shows it.

    family, prediction, few-step or not ─► defaults_of ─► Defaults ─► with what a folder's scheduler says

Steps, guidance, strengths and sizes are those of the reference scripts and cards, whose names stand beside
them. "compvis" is CompVis/stable-diffusion, "stability" is Stability-AI/stablediffusion, "diffusers" the
package's pipelines and the files of its model repositories.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, cast

from latentcodec.errors import InvalidArgument

TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINT = "text to image", "image to image", "inpaint"
DEPTH_TO_IMAGE, UPSCALE = "depth to image", "upscale"
PIPELINES = (TEXT_TO_IMAGE, IMAGE_TO_IMAGE, INPAINT, DEPTH_TO_IMAGE, UPSCALE)

SamplerName = Literal["ddim", "plms", "euler", "euler-a", "dpm++2m", "lcm"]
SpacingName = Literal["leading", "linspace", "trailing"]

# As other tools call them, in the text that travels with a picture.
SAMPLERS: Mapping[str, str] = MappingProxyType(
    {
        "ddim": "DDIM",
        "plms": "PLMS",
        "euler": "Euler",
        "euler-a": "Euler a",
        "dpm++2m": "DPM++ 2M",
        "lcm": "LCM",
    }
)
SPACINGS: tuple[SpacingName, ...] = ("leading", "linspace", "trailing")
KARRAS_SAMPLERS = ("euler", "dpm++2m")  # those that have Karras's levels
MAX_STEPS = 1000  # all timesteps of the training
MAX_GUIDANCE = 100.0
NOISE_LEVEL = 20  # of the upscaler's input; diffusers' StableDiffusionUpscalePipeline
MAX_NOISE_LEVEL = 350  # stability, configs/stable-diffusion/x4-upscaling.yaml


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """How a model is run.

    side: of the square that it was trained for, in pixels. strength: of image to image, where 1 forgets the
    picture. offset: of leading timesteps. source: where the numbers are from.
    """

    steps: int
    guidance: float
    sampler: SamplerName = "ddim"
    spacing: SpacingName = "leading"
    karras: bool = False
    eta: float = 0.0
    offset: int = 1
    side: int = 512
    strength: float = 0.8
    source: str


_SD1 = Defaults(steps=50, guidance=7.5, strength=0.75, source="compvis scripts/txt2img.py, img2img.py")
_SD2 = Defaults(steps=50, guidance=9.0, source="stability scripts/txt2img.py, img2img.py")
_FEW_STEPS = Defaults(
    steps=1, guidance=0.0, sampler="euler-a", spacing="trailing", strength=0.5,
    source="the card of stabilityai/sdxl-turbo",
)  # fmt: skip
_FAMILIES: Mapping[str, Defaults] = MappingProxyType(
    {
        "sd1": _SD1,
        "sd1-inpainting": replace(
            _SD1, strength=1.0, source="diffusers StableDiffusionInpaintPipeline, with compvis' sampler"
        ),
        "lcm": Defaults(
            steps=4, guidance=8.5, sampler="lcm", source="diffusers LatentConsistencyModelPipeline"
        ),
        "sd2": _SD2,
        "sd2-inpainting": Defaults(
            steps=45, guidance=10.0, eta=1.0, strength=1.0, source="stability scripts/gradio/inpainting.py"
        ),
        "sd2-depth": Defaults(
            steps=50, guidance=9.0, strength=0.9, source="stability scripts/gradio/depth2img.py"
        ),
        "x4": Defaults(steps=75, guidance=9.0, source="diffusers StableDiffusionUpscalePipeline"),
        "sdxl": Defaults(
            steps=50, guidance=5.0, sampler="euler", side=1024, source="diffusers StableDiffusionXLPipeline"
        ),
    }
)
_VELOCITY_SIDE = 768  # stability, README: 2.0-v and 2.1-v are trained at 768x768


def defaults_of(family: str, prediction: str | None, *, few_steps: bool = False) -> Defaults:
    """The defaults of a family of models; of an unknown family those of Stable Diffusion 1.x.

    prediction: "epsilon" or "v_prediction". few_steps: a model distilled to run in 1 to 4 steps without
    guidance (SD Turbo, SDXL Turbo), which no tensor shows.
    """
    if few_steps and family in ("sd2", "sdxl"):
        return _FEW_STEPS
    defaults = _FAMILIES.get(family, _SD1)
    if family == "sd2" and prediction == "v_prediction":
        return replace(defaults, side=_VELOCITY_SIDE)
    return defaults


# The schedulers of diffusers folders that are one of our samplers, and the spacing that each has by default.
_SCHEDULERS: Mapping[str, tuple[SamplerName, SpacingName]] = MappingProxyType(
    {
        "DDIMScheduler": ("ddim", "leading"),
        "PNDMScheduler": ("plms", "leading"),
        "EulerDiscreteScheduler": ("euler", "linspace"),
        "EulerAncestralDiscreteScheduler": ("euler-a", "linspace"),
        "DPMSolverMultistepScheduler": ("dpm++2m", "linspace"),
        "LCMScheduler": ("lcm", "leading"),
    }
)


def with_scheduler(defaults: Defaults, stated: Mapping[str, object]) -> Defaults:
    """The defaults with the sampler, spacing and levels of a diffusers folder's scheduler_config.json.

    A scheduler that is none of ours, and values that make no sense, change nothing.
    """
    known = _SCHEDULERS.get(str(stated.get("_class_name")))
    if known is None:
        return defaults
    spacing, offset = stated.get("timestep_spacing", known[1]), stated.get("steps_offset", 0)
    return replace(
        defaults,
        sampler=known[0],
        spacing=spacing if spacing in SPACINGS else known[1],
        karras=known[0] in KARRAS_SAMPLERS and stated.get("use_karras_sigmas") is True,
        eta=defaults.eta if known[0] == "ddim" else 0.0,
        offset=offset if isinstance(offset, int) and 0 <= offset <= 1 else defaults.offset,
        source=f"{defaults.source}; sampler by scheduler_config.json",
    )


def needs_few_steps(names: Iterable[str], stated: Mapping[str, object]) -> bool:
    """Whether a model is one of few steps, by its names or by its folder's scheduler, which is as Turbo's."""
    euler = str(stated.get("_class_name")).startswith("Euler") and not stated.get("rescale_betas_zero_snr")
    trailing = stated.get("timestep_spacing") == "trailing"
    return (euler and trailing) or any("turbo" in name.lower() for name in names)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one run is sampled: what was asked for, and the model's defaults where nothing was.

    steps: of the whole schedule; strength: the last such share of them is run. guidance: at most 1 is none,
    at one network call a step. rescale: 0 to 1, see diffusion/guidance.py.
    """

    steps: int
    guidance: float
    rescale: float
    sampler: SamplerName
    spacing: SpacingName
    karras: bool
    eta: float
    offset: int
    strength: float = 1.0

    @property
    def guided(self) -> bool:
        """Whether the negative prompt counts."""
        return self.guidance > 1

    @property
    def run(self) -> int:
        """The steps that are run; a consistency model runs all of them, of a shorter schedule."""
        if self.sampler == "lcm":
            return self.steps
        return int(self.steps * self.strength + 1e-9)  # 0.29 of 100 steps are 29, in floats too


def settle(
    defaults: Defaults,
    *,
    steps: int | None = None,
    guidance: float | None = None,
    rescale: float = 0.0,
    sampler: str | None = None,
    spacing: str | None = None,
    karras: bool | None = None,
    eta: float | None = None,
    strength: float | None = None,
) -> Settings:
    """What is asked for, over the defaults. strength: None for pipelines that have none.

    Another sampler than the model's takes Karras's levels and eta only where they are asked for. A model of
    so few steps that a strength would leave none runs more of them, unless steps are given.
    Raises InvalidArgument for what is out of range or does not go together, and for a strength that leaves no
    step.
    """
    name = _one_of("sampler", sampler, SAMPLERS) or defaults.sampler
    own = name == defaults.sampler
    if karras and name not in KARRAS_SAMPLERS:
        raise InvalidArgument(f"karras: {name} has no such levels; {' and '.join(KARRAS_SAMPLERS)} have")
    if eta and name != "ddim":
        raise InvalidArgument(f"eta {eta:g}: of ddim only; the sampler is {name}")
    if strength is not None and not _within("strength", strength, 1):
        raise InvalidArgument("strength 0 leaves no step to run: it must be above 0", ("strength",))
    least = 1 if strength is None or name == "lcm" else math.ceil(1 / max(strength, 1e-3) - 1e-9)
    count = max(defaults.steps, least) if steps is None else steps
    count = whole("steps", count, 1, MAX_STEPS)
    settings = Settings(
        steps=count,
        guidance=_within("guidance", defaults.guidance if guidance is None else guidance, MAX_GUIDANCE),
        rescale=_within("rescale", rescale, 1),
        sampler=cast(SamplerName, name),
        spacing=cast(SpacingName, _one_of("spacing", spacing, SPACINGS) or defaults.spacing),
        karras=own and defaults.karras if karras is None else karras,
        eta=_within("eta", (defaults.eta if own else 0.0) if eta is None else eta, 1),
        offset=defaults.offset,
        strength=1.0 if strength is None else float(strength),
    )
    if settings.run < 1:
        raise InvalidArgument(
            f"strength {settings.strength:g} of {count} steps leaves none to run: take a strength of at "
            f"least {1 / count:.2g}, or at least {least} steps",
            ("strength", "steps"),
        )
    return settings


def whole(name: str, value: object, least: int, most: int) -> int:
    """An argument as a whole number of least to most. Raises InvalidArgument; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(f"{name} {value!r}: it is a whole number from {least} to {most}", (name,))
    return value


def _one_of(name: str, value: str | None, known: Collection[str]) -> str | None:
    if value is not None and value not in known:
        raise InvalidArgument(f"{name} {value!r}: use one of {', '.join(known)}", (name,))
    return value


def _within(name: str, value: object, most: float) -> float:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number <= most:
        raise InvalidArgument(f"{name} {value!r}: it is a number from 0 to {most:g}", (name,))
    return float(number)
