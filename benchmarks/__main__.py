"""The commands: `python -m benchmarks run | report | demo | speed`.

Progress goes to stderr, results to stdout; what the user got wrong is one line and exit code 1 or 2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from latentcodec.errors import LatentCodecError

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(file_okay=False, path_type=Path)


class _Commands(click.Group):
    """Errors that were raised on purpose are told in a line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LatentCodecError as error:
            raise click.ClickException(str(error)) from error


def _stdout() -> Console:
    """Where results go; wide enough for the tables where no terminal says how wide it is."""
    console = Console()
    return console if console.is_terminal else Console(width=110)


def _words(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    return [word.strip() for word in value.split(",") if word.strip()]


def _numbers(_: click.Context, __: click.Parameter, value: str | None) -> list[float] | None:
    try:
        return None if value is None else [float(word) for word in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 5,20,50,90") from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Rate-distortion benchmarks of latentcodec and its peers, from real files."""


@main.command()
@click.argument("folder", type=FOLDER)
@click.option(
    "--out", type=OUT, required=True, help="Where rows.jsonl, summary.json and rd.png go; resumed if there."
)
@click.option("--codecs", default="native,jpeg,webp,avif", show_default=True, callback=_words)
@click.option("--metrics", default="psnr,ms_ssim", show_default=True, callback=_words)
@click.option(
    "--qualities", callback=_numbers, help="One list for all codecs, such as 5,20,50,90; else each its own."
)
@click.option("--device", default="auto", show_default=True, help="Where the native codec runs.")
def run(
    folder: Path, out: Path, codecs: list[str], metrics: list[str], qualities: list[float] | None, device: str
) -> None:
    """Measure every picture of FOLDER with every codec at every quality, then report."""
    from benchmarks import datasets, report, run
    from benchmarks.peers import make_peer

    pictures = datasets.find_pictures(folder)
    functions = _metrics(metrics)
    peers = [make_peer(name, device) for name in codecs]
    run.run(pictures, peers, functions, out, settings=qualities)
    report.report(out, _stdout())


@main.command()
@click.argument("out", type=FOLDER)
def report(out: Path) -> None:
    """Make the table, summary.json and rd.png anew from OUT/rows.jsonl."""
    from benchmarks import report

    report.report(out, _stdout())


@main.command()
@click.argument("sample", type=FILE)
@click.option("--out", type=OUT, required=True, help="Where the files go.")
def demo(sample: Path, out: Path) -> None:
    """Compress SAMPLE, and set it beside JPEG and WebP at the same bytes."""
    from benchmarks import demo

    demo.demo(sample, out, _stdout())


@main.command()
@click.argument("sample", type=FILE)
@click.option("--quality", default=60.0, show_default=True, type=click.FloatRange(0, 100))
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--runs", default=9, show_default=True, type=click.IntRange(1))
def speed(sample: Path, quality: float, threads: int, runs: int) -> None:
    """Say where the time goes when SAMPLE is encoded and decoded, warm."""
    from rich.table import Table

    from benchmarks.speed import measure
    from latentcodec.picture_files import open_picture

    picture = open_picture(sample).pixels
    size = f"{picture.shape[1]}x{picture.shape[0]}"
    table = Table(title=f"{sample.name}, {size}, {threads} threads, median of {runs}")
    for column in ("", "stage", "ms"):
        table.add_column(column, justify="right" if column == "ms" else "left")
    for direction, stages in measure(picture, quality, threads, runs).items():
        for stage, milliseconds in sorted(stages.items(), key=lambda item: item[0] == "total"):
            table.add_row(direction, stage, f"{milliseconds:.1f}")
    _stdout().print(table)


def _metrics(names: list[str]) -> dict[str, Callable[..., float]]:
    """The functions of these names; told now, not in every row, if one is unknown or lacks its package."""
    import numpy as np

    from benchmarks.curves import AXES
    from latentcodec.metrics import METRICS

    unknown = [name for name in names if name not in METRICS or name not in AXES]
    if unknown:
        raise click.BadParameter(f"no metric is called {unknown[0]!r}; there are {', '.join(AXES)}")
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    for name in names:
        METRICS[name](ramp, 255 - ramp)
    return {name: METRICS[name] for name in names}


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
