"""latentcodec train pack: a training set in tar files of moderate size.

PICTURES ─► those that are trained on ─► DIR/pictures-000.tar, ... ─► copied ─► train run DIR
"""

from __future__ import annotations

from pathlib import Path

import click

from latentcodec.cli.console import say_result
from latentcodec.cli.options import parse_size


@click.command(short_help="Split training pictures into tar files, to copy them.")
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Where to write the tars, and pack.json.",
)
@click.option(
    "--size",
    callback=parse_size,
    default="46MB",
    show_default=True,
    metavar="SIZE",
    help="Of a tar, at most: 5000000, 46MB, 1.5MiB.",
)
def pack(pictures: Path, out: Path, size: int) -> None:
    """Split the pictures below the folder PICTURES into tar files, for training on another machine.

    \b
    latentcodec train pack pictures/ --out packed/ --size 46MB
    latentcodec train run packed/ --out my-run --device cuda --minutes 9

    The 5 % that training holds out are left out; pack.json names them. Nothing is unpacked to train on it.
    """
    from latentcodec.training.pack import pack_pictures

    written = pack_pictures(pictures, out, size)
    largest = max(path.stat().st_size for path in written)
    total = sum(path.stat().st_size for path in written)
    say_result(f"{click.format_filename(out)}: {len(written)} tars, {total} bytes, {largest} at most")
