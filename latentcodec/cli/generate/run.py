"""A request carried out: the model opened, pictures made batch by batch, each written when it is done.

pictures of the command ─► read ─┐
Request ─► Generator.open ───────┴─► its method, a batch at a time ─► write_picture, or latents as .lci
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latentcodec.cli.console import say
from latentcodec.cli.files import PIPE, Job, read_source
from latentcodec.cli.generate.outputs import is_lci, write_bytes, write_picture
from latentcodec.cli.generate.progress import GenerationProgress, speed
from latentcodec.cli.generate.request import COMMANDS, Request
from latentcodec.errors import InvalidArgument
from latentcodec.generate.defaults import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    TEXT_TO_IMAGE,
    UPSCALE,
)

if TYPE_CHECKING:
    from PIL import Image

    from latentcodec.generate.generator import Generated, Generator, Progress
    from latentcodec.generate.to_codec import StoredLatents
    from latentcodec.picture.picture import Picture

_METHODS = {
    TEXT_TO_IMAGE: "text_to_image",
    IMAGE_TO_IMAGE: "image_to_image",
    INPAINT: "inpaint",
    DEPTH_TO_IMAGE: "depth_to_image",
    UPSCALE: "upscale",
}


def read_input(source: str) -> Picture | StoredLatents:
    """A picture file's picture, or what a .lci file holds; `-` is standard input."""
    from latentcodec.generate.to_codec import image_of

    job = Job(source, PIPE)
    return image_of(read_source(job), job.name)


def read_mask(source: str) -> Image.Image:
    """A mask's picture, in gray. Raises InvalidArgument for latents, which have no pixels yet."""
    from latentcodec.picture.picture import Picture, to_pillow

    mask = read_input(source)
    if not isinstance(mask, Picture):
        raise InvalidArgument(f"{Job(source, PIPE).name}: a mask is a picture: decompress it first")
    return to_pillow(mask).convert("L")


def carry_out(request: Request, inputs: Sequence[Any], jobs: list[Job], options: Mapping[str, Any]) -> None:
    """Make the pictures of the jobs and write them, with a line for each unless --quiet."""
    quiet = options["quiet"]
    from latentcodec.generate.generator import MAX_BATCH
    from latentcodec.generate.latents import seeds_of

    seeds = seeds_of(request.seed, len(jobs))
    label = COMMANDS[request.pipeline]
    with GenerationProgress(label, len(jobs), quiet=quiet, preview=options["preview"]) as bar:
        generator, said = _open(request, verbose=options["verbose"])
        at_once = MAX_BATCH if generator.model.device.type == "cuda" else 1
        method: Callable[..., Generated] = getattr(generator, _METHODS[request.pipeline])
        for first in range(0, len(jobs), at_once):
            batch = jobs[first : first + at_once]
            begun = time.perf_counter()
            steps = 0

            def report(progress: Progress, first: int = first, pictures: int = len(batch)) -> None:
                nonlocal steps
                steps = progress.steps
                bar.show(first, pictures, progress)

            made = method(
                *inputs,
                request.prompt,
                seed=seeds[first],
                count=len(batch),
                callback=report,
                preview=bar.previews,
                **request.called,
            )
            seconds = time.perf_counter() - begun
            for note in made.notes:
                if note not in said and not quiet:
                    say(note)
                said.add(note)
            for index, job in enumerate(batch):
                size = _write(generator, made, index, job, options)
                if not quiet:
                    say(_line(made, index, job, size, steps, seconds))


def _open(request: Request, *, verbose: bool) -> tuple[Generator, set[str]]:
    """The loaded model, and which of its notes need not be said."""
    from latentcodec.generate.generator import Generator
    from latentcodec.weights.checkpoints.detected import describe
    from latentcodec.weights.store import resolve

    begun = time.perf_counter()
    generator = Generator.open(request.model, **request.opening)
    model = generator.model
    if verbose:
        say(f"model {request.model} on {model.device}, loaded in {time.perf_counter() - begun:.2f} s")
    # What the store knows of a model it said when the model was added.
    told = not verbose and resolve(request.model).detected is not None
    return generator, {describe(model.detected)} if told else set()


def _write(generator: Generator, made: Generated, index: int, job: Job, options: Mapping[str, Any]) -> str:
    """Write one of the pictures; its size in words, and of latents the PSNR against what was sampled."""
    if not is_lci(job, options["format_"]):
        size = write_picture(job, made.images[index], made.parameters[index], options["format_"])
        return f"{size} bytes"
    stored = generator.store(made, index, quality=options["quality"])
    return f"{write_bytes(job, stored.data)} bytes of {stored.psnr:.1f} dB"


def _line(made: Generated, index: int, job: Job, size: str, steps: int, seconds: float) -> str:
    image = made.images[index]
    made_of = f"{image.width}x{image.height}, {size}, seed {made.parameters[index].seed}"
    return f"{job.target_name}: {made_of}, {steps} steps in {seconds:.1f} s ({speed(steps / seconds)})"
