"""latentcodec compare: how near a picture is to another, and what each costs.

A, B ─► functions.compare ─► a table, or a line of JSON
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from latentcodec.cli.console import Failure, explain, say_json, show_rows
from latentcodec.cli.files import PIPE, Job, read_source
from latentcodec.cli.options import device_option, limits_of, max_pixels_option, model_option

if TYPE_CHECKING:
    from latentcodec.codec.functions import Comparison


@click.command()
@click.argument("first", metavar="A", type=click.Path())
@click.argument("second", metavar="B", type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@model_option
@device_option
@max_pixels_option
def compare(first: str, second: str, as_json: bool, model: str, device: str, max_pixels: int | None) -> None:
    """Compare two pictures of one size: bytes, PSNR, MS-SSIM and SSIMULACRA 2.

    \b
    latentcodec compare photo.png photo.lci
    latentcodec compare photo.png photo.jpg --json

    A is the original, and B what is measured against it: .lci files or pictures, or - for standard input.
    Transparent pictures are seen on a dark and on a light ground, and the lower value counts; PSNR counts
    what A does not hide. MS-SSIM needs 161 pixels a side.
    """
    from latentcodec.codec.api import Codec
    from latentcodec.codec.functions import compare_files

    if first == second == PIPE:
        raise click.UsageError("- and -: standard input holds one of them; name the other")
    codec = Codec(model, device, limits=limits_of(max_pixels))
    pair = []
    for path in (first, second):
        job = Job(path, PIPE)
        try:
            pair.append((job.name, read_source(job)))
        except OSError as error:
            raise Failure(explain(error, job.name) or str(error)) from error
    found = compare_files(codec, *pair)
    if as_json:
        values = {key: None if value == math.inf else value for key, value in asdict(found).items()}
        say_json({"first": pair[0][0], "second": pair[1][0]} | values)
    else:
        show_rows(_rows(found, pair[0][0], pair[1][0]).items())


def _rows(found: Comparison, first: str, second: str) -> dict[str, str]:
    pixels = found.width * found.height
    rows = {
        label: f"{name}, {size} bytes ({8 * size / pixels:.3f} bits per pixel)"
        for label, name, size in (
            ("A", first, found.first_bytes or 0),
            ("B", second, found.second_bytes or 0),
        )
    }
    rows["pictures"] = f"{found.width}x{found.height}, {'identical' if found.identical else 'different'}"
    rows["PSNR"] = _decibels(found.psnr)
    if found.alpha_psnr is not None:
        rows["PSNR of alpha"] = _decibels(found.alpha_psnr)
    rows["MS-SSIM"] = "needs 161 pixels a side" if found.ms_ssim is None else f"{found.ms_ssim:.5f}"
    rows["SSIMULACRA 2"] = f"{found.ssimulacra2:.2f}"
    return rows


def _decibels(value: float) -> str:
    return "infinite" if value == math.inf else f"{value:.2f} dB"
