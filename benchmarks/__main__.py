"""The commands: `python -m benchmarks run | report | demo | seed | at-size | failures | speed`.

Progress goes to stderr, results to stdout; what the user got wrong is one line and exit code 1 or 2.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from latentcodec.errors import LatentCodecError

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(file_okay=False, path_type=Path)
SAMPLE = Path(__file__).parents[1] / "samples" / "astronaut.png"


class _Commands(click.Group):
    """Errors that were raised on purpose are told in a line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (LatentCodecError, OSError) as error:  # OSError: a picture or folder that cannot be used
            raise click.ClickException(str(error)) from error


def _stdout() -> Console:
    """Where results go; wide enough for the tables where no terminal says how wide it is."""
    console = Console()
    return console if console.is_terminal else Console(width=132)


def _words(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [word.strip() for word in value.split(",") if word.strip()]


def _numbers(_: click.Context, __: click.Parameter, value: str | None) -> list[float] | None:
    if value is None:
        return None
    try:
        numbers = [float(word) for word in value.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 5,20,50,90")
    return numbers


def _say_skipped(codecs: dict[str, str], metrics: dict[str, str]) -> None:
    for kind, skipped in (("codec", codecs), ("metric", metrics)):
        for name, reason in skipped.items():
            click.echo(f"{kind} {name} is skipped: {reason}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Rate-distortion benchmarks of latentcodec and its peers, from real files."""


@main.command()
@click.argument("dataset", default="default")
@click.option(
    "--out", type=OUT, required=True, help="Where the results go: rows.jsonl, streams, pictures, report."
)
@click.option(
    "--codecs",
    help="Names, such as native,jpeg,avif-fast,vae:taef2; vae: all in the store.  [default: the fast ones]",
    callback=_words,
)
@click.option(
    "--metrics",
    help="Names, or all.  [default: those installed but butteraugli, lpips, dists]",
    callback=_words,
)
@click.option(
    "--qualities", callback=_numbers, help="One list for all codecs, such as 5,20,50,90; else each its own."
)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes at once.")
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Go on from the rows that are in OUT, or forget them.",
)
@click.option("--device", default="auto", show_default=True, help="Where the networks run.")
def run(
    dataset: str,
    out: Path,
    codecs: list[str] | None,
    metrics: list[str] | None,
    qualities: list[float] | None,
    jobs: int,
    resume: bool,
    device: str,
) -> None:
    """Measure every picture of DATASET with every codec at every quality, then report.

    DATASET is a folder of pictures, or the name of one in $LATENTCODEC_DATASETS (kodak, clic ...); without
    it, the samples and the pictures that come with scikit-image. A run that was stopped, even by a kill,
    goes on where it was when the same command is given again. A codec or metric that is not installed is
    left out, and that is said. Every codec runs on one thread; with --jobs above 1 in processes of their
    own: the run is shorter, a crash of a codec one failed row, and the times less exact.
    """
    from benchmarks import report, run
    from benchmarks.datasets import find_data_set
    from benchmarks.metrics import DEFAULT_METRICS, find_metrics
    from benchmarks.peers import DEFAULT_PEERS, find_peers

    data = find_data_set(dataset)
    functions, without = find_metrics(metrics or DEFAULT_METRICS)
    peers, absent = find_peers(codecs or DEFAULT_PEERS, device)
    _say_skipped(absent, without)
    try:
        run.run(
            data,
            peers,
            functions,
            out,
            settings=qualities,
            jobs=jobs,
            resume=resume,
            command=["python", "-m", "benchmarks", *sys.argv[1:]],
            skipped={**absent, **without},
        )
    except KeyboardInterrupt:
        click.echo(
            f"Stopped; the rows so far are in {out}, and the same command goes on from them.", err=True
        )
        raise click.exceptions.Exit(130) from None
    report.report(out, _stdout())


@main.command()
@click.argument("out", type=FOLDER)
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def report(out: Path, markdown: bool) -> None:
    """Make report.html, summary.json, plots and tables anew from the results in OUT."""
    from benchmarks import report

    report.report(out, _stdout(), as_markdown=markdown)


@main.command()
@click.argument("sample", type=FILE)
@click.option("--out", type=OUT, required=True, help="Where the files go.")
def demo(sample: Path, out: Path) -> None:
    """Compress SAMPLE, and set it beside JPEG and WebP at the same bytes."""
    from benchmarks import demo

    demo.demo(sample, out, _stdout())


@main.command()
@click.argument("pictures", nargs=-1, type=FILE)
@click.option(
    "--out", type=OUT, default="build/seed", show_default=True, help="Where the sheet and tables go."
)
@click.option("--codecs", default="jpeg,webp,avif,native", show_default=True, callback=_words)
@click.option("--device", default="auto", show_default=True, help="Where the networks run.")
def seed(pictures: tuple[Path, ...], out: Path, codecs: list[str], device: str) -> None:
    """Set 512x512 pictures side by side at 5,000 bytes: JPEG, WebP, AVIF and ours.

    PICTURES are files of 512 pixels or more a side, of which the middle square is taken; without any, those
    of the samples and of scikit-image's that are large enough.
    """
    from rich.markdown import Markdown

    from benchmarks import seed
    from benchmarks.metrics import find_metrics
    from benchmarks.peers import find_peers

    squares = seed.seed_pictures(pictures)
    peers, absent = find_peers(codecs, device)
    metrics, without = find_metrics(seed.METRICS)
    _say_skipped(absent, without)
    seed.seed(squares, peers, metrics, out)
    _stdout().print(Markdown((out / "seed.md").read_text(encoding="utf-8")))
    click.echo(f"{out / 'seed.png'}, {out / 'seed.md'}, {out / 'seed.json'}")


@main.command(name="at-size")
@click.argument("pictures", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=OUT, required=True, help="Where the tables, sheets and coded files go.")
@click.option(
    "--bytes",
    "size",
    default=5_000,
    show_default=True,
    type=click.IntRange(1),
    help="Of a 512x512 picture's file; of a smaller picture's in proportion.",
)
@click.option("--codecs", default="native,jpeg,webp,avif,jpegxl", show_default=True, callback=_words)
@click.option("--device", default="auto", show_default=True, help="Where the networks run.")
def at_size_command(pictures: tuple[Path, ...], out: Path, size: int, codecs: list[str], device: str) -> None:
    """Set PICTURES, files or folders of them, side by side at one size in bytes, and count who is better.

    Of each picture the middle square is taken, at 512x512; one with a shorter side is taken whole.
    """
    from rich.markdown import Markdown

    from benchmarks.at_size import METRICS, at_size
    from benchmarks.datasets import find_pictures
    from benchmarks.metrics import find_metrics
    from benchmarks.peers import find_peers

    paths = [path for each in pictures for path in (find_pictures(each) if each.is_dir() else [each])]
    peers, absent = find_peers(codecs, device)
    metrics, without = find_metrics(METRICS)
    _say_skipped(absent, without)
    at_size(paths, peers, metrics, out, size)
    _stdout().print(Markdown((out / "at-size.md").read_text(encoding="utf-8")))
    click.echo(f"{out / 'at-size.md'}, {out / 'at-size.json'}, and a sheet a picture")


@main.command()
@click.option("--out", type=OUT, required=True, help="Where the table, strips and measurements go.")
@click.option("--pictures", type=FOLDER, help="Photographs to take details from.  [default: the samples']")
@click.option("--codecs", default="native,webp,avif", show_default=True, callback=_words)
@click.option("--only", callback=_words, help="These kinds alone: texture, lines, screens, text ...")
@click.option(
    "--docs", is_flag=True, help="Put the table into docs/training.md, the strips into docs/pictures."
)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes at once.")
@click.option("--device", default="auto", show_default=True, help="Where the networks run.")
def failures(
    out: Path,
    pictures: Path | None,
    codecs: list[str],
    only: list[str] | None,
    docs: bool,
    jobs: int,
    device: str,
) -> None:
    """Measure and show where the native model fails: texture, text, noise, saturated colour ...

    Each kind is of drawings made here and of details of photographs. Native is measured every time; what OUT
    holds of the other codecs is kept.
    """
    from rich.markdown import Markdown

    from benchmarks import failures
    from benchmarks.datasets import find_pictures, load
    from benchmarks.failure_kinds import kinds
    from benchmarks.metrics import find_metrics
    from benchmarks.peers import find_peers

    paths = find_pictures(pictures) if pictures else [SAMPLE.with_name(name) for name in failures.PHOTOGRAPHS]
    found = kinds({path.stem: load(path) for path in paths})
    unknown = set(only or ()) - found.keys()
    if unknown:
        raise click.BadParameter(f"no kind is called {min(unknown)}; there are {', '.join(found)}")
    chosen = {name: kind for name, kind in found.items() if only is None or name in only}
    if docs and (pictures or only):
        raise click.UsageError("--docs takes all kinds, and photographs that may be shown: the samples'")
    peers, absent = find_peers(codecs, device)
    metrics, without = find_metrics(failures.METRICS)
    _say_skipped(absent, without)
    table = failures.failures(chosen, peers, metrics, out, jobs=jobs)
    if docs:
        failures.publish(chosen, table, out, SAMPLE.parents[1] / "docs")
    _stdout().print(Markdown(table))


@main.command()
@click.argument("sample", type=FILE, default=SAMPLE)
@click.option("--quality", default=60.0, show_default=True, type=click.FloatRange(0, 100))
@click.option("--threads", type=click.IntRange(1), help="Of PyTorch.  [default: 1, 2, 4 ... all cores]")
@click.option("--runs", default=9, show_default=True, type=click.IntRange(1))
@click.option("--scaling", is_flag=True, help="Time and memory against the picture's size instead.")
@click.option(
    "--largest",
    default=50.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Megapixels, with --scaling.",
)
@click.option("--out", type=OUT, default="build/speed", show_default=True, help="For --scaling's files.")
def speed(
    sample: Path, quality: float, threads: int | None, runs: int, scaling: bool, largest: float, out: Path
) -> None:
    """Say where the time goes when SAMPLE is encoded and decoded, warm, and set it beside JPEG, WebP, AVIF.

    With --scaling: time and peak memory of synthetic pictures of 0.1 to 50 megapixels, each in a fresh
    process.
    """
    from benchmarks.datasets import load
    from benchmarks.peers import find_peers
    from benchmarks.scaling import SIZES, run, write
    from benchmarks.speed import PEERS, cores, measure
    from benchmarks.tables import speed_table

    if scaling:
        points = []
        for point in run([size for size in SIZES if size <= largest], quality, threads or cores()):
            points.append(point)
            write(points, out)  # after each: the largest may take long, or all memory
            click.echo(
                f"{point.megapixels:g} megapixels: encode {point.encode_seconds:.2f} s, "
                f"{point.encode_memory / 2**20:.0f} MiB; decode {point.decode_seconds:.2f} s, "
                f"{point.decode_memory / 2**20:.0f} MiB"
            )
        return
    try:
        picture = load(sample)
    except OSError as error:
        raise click.ClickException(f"{sample}: {error}") from error
    peers, absent = find_peers(PEERS)
    _say_skipped(absent, {})
    height, width = picture.shape[:2]
    click.echo(f"{sample.name}, {width}x{height}, quality {quality:g}, medians of {runs} interleaved rounds")
    counts = [threads] if threads else sorted({*(2**power for power in range(cores().bit_length())), cores()})
    for count in counts:
        _stdout().print(speed_table(measure(picture, quality, count, runs, peers), height * width))


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
