"""What a command asks for: its options, over those that a file says, and the model that can do it.

--from FILE ─► Parameters ─┐
options ───────────────────┴─► Request: prompt, what opens the model, what its pipeline takes
the store ─► choose_model ─► the model that is there for a pipeline
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentcodec.cli.console import Failure, say
from latentcodec.cli.files import PIPE, Job, read_source
from latentcodec.generate.defaults import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    TEXT_TO_IMAGE,
    UPSCALE,
)
from latentcodec.generate.parameters import Parameters, from_bytes
from latentcodec.generate.prompt import chunks_of

if TYPE_CHECKING:
    from latentcodec.weights.checkpoints.manifest import Stored

COMMANDS = {
    TEXT_TO_IMAGE: "generate",
    IMAGE_TO_IMAGE: "img2img",
    INPAINT: "inpaint",
    DEPTH_TO_IMAGE: "depth2img",
    UPSCALE: "upscale",
}
# The families that a pipeline works with, in groups of which an earlier one is preferred, and who is fetched.
_TEXT_FAMILIES = ("sd1", "sd2", "sdxl", "lcm")
_FAMILIES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    TEXT_TO_IMAGE: (_TEXT_FAMILIES,),
    IMAGE_TO_IMAGE: (_TEXT_FAMILIES,),
    INPAINT: (("sd1-inpainting", "sd2-inpainting"), _TEXT_FAMILIES),
    DEPTH_TO_IMAGE: (("sd2-depth",),),
    UPSCALE: (("x4",),),
}
_FETCHED = {
    TEXT_TO_IMAGE: "sd15",
    IMAGE_TO_IMAGE: "sd15",
    INPAINT: "sd2-inpainting",
    DEPTH_TO_IMAGE: "sd2-depth",
    UPSCALE: "sd-x4-upscaler",
}
_CALLED = ("negative", "steps", "guidance", "rescale", "sampler", "spacing", "karras", "eta")
# What other programs note that changes no picture, or that this one does alike.
_HARMLESS = re.compile(
    r".*hash.*: .*|(Version|RNG|Model|Civitai.*): .*|Schedule type: (Automatic|Uniform|Normal)"
)


@dataclass(frozen=True)
class Request:
    """A pipeline with all that was asked of it. opening: of Generator.open; called: of its method."""

    pipeline: str
    prompt: str
    model: str
    seed: int | None
    opening: dict[str, Any] = field(default_factory=dict)
    called: dict[str, Any] = field(default_factory=dict)


def read_request(pipeline: str, prompt: str | None, options: Mapping[str, Any]) -> Request:
    """The request of a command's options; prompt: None where FILE has it.

    Raises Failure where no model, LoRA or prompt is there, InvalidArgument where FILE says nothing.
    """
    source = options["source"]
    found = _read_source(pipeline, source, quiet=options["quiet"]) if source else Parameters()
    if prompt is None and source is None and pipeline != UPSCALE:
        raise click.UsageError("name a PROMPT, or --from FILE that has one")

    def wanted(name: str) -> Any:
        value = options.get(name)
        return value if value is not None else getattr(found, name)

    called = {name: wanted(name) for name in _CALLED}
    called["negative"] = called["negative"] or ""
    called["rescale"] = called["rescale"] or 0.0
    if pipeline in (IMAGE_TO_IMAGE, INPAINT, DEPTH_TO_IMAGE):
        called["strength"] = wanted("strength")
    if pipeline == UPSCALE:
        level = wanted("noise_level")
        called |= {} if level is None else {"noise_level": level}
    else:
        size = (found.width, found.height) if found.width and found.height else None
        called["size"] = options["size"] or size
    model = _model(pipeline, options, found, source)
    opening = {
        "device": options["device"],
        "dtype": options["dtype"] or _found_dtype(found),
        "vae": options["vae"] or _in_store("autoencoder", found.vae, "--vae", source),
        "loras": options["lora"] or _found_loras(found, source),
        "fast_decode": options["fast_decode"] or bool(found.fast_decode),
        "prediction": wanted("prediction") if model == found.model else options["prediction"],
        "family": options["family"],
        "compile": options["compile_"],
        "offload": options["offload"],
    }
    if options["safety_checker"]:
        opening["safety_checker"] = options["safety_checker"]
    text = prompt if prompt is not None else found.prompt
    for each in (text, called["negative"]):
        chunks_of(each)  # an error in it is better said before gigabytes are read
    return Request(pipeline, text, model, wanted("seed"), opening, called)


def _read_source(pipeline: str, source: str, *, quiet: bool) -> Parameters:
    """The parameters of FILE, which another pipeline may have used, unless only a picture is missing then."""
    job = Job(source, PIPE)
    found = from_bytes(read_source(job), job.name)
    if pipeline == TEXT_TO_IMAGE and found.pipeline != TEXT_TO_IMAGE:
        command = COMMANDS.get(found.pipeline, "another command")
        raise Failure(
            f"{job.name}: it was made by {found.pipeline}, from a picture that the file does not hold: use "
            f"'latentcodec {command} IN ... OUT --from {job.name}'"
        )
    left = [key for key, value in found.others if not _HARMLESS.fullmatch(f"{key}: {value}")]
    if left and not quiet:
        say(f"{job.name}: it also says {', '.join(left)}, which are left out here")
    return found


def _found_dtype(found: Parameters) -> str:
    """What FILE ran in. float16 is what a GPU takes by itself, and what a CPU is slow in."""
    return found.dtype if found.dtype not in (None, "float16") else "auto"


def _found_loras(found: Parameters, source: str | None) -> tuple[tuple[str, float], ...]:
    """The files of the LoRAs that FILE names: beside it, or in the current folder."""
    files = []
    for name, weight in found.loras:
        folders = (Path(source).parent if source and source != PIPE else Path(), Path())
        places = [folder / f"{name}.safetensors" for folder in folders if name == os.path.basename(name)]
        place = next((place for place in places if place.is_file()), None)
        if place is None:
            raise Failure(
                f"{source}: it was made with the LoRA {name}, and there is no {name}.safetensors beside it: "
                f"give --lora PATH:{weight:g}"
            )
        files.append((str(place), weight))
    return tuple(files)


def _in_store(what: str, name: str | None, option: str, source: str | None) -> str | None:
    """The name of a model that FILE says. Never a path: a picture from strangers opens no file."""
    from latentcodec.weights.store import stored_names

    if name is not None and name not in stored_names():
        raise Failure(
            f"{source}: it was made with the {what} {name}, which is not in the store: name one with {option}"
        )
    return name


def _model(pipeline: str, options: Mapping[str, Any], found: Parameters, source: str | None) -> str:
    asked = options["model"] or _in_store("model", found.model, "--model", source)
    if asked is None:
        return choose_model(pipeline)
    if options["family"] is None:
        _check_family(pipeline, asked)
    return str(asked)


def choose_model(pipeline: str) -> str:
    """The model of the store for a pipeline: the only one, or the one that the pipeline is known by.

    Raises Failure where there is none, or where there are several others.
    """
    from latentcodec.weights.checkpoints.detected import UNET
    from latentcodec.weights.store import list_models

    models = [model for model in list_models() if model.detected and UNET in model.detected.components]
    for families in _FAMILIES[pipeline]:
        names = [model.name for model in models if _family_of(model) in families]
        if len(names) == 1:
            return names[0]
        if _FETCHED[pipeline] in names:
            return _FETCHED[pipeline]
        if names:
            raise Failure(f"several models can do {pipeline}: {', '.join(names)}; name one with --model")
    raise Failure(
        f"no model in the store can do {pipeline}; get one with: latentcodec models fetch "
        f"{_FETCHED[pipeline]}, or name a file with --model"
    )


def _check_family(pipeline: str, model: str) -> None:
    """Raise Failure, before gigabytes are read, where the store knows that a model is of another purpose."""
    from latentcodec.weights.store import resolve

    family = _family_of(resolve(model))
    known = [name for group in _FAMILIES[pipeline] for name in group]
    if family is not None and family not in known:
        able = [name for name, families in _FAMILIES.items() if any(family in group for group in families)]
        what = f"it can do {' and '.join(able)}" if able else "it is no diffusion model"
        raise Failure(
            f"{model}: a model of {family} cannot do {pipeline}; {what}. Use one of {', '.join(known)}, such "
            f"as {_FETCHED[pipeline]} (latentcodec models fetch {_FETCHED[pipeline]})"
        )


def _family_of(model: Stored) -> str | None:
    return model.detected.family if model.detected is not None else None
