"""latents: an autoencoder as a codec."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.commands.options import stdout
from latentcodec.codec.arguments import DEFAULT_EFFORT, MAX_EFFORT

__all__ = ["latents_command"]


@click.command("latents")
@click.argument("pictures", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", default="taef2", show_default=True, help="A name in the store, or a path.")
@click.option("--crop", "side", default=512, show_default=True, help="Side of the middle that is taken.")
@click.option("--effort", type=click.IntRange(1, MAX_EFFORT), default=DEFAULT_EFFORT, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--prior", type=click.Path(exists=True, dir_okay=False), help="Measures this prior, too.")
@click.option(
    "--rows", type=click.Path(dir_okay=False, path_type=Path), help="Keeps rows; goes on where it was left."
)
def latents_command(
    pictures: tuple[Path, ...],
    model: str,
    side: int,
    effort: int,
    device: str,
    prior: str | None,
    rows: Path | None,
) -> None:
    """Measure an autoencoder as a codec on PICTURES."""
    from benchmarks.experiments.latents import (
        curve_table,
        delta_rate,
        measure_all,
        open_models,
        palette_table,
        prior_table,
    )

    measured = measure_all(
        pictures,
        *open_models(model, prior, device),
        side=side,
        effort=effort,
        rows_path=rows,
        report=lambda name: click.echo(f"{name} done", err=True),
    )
    console = stdout()
    console.print(curve_table(measured))
    console.print(palette_table(measured))
    if with_prior := [row for row in measured if all(point.prior for point in row.points)]:
        console.print(prior_table(with_prior))
        click.echo(delta_rate(with_prior))
