"""latentcodec compress: picture files to .lci files.

IN ─► open_picture ─► Codec.encode ─► OUT        the model is loaded for the first picture that can be read
"""

from __future__ import annotations

import io
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentcodec.cli.cleanup import cleanup_options, cleanup_settings
from latentcodec.cli.console import printable
from latentcodec.cli.files import LCI, PIPE, Done, Job, plan, read_source, run_jobs, write_target
from latentcodec.cli.options import (
    Number,
    device_option,
    exclusive,
    file_arguments,
    file_options,
    limits_of,
    load_codec,
    load_native,
    max_pixels_option,
    model_option,
    parse_size,
    prior_option,
    strict_option,
    usage_errors,
)
from latentcodec.container.autoencoder import PALETTE, SCALAR
from latentcodec.container.chunks import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from latentcodec.codec.api import Codec


@click.command()
@file_arguments
@click.option(
    "-q", "--quality", type=Number(0, 100), metavar="Q", help="0 (smallest) to 100 (best).  [default: 60]"
)
@click.option(
    "--target-size",
    callback=parse_size,
    metavar="SIZE",
    help="The best file of at most this size: 5000, 5KB, 1.5MB, 4KiB. It is an error if even quality 100 "
    "stays over 1 % below it, and no lossless file fits.",
)
@click.option(
    "--target-bpp",
    type=Number(0, min_open=True),
    metavar="B",
    help="The same in bits per pixel, such as 0.25.",
)
@click.option(
    "--min-psnr",
    type=Number(0, min_open=True),
    metavar="DB",
    help="The smallest file whose picture has this PSNR, in dB.",
)
@click.option(
    "--min-ssimulacra2",
    type=Number(0, 100, min_open=True),
    metavar="S",
    help="The smallest file whose picture has this SSIMULACRA 2: 90 is visually lossless, 70 high quality.",
)
@click.option("--lossless", is_flag=True, help="Keep the pixels as they are, whatever it costs.")
@model_option
@prior_option
@click.option(
    "--quantiser",
    type=click.Choice([SCALAR, PALETTE]),
    default=SCALAR,
    help="With an autoencoder: palette is the method of 2022, of one rate, for comparison."
    "  [default: scalar]",
)
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(1, 9),
    default=3,
    metavar="N",
    help="1 (fast) to 9 (slow): how long to search for fewer bytes. From 4 on the search is for fewer bytes "
    "at equal PSNR (docs/training.md); with an autoencoder it refines the latents.  [default: 3]",
)
@cleanup_options
@device_option
@click.option(
    "--strip", is_flag=True, help="Leave out all but pixels and colours: EXIF, XMP, IPTC, text, resolution."
)
@strict_option
@click.option(
    "--first-frame", is_flag=True, help="Of an animation take the first frame; else it is an error."
)
@click.option(
    "--orientation",
    type=click.IntRange(1, 8),
    metavar="N",
    help="The orientation, 1 (upright) to 8, in place of the one in EXIF, where that is no longer true.",
)
@max_pixels_option
@file_options("IN.lci")
def compress(
    paths: tuple[str, ...],
    out_dir: str | None,
    quality: float | None,
    target_size: int | None,
    target_bpp: float | None,
    min_psnr: float | None,
    min_ssimulacra2: float | None,
    lossless: bool,
    model: str,
    prior: str | None,
    quantiser: str,
    effort: int,
    cleanup_unet: str | None,
    cleanup_limit: float | None,
    cleanup_preset: str | None,
    cleanup_prompt: str | None,
    cleanup_seed: int | None,
    device: str,
    strip: bool,
    strict: bool,
    first_frame: bool,
    orientation: int | None,
    max_pixels: int | None,
    keep_extension: bool,
    preserve: bool,
    verbose: bool,
    quiet: bool,
) -> None:
    """Compress pictures to .lci files.

    \b
    latentcodec compress photo.jpg photo.lci
    latentcodec compress --target-size 20KB photo.jpg photo.lci
    latentcodec compress album/ --out-dir small/
    latentcodec compress --model taef2 photo.jpg photo.lci
    latentcodec compress --model sd15 --cleanup-unet sd15 photo.jpg photo.lci
    convert photo.cr3 ppm:- | latentcodec compress - - > photo.lci

    IN is a picture (PNG, JPEG, WebP, AVIF, TIFF ... whatever its name), or - for standard input; OUT is a
    file (replaced if it is there), or - for standard output. With --out-dir there may be several IN, also
    folders, which are searched for pictures.
    """
    from latentcodec.codec.arguments import check_encoding
    from latentcodec.picture.picture import PICTURE_EXTENSIONS

    exclusive(verbose=verbose, quiet=quiet)
    options: dict[str, Any] = {
        "quality": quality,
        "target_size": target_size,
        "target_bpp": target_bpp,
        "min_psnr": min_psnr,
        "min_ssimulacra2": min_ssimulacra2,
        "lossless": lossless,
        "quantiser": quantiser,
        "effort": effort,
    }
    with usage_errors():  # before a model is loaded
        check_encoding(model, prior=prior, cleanup_unet=cleanup_unet, **options)
    planned = plan(paths, out_dir, PICTURE_EXTENSIONS, LCI, keep_extension=keep_extension, preserve=preserve)
    _refuse_picture_names(planned.jobs, PICTURE_EXTENSIONS)
    limits = limits_of(max_pixels)
    cleanup = cleanup_settings(
        cleanup_unet,
        limit=cleanup_limit,
        preset=cleanup_preset,
        prompt=cleanup_prompt,
        seed=cleanup_seed,
    )

    @cache
    def codec() -> Codec:
        loaded = load_codec(model, device, verbose, limits, prior, cleanup, announce=not quiet)
        if not lossless:
            load_native(loaded, verbose)
        return loaded

    def work(job: Job) -> Done:
        from latentcodec.picture.files import open_picture
        from latentcodec.picture.notices import strictly

        source = io.BytesIO(read_source(job)) if job.source == PIPE else job.source
        with strictly(strict), _pillow_allows(limits.max_pixels):
            picture = open_picture(
                source,
                name=printable(job.name),  # in one line, whatever it holds
                max_pixels=limits.max_pixels,
                first_frame=first_frame,
                turn=orientation,
            )
        loaded = codec()
        begun = time.perf_counter()
        data = loaded.encode(picture, strip=strip, strict=strict, **options)
        seconds = time.perf_counter() - begun
        write_target(job, data, preserve=preserve)
        return Done(_line(job, data, limits, seconds if verbose else None), len(data))

    run_jobs(planned, work, "compress", quiet=quiet)


@contextmanager
def _pillow_allows(max_pixels: int) -> Iterator[None]:
    """Lift Pillow's own limit, which is as our default, where the user asked for more."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    if max_pixels > DEFAULT_LIMITS.max_pixels:
        Image.MAX_IMAGE_PIXELS = None  # open_picture looks at the size before it decodes
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _refuse_picture_names(jobs: list[Job], suffixes: Collection[str]) -> None:
    """A target named as a picture is a mistake: the file would be none."""
    for job in jobs:
        target = Path(job.target)
        if target.suffix.lower() in suffixes:
            raise click.UsageError(
                f"{job.target_name}: compress writes {LCI} files, not {target.suffix}: name it "
                f"{click.format_filename(target.with_suffix(LCI))}, or use decompress"
            )


def _line(job: Job, data: bytes, limits: Limits, seconds: float | None) -> str:
    """The line about a compressed file; with `seconds` in full."""
    from latentcodec.codec.info import info

    stored = info(data, limits=limits)
    parts = [f"{stored.width}x{stored.height}", f"{stored.bytes} bytes", f"{stored.bpp:.3f} bpp"]
    if seconds is not None:
        if stored.lossless:
            parts.append("lossless")
        elif stored.has_quality:
            parts.append(f"quality {stored.quality:g}")
        elif stored.step is not None:
            parts.append(f"samples in steps of {stored.step}")
        if stored.goal is not None and stored.goal.psnr is not None:
            parts.append(f"{stored.goal.psnr:.2f} dB")
        if stored.goal is not None and stored.goal.ssimulacra2 is not None:
            parts.append(f"SSIMULACRA 2 {stored.goal.ssimulacra2:.2f}")
        parts.append(f"{seconds:.2f} s")
    return f"{job.name} -> {job.target_name}: {', '.join(parts)}"
