"""run and report: a rate-distortion run, and what its rows say."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.commands.options import FOLDER, OUT, numbers, say_skipped, stdout, words

__all__ = ["report_command", "run_command"]


@click.command("run")
@click.argument("dataset", default="default")
@click.option(
    "--out", type=OUT, required=True, help="Where the results go: rows.jsonl, streams, pictures, report."
)
@click.option(
    "--codecs",
    help="Names, such as native,jpeg,avif-fast,vae:taef2; vae: all in the store.  [default: the fast ones]",
    callback=words,
)
@click.option(
    "--metrics",
    help="Names, or all.  [default: those installed but butteraugli, lpips, dists]",
    callback=words,
)
@click.option(
    "--qualities", callback=numbers, help="One list for all codecs, such as 5,20,50,90; else each its own."
)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes at once.")
@click.option(
    "--resume/--fresh",
    default=True,
    show_default=True,
    help="Go on from the rows that are in OUT, or forget them.",
)
@click.option("--device", default="auto", show_default=True, help="Where the networks run.")
def run_command(
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
    from benchmarks.metrics import DEFAULT_METRICS, find_metrics
    from benchmarks.peers import DEFAULT_PEERS, find_peers
    from benchmarks.pictures.datasets import find_data_set
    from benchmarks.report.report import report
    from benchmarks.runs.run import run

    data = find_data_set(dataset)
    functions, without = find_metrics(metrics or DEFAULT_METRICS)
    peers, absent = find_peers(codecs or DEFAULT_PEERS, device)
    say_skipped(absent, without)
    try:
        run(
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
    report(out, stdout())


@click.command("report")
@click.argument("out", type=FOLDER)
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
def report_command(out: Path, markdown: bool) -> None:
    """Make report.html, summary.json, plots and tables anew from the results in OUT."""
    from benchmarks.report.report import report

    report(out, stdout(), as_markdown=markdown)
