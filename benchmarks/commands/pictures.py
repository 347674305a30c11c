"""demo, seed, at-size, failures: what codecs make of single pictures, set side by side."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.commands.options import FILE, FOLDER, OUT, SAMPLE, say_skipped, stdout, words

__all__ = ["at_size_command", "demo_command", "failures_command", "seed_command"]


@click.command("demo")
@click.argument("sample", type=FILE)
@click.option("--out", type=OUT, required=True, help="Where the files go.")
def demo_command(sample: Path, out: Path) -> None:
    """Compress SAMPLE, and set it beside JPEG and WebP at the same bytes."""
    from benchmarks.experiments.demo import demo

    demo(sample, out, stdout())


@click.command("seed")
@click.argument("pictures", nargs=-1, type=FILE)
@click.option(
    "--out", type=OUT, default="build/seed", show_default=True, help="Where the sheet and tables go."
)
@click.option("--codecs", default="jpeg,webp,avif,native", show_default=True, callback=words)
@click.option("--device", default="auto", show_default=True, help="Where the networks run.")
def seed_command(pictures: tuple[Path, ...], out: Path, codecs: list[str], device: str) -> None:
    """Set 512x512 pictures side by side at 5,000 bytes: JPEG, WebP, AVIF and ours.

    PICTURES are files of 512 pixels or more a side, of which the middle square is taken; without any, those
    of the samples and of scikit-image's that are large enough.
    """
    from rich.markdown import Markdown

    from benchmarks.experiments.seed import METRICS, seed, seed_pictures
    from benchmarks.metrics import find_metrics
    from benchmarks.peers import find_peers

    squares = seed_pictures(pictures)
    peers, absent = find_peers(codecs, device)
    metrics, without = find_metrics(METRICS)
    say_skipped(absent, without)
    seed(squares, peers, metrics, out)
    stdout().print(Markdown((out / "seed.md").read_text(encoding="utf-8")))
    click.echo(f"{out / 'seed.png'}, {out / 'seed.md'}, {out / 'seed.json'}")


@click.command("at-size")
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
@click.option("--codecs", default="native,jpeg,webp,avif,jpegxl", show_default=True, callback=words)
@click.option("--device", default="auto", show_default=True, help="Where the networks run.")
def at_size_command(pictures: tuple[Path, ...], out: Path, size: int, codecs: list[str], device: str) -> None:
    """Set PICTURES, files or folders of them, side by side at one size in bytes, and count who is better.

    Of each picture the middle square is taken, at 512x512; one with a shorter side is taken whole.
    """
    from rich.markdown import Markdown

    from benchmarks.experiments.at_size import METRICS, at_size
    from benchmarks.metrics import find_metrics
    from benchmarks.peers import find_peers
    from benchmarks.pictures.datasets import find_pictures

    paths = [path for place in pictures for path in (find_pictures(place) if place.is_dir() else [place])]
    peers, absent = find_peers(codecs, device)
    metrics, without = find_metrics(METRICS)
    say_skipped(absent, without)
    at_size(paths, peers, metrics, out, size)
    stdout().print(Markdown((out / "at-size.md").read_text(encoding="utf-8")))
    click.echo(f"{out / 'at-size.md'}, {out / 'at-size.json'}, and a sheet a picture")


@click.command("failures")
@click.option("--out", type=OUT, required=True, help="Where the table, strips and measurements go.")
@click.option("--pictures", type=FOLDER, help="Photographs to take details from.  [default: the samples']")
@click.option("--codecs", default="native,webp,avif", show_default=True, callback=words)
@click.option("--only", callback=words, help="These kinds alone: texture, lines, screens, text ...")
@click.option(
    "--docs", is_flag=True, help="Put the table into docs/training.md, the strips into docs/pictures."
)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes at once.")
@click.option("--device", default="auto", show_default=True, help="Where the networks run.")
def failures_command(
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

    from benchmarks.experiments.failure_kinds import kinds
    from benchmarks.experiments.failures import METRICS, PHOTOGRAPHS, failures, publish
    from benchmarks.metrics import find_metrics
    from benchmarks.peers import find_peers
    from benchmarks.pictures.datasets import find_pictures, load

    paths = find_pictures(pictures) if pictures else [SAMPLE.with_name(name) for name in PHOTOGRAPHS]
    all_kinds = kinds({path.stem: load(path) for path in paths})
    unknown = set(only or ()) - all_kinds.keys()
    if unknown:
        raise click.BadParameter(f"no kind is called {min(unknown)}; there are {', '.join(all_kinds)}")
    chosen = {name: kind for name, kind in all_kinds.items() if only is None or name in only}
    if docs and (pictures or only):
        raise click.UsageError("--docs takes all kinds, and photographs that may be shown: the samples'")
    peers, absent = find_peers(codecs, device)
    metrics, without = find_metrics(METRICS)
    say_skipped(absent, without)
    table = failures(chosen, peers, metrics, out, jobs=jobs)
    if docs:
        publish(chosen, table, out, SAMPLE.parents[1] / "docs")
    stdout().print(Markdown(table))
