"""latentcodec generate | img2img | inpaint | depth2img | upscale: pictures by diffusion models.

arguments ─► inputs, PROMPT, OUT ─► checked ─► run.carry_out
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click

from latentcodec.cli.files import PIPE, refuse_terminal_input
from latentcodec.cli.generate.options import generation_options
from latentcodec.cli.generate.outputs import plan_outputs
from latentcodec.cli.options import exclusive
from latentcodec.generate.defaults import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINT,
    TEXT_TO_IMAGE,
    UPSCALE,
)

_MAX_PROMPT_BYTES = 1 << 17  # read from a pipe; prompts are shorter


@click.command()
@click.argument("arguments", nargs=-1, metavar="[PROMPT] OUT")
@generation_options("size")
def generate(arguments: tuple[str, ...], **options: Any) -> None:
    """Make a picture of a text.

    \b
    latentcodec generate "a lighthouse at dusk" lighthouse.png
    latentcodec generate "a lighthouse, (storm:1.3)" --negative people --seed 7 --count 4 storm-%d.png
    latentcodec generate --model sdxl-turbo --steps 1 "a cat" cat.lci
    latentcodec generate --from storm-2.png --steps 80 again.png

    OUT's extension says what is written (png, jpg, webp ... or lci); - is standard output, PROMPT - standard
    input. The settings travel with the file: `latentcodec info` shows them, --from uses them again. Syntax of
    prompts, models and their defaults: docs/generation.md.
    """
    _run(TEXT_TO_IMAGE, 0, arguments, options)


@click.command()
@click.argument("arguments", nargs=-1, metavar="IN [PROMPT] OUT")
@generation_options("size", "strength")
def img2img(arguments: tuple[str, ...], **options: Any) -> None:
    """Make a picture of a text that resembles another.

    \b
    latentcodec img2img sketch.png "an oil painting of a harbour" harbour.png --strength 0.7
    latentcodec img2img photo.lci "the same in winter" winter.lci

    IN is a picture or a .lci file, or - for standard input.
    """
    _run(IMAGE_TO_IMAGE, 1, arguments, options)


@click.command()
@click.argument("arguments", nargs=-1, metavar="IN MASK [PROMPT] OUT")
@generation_options("size", "strength")
def inpaint(arguments: tuple[str, ...], **options: Any) -> None:
    """Paint a part of a picture anew.

    \b
    latentcodec inpaint room.jpg mask.png "a cat on the sofa" room-with-cat.png

    MASK is a picture: white is painted, black stays as it is, to the last bit in lossless formats.
    """
    _run(INPAINT, 2, arguments, options)


@click.command()
@click.argument("arguments", nargs=-1, metavar="IN [PROMPT] OUT")
@generation_options("size", "strength")
def depth2img(arguments: tuple[str, ...], **options: Any) -> None:
    """Make a picture of a text with the shapes of another.

    \b
    latentcodec depth2img portrait.jpg "a marble statue" statue.png
    """
    _run(DEPTH_TO_IMAGE, 1, arguments, options)


@click.command()
@click.argument("arguments", nargs=-1, metavar="IN OUT")
@generation_options("prompt", "noise-level")
def upscale(arguments: tuple[str, ...], **options: Any) -> None:
    """Make a picture four times as wide and high.

    \b
    latentcodec upscale small.png large.png
    latentcodec upscale small.png large.png --prompt "a brick house" --noise-level 40
    """
    _run(UPSCALE, 1, arguments, options)


def _run(pipeline: str, count: int, arguments: tuple[str, ...], options: Mapping[str, Any]) -> None:
    """Take the arguments apart, check all that can be before a model is loaded, and go."""
    exclusive(verbose=options["verbose"], quiet=options["quiet"])
    inputs, prompt, out = _split(pipeline, count, arguments, options)
    if [*inputs, prompt, options["source"]].count(PIPE) > 1:
        raise click.UsageError("- is standard input, which can be read once")
    jobs = plan_outputs(out, options["count"], options["format_"], inputs)
    # What follows loads PyTorch or large libraries.
    from latentcodec.cli.generate.request import read_request
    from latentcodec.cli.generate.run import carry_out, read_input, read_mask

    request = read_request(pipeline, _read_prompt(prompt), options)
    pictures: list[Any] = [read_input(source) for source in inputs[:1]]
    pictures += [read_mask(source) for source in inputs[1:]]
    carry_out(request, pictures, jobs, options)


def _split(
    pipeline: str, count: int, arguments: tuple[str, ...], options: Mapping[str, Any]
) -> tuple[tuple[str, ...], str | None, str]:
    """So many inputs, the prompt or None, OUT. Usage error where arguments are missing or left over."""
    if pipeline == UPSCALE:
        if len(arguments) != 2:
            raise click.UsageError(f"{len(arguments)} arguments: name IN and OUT")
        return arguments[:1], options["prompt"], arguments[1]
    names = " ".join(("IN", "MASK")[:count])
    fits = (count + 2, count + 1) if options["source"] else (count + 2,)
    if len(arguments) not in fits:
        wanted = f"{names} PROMPT OUT".strip()
        raise click.UsageError(f"{len(arguments)} arguments: name {wanted} (a prompt of words in quotes)")
    prompt = arguments[count] if len(arguments) == count + 2 else None
    return arguments[:count], prompt, arguments[-1]


def _read_prompt(prompt: str | None) -> str | None:
    """The prompt; `-` is all of standard input."""
    if prompt != PIPE:
        return prompt
    refuse_terminal_input()
    return sys.stdin.buffer.read(_MAX_PROMPT_BYTES).decode("utf-8", "replace").strip()
