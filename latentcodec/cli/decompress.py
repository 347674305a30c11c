"""latentcodec decompress: .lci files to picture files.

IN ─► Codec.decode_picture ─► save_picture ─► OUT        with --partial also damaged ones, as far as they go
"""

from __future__ import annotations

import io
import os
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentcodec.cli.cleanup import CommandWithStrength, cleanup_option, cleanup_settings
from latentcodec.cli.console import say
from latentcodec.cli.files import LCI, PIPE, Done, Job, plan, read_source, run_jobs, target_file, write_target
from latentcodec.cli.options import (
    device_option,
    exclusive,
    file_arguments,
    file_options,
    limits_of,
    load_codec,
    load_native,
    max_pixels_option,
    model_option,
    prior_option,
    strict_option,
)
from latentcodec.codec.info import has_quality, step_of
from latentcodec.container.header import EXTERNAL_MODEL, PIXELS, Header, read_header
from latentcodec.container.quality import quality_of_level
from latentcodec.errors import InvalidArgument
from latentcodec.picture.notices import strictly

if TYPE_CHECKING:
    from latentcodec.container.salvage import Report
    from latentcodec.picture.picture import Picture

FORMATS = ("png", "jpg", "jpeg", "webp", "avif", "tif", "tiff", "jp2", "tga", "bmp", "ppm")
_DEFAULT_FORMAT = "png"
_NAMED = 12  # tiles, or damaged chunks, that a report names


@click.command(cls=CommandWithStrength)
@file_arguments
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS, case_sensitive=False),
    metavar="NAME",
    help=f"The picture format where OUT's extension does not set it: {', '.join(FORMATS)}.  [default: png]",
)
@click.option(
    "--partial", is_flag=True, help="Decode what is left of a damaged file, and report what is missing."
)
@model_option
@prior_option
@cleanup_option
@strict_option
@max_pixels_option
@device_option
@file_options("IN.png (or what --format says)")
def decompress(
    paths: tuple[str, ...],
    out_dir: str | None,
    format_: str | None,
    partial: bool,
    model: str,
    prior: str | None,
    cleanup: float,
    cleanup_unet: str | None,
    strict: bool,
    max_pixels: int | None,
    device: str,
    keep_extension: bool,
    preserve: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Decompress .lci files to pictures.

    \b
    latentcodec decompress photo.lci photo.png
    latentcodec decompress small/ --out-dir pictures/ --format webp
    latentcodec decompress --cleanup photo.lci photo.png
    latentcodec decompress - - --format ppm < photo.lci | display

    OUT's extension says what is written (png, jpg, webp, avif, tiff ...); it is replaced if it is there. IN
    and OUT may be - for standard input and output. With --out-dir there may be several IN, also folders,
    which are searched for .lci files. A file's model is found by itself where it is installed; --model names
    where it is, if it is not.
    """
    exclusive(verbose=verbose, quiet=quiet)
    suffix = f".{format_ or _DEFAULT_FORMAT}"
    planned = plan(paths, out_dir, {LCI}, suffix, keep_extension=keep_extension, preserve=preserve)
    for job in planned.jobs[:1]:
        _check_format(job, format_, free=out_dir is None)
    limits = limits_of(max_pixels)
    settings = cleanup_settings(cleanup_unet) if cleanup else None
    codec = cache(lambda: load_codec(model, device, verbose, limits, prior, settings))
    native = cache(lambda pixels: load_native(codec(), verbose, pixels))

    def work(job: Job) -> Done:
        data = read_source(job)
        header = read_header(data, limits)  # what is no file of ours is refused before the model is loaded
        loaded = codec()
        computed = header.model_number not in (PIXELS, EXTERNAL_MODEL)
        if computed:
            native(header.width * header.height)
        begun = time.perf_counter()
        picture, report = loaded.decode_picture(data, partial=partial, cleanup=cleanup)
        seconds = time.perf_counter() - begun
        with strictly(strict):
            _write(job, picture, format_, preserve)
        if report is not None:
            _say_report(job, report, header.tile_count, quiet)
        took = f"{seconds:.2f} s" + (f" by {loaded.engine}" if computed else "")
        return Done(_line(job, header, len(data), took if verbose else None), len(data))

    run_jobs(planned, work, "decompress", quiet=quiet)


def _check_format(job: Job, format_: str | None, *, free: bool) -> None:
    """Usage error, before any work, where it is not clear how to write; `free`: the user chose OUT's name.

    Raises UnsupportedImage where this build of Pillow cannot write the format.
    """
    import numpy as np

    from latentcodec.picture.files import save_picture
    from latentcodec.picture.picture import from_array

    suffix = "" if job.target == PIPE else Path(job.target).suffix
    if free and suffix and format_ is not None:
        raise click.UsageError(f"{job.target_name}: OUT's extension sets the format; leave --format out")
    if free and not suffix and format_ is None and job.target != PIPE:
        raise click.UsageError(
            f"{job.target_name}: OUT has no extension; give it one ({', '.join(FORMATS)}) or use --format"
        )
    try:
        save_picture(
            from_array(np.zeros((1, 1), np.uint8)), io.BytesIO(), format_ or suffix or _DEFAULT_FORMAT
        )
    except InvalidArgument as error:
        raise click.UsageError(f"{job.target_name}: {str(error).removeprefix('the stream: ')}") from error


def _write(job: Job, picture: Picture, format_: str | None, preserve: bool) -> None:
    from latentcodec.picture.files import save_picture

    if job.target == PIPE:
        stream = io.BytesIO()
        save_picture(picture, stream, format_ or _DEFAULT_FORMAT)
        write_target(job, stream.getbuffer())
    else:
        like = os.stat(job.source) if preserve else None
        with target_file(job) as path:
            save_picture(picture, path, format_, like=like)


def _line(job: Job, header: Header, size: int, took: str | None) -> str:
    """The line about a decompressed file; with `took` in full."""
    bpp = 8 * size / (header.width * header.height)
    parts = [f"{header.width}x{header.height}", f"{size} bytes", f"{bpp:.3f} bpp"]
    if took is not None:
        if (step := step_of(header)) is not None:
            parts.append("lossless" if step == 1 else f"samples in steps of {step}")
        elif has_quality(header):
            parts.append(f"quality {quality_of_level(header.quality_level):g}")
        parts.append(took)
    return f"{job.name} -> {job.target_name}: {', '.join(parts)}"


def _say_report(job: Job, report: Report, tiles: int, quiet: bool) -> None:
    """The report of a partial decoding, a line for each finding."""
    if report.intact and not quiet:
        say(f"{job.name}: nothing is missing")
    for state, numbers in (("missing", report.missing), ("incomplete", report.incomplete)):
        if numbers:
            named = ", ".join(map(str, numbers[:_NAMED])) + (", ..." if len(numbers) > _NAMED else "")
            say(f"{job.name}: {len(numbers)} of {tiles} tiles {state}: {named}")
    if report.truncated:
        say(f"{job.name}: the file is cut short")
    for line in report.damaged[:_NAMED]:
        say(f"{job.name}: {line}")
    if len(report.damaged) > _NAMED:
        say(f"{job.name}: ... and {len(report.damaged) - _NAMED} chunks more are damaged")
