"""Where pictures go: OUT with a number in it for several, - for a pipe; and what is written there.

OUT, count ─► plan_outputs ─► a Job each ─► write_picture ─┬─► PNG: text   JPEG, WebP ...: EXIF
                                                           └─► .lci: the latents themselves, and text
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentcodec.cli.console import Failure
from latentcodec.cli.files import (
    DEFAULT_FORMAT,
    LCI,
    PIPE,
    Job,
    check_format,
    refuse_terminal_output,
    target_file,
    write_target,
)
from latentcodec.errors import InvalidArgument

if TYPE_CHECKING:
    from PIL import Image

    from latentcodec.generate.parameters import Parameters

_NUMBER = re.compile(r"%(0?)(\d{0,2})d")


def plan_outputs(out: str, count: int, format_: str | None, inputs: tuple[str, ...]) -> list[Job]:
    """A job for each picture, whose source is its number from 1 on.

    `%d` in the file's name is that number, `%03d` the same with zeros in front. Raises click.UsageError for
    an OUT that does not fit, Failure for a folder that is not there, InvalidArgument for a count below 1.
    """
    from latentcodec.generate.latents import MAX_COUNT

    if not 1 <= count <= MAX_COUNT:
        raise InvalidArgument(f"--count {count}: it is a number from 1 to {MAX_COUNT}")
    numbered = len(_NUMBER.findall(os.path.basename(out)))
    if numbered > 1:
        raise click.UsageError(f"{out}: %d may be there once")
    if count > 1 and not numbered:
        name = Path(out if out != PIPE else "out.png")
        example = name.with_name(f"{name.stem}-%d{name.suffix}")
        raise click.UsageError(f"{count} pictures need names: put %d into OUT, such as {example}")
    targets = [_numbered(out, number) if numbered else out for number in range(1, count + 1)]
    jobs = [Job(str(number), target) for number, target in enumerate(targets, 1)]
    _check(jobs[0], format_)
    taken = {os.path.realpath(each): each for each in inputs if each != PIPE}
    for job in jobs:
        if job.target != PIPE and os.path.realpath(job.target) in taken:
            raise click.UsageError(f"{job.target_name} would be written over itself: name another file")
    return jobs


def _numbered(out: str, number: int) -> str:
    folder, name = os.path.split(out)
    return os.path.join(folder, _NUMBER.sub(lambda m: f"{number:{m[1]}{m[2]}d}", name))


def _check(job: Job, format_: str | None) -> None:
    if job.target == PIPE:
        refuse_terminal_output()
    elif os.path.isdir(job.target):
        raise click.UsageError(f"{job.target_name} is a folder: name a file in it")
    elif not os.path.isdir(os.path.dirname(job.target) or "."):
        raise Failure(f"{job.target_name}: there is no folder {os.path.dirname(job.target)}")
    if not is_lci(job, format_):
        check_format(job, format_, free=True)
    elif format_ is not None and Path(job.target).suffix:
        raise click.UsageError(f"{job.target_name}: OUT's extension sets the format; leave --format out")


def is_lci(job: Job, format_: str | None) -> bool:
    """Whether the latents are to be written, and no pixels."""
    suffix = "" if job.target == PIPE else Path(job.target).suffix
    return (suffix or f".{format_}").lower() == LCI


def write_picture(job: Job, image: Image.Image, parameters: Parameters, format_: str | None) -> int:
    """Write a picture with what made it; the bytes that it has."""
    from latentcodec.generate.parameters import exif_of
    from latentcodec.picture.files import save_picture
    from latentcodec.picture.picture import from_pillow

    picture = from_pillow(image)
    kind = format_ or (DEFAULT_FORMAT if job.target == PIPE else Path(job.target).suffix)
    if kind.lower().lstrip(".") == DEFAULT_FORMAT:
        picture = replace(picture, text=parameters.texts())
    else:
        picture = replace(picture, exif=exif_of(parameters))
    stream = io.BytesIO()
    save_picture(picture, stream, kind)
    return write_bytes(job, stream.getvalue())


def write_bytes(job: Job, data: bytes) -> int:
    """Write a file's content; its size."""
    with target_file(job):
        write_target(job, data)
    return len(data)
