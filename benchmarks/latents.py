"""An autoencoder as a codec: its curve, and the adaptive coder against a static one and against the palette.

    pictures ─► middle crop ─► five qualities ─► file bytes, PSNR of the decoded picture
                            ├► rounded latents ─► adaptive stream : static entropy per channel
                            ├► palette ─► bytes, PSNR ─► scalar at that PSNR ─► bytes
                            └► with --prior: its streams at the same steps, and its curve

    python -m benchmarks.latents --model taef2 --crop 512 PICTURE...

The static entropy is the zero-order one of each channel's values in each picture, without the tables that a
decoder would need: a bound that no static coder reaches.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.bd_rate import bd_rate
from benchmarks.datasets import load
from latentcodec.atomic import write_atomically
from latentcodec.codec.arguments import DEFAULT_EFFORT, PALETTE
from latentcodec.codec.latent import LatentCodec
from latentcodec.codec.latent_file import LatentEncoder
from latentcodec.codec.models import open_codec
from latentcodec.codec.planes import pad_to_patches
from latentcodec.codec.prior import LatentPrior, open_prior
from latentcodec.codec.quality import level_of_quality
from latentcodec.codec.scalar import scale
from latentcodec.codec.steps import choose_steps, sensitivities
from latentcodec.codec.targets import meet_psnr
from latentcodec.errors import InvalidArgument, TargetUnreachable
from latentcodec.image import from_array
from latentcodec.nn.device import choose_device

QUALITIES = (20.0, 40.0, 60.0, 80.0, 100.0)
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Point:
    """One picture at one quality; bytes of the file, of the adaptive stream and of the static entropy.

    prior: bytes of a prior's stream at the steps of the adaptive one; prior_bpp, prior_psnr: of its file.
    """

    quality: float
    bpp: float
    psnr: float
    adaptive: int
    static: float
    prior: int | None = None
    prior_bpp: float | None = None
    prior_psnr: float | None = None


@dataclass(frozen=True)
class Row:
    """One picture: its curve, the palette's bytes and PSNR, the scalar's bytes there if it gets there."""

    name: str
    points: tuple[Point, ...]
    palette: int
    palette_psnr: float
    scalar: int | None


def static_bytes(values: npt.NDArray[np.int64]) -> float:
    """Zero-order entropy of each channel of (channels, h, w), in bytes."""
    bits = 0.0
    for channel in values:
        _, counts = np.unique(channel, return_counts=True)
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    return bits / 8


def measure(
    latent: LatentCodec,
    name: str,
    pixels: Pixels,
    effort: int = DEFAULT_EFFORT,
    prior: LatentPrior | None = None,
) -> Row:
    """Everything that is told of a picture."""
    picture = from_array(pixels)
    encoder = LatentEncoder(latent, picture, effort=effort)
    latents = latent.analyse(pad_to_patches(pixels, latent.downscale))
    shows, means = sensitivities(latent, latents), latents.mean((1, 2))
    points = []
    for quality in QUALITIES:
        level = level_of_quality(quality)
        made = encoder.attempt(level, measure=True)
        steps = choose_steps(level, shows, means)
        plain = latent.encode_tile(scale(steps, latents), rate_weight=0)
        point = Point(
            quality,
            8 * made.size / (picture.width * picture.height),
            made.psnr or 0.0,
            len(plain.stream),
            static_bytes(plain.values),
        )
        if prior is not None:
            steps = replace(steps, offsets=(0,) * latent.latents)
            stream = prior.encode_tile(scale(steps, latents), steps, level, rate_weight=0).stream
            made = LatentEncoder(latent, picture, effort=effort, prior=prior).attempt(level, measure=True)
            bpp = 8 * made.size / (picture.width * picture.height)
            point = replace(point, prior=len(stream), prior_bpp=bpp, prior_psnr=made.psnr or 0.0)
        points.append(point)
    palette = LatentEncoder(latent, picture, quantiser=PALETTE).attempt(0, measure=True)
    reached = palette.psnr or 0.0
    try:
        scalar = meet_psnr(lambda level: encoder.attempt(level, measure=True), reached).size
    except TargetUnreachable:
        scalar = None
    return Row(name, tuple(points), palette.size, reached, scalar)


def show_prior(rows: list[Row]) -> None:
    """What a prior's streams save at equal steps, and its delta rate at equal PSNR."""
    table = Table(title="prior against the adaptive coder")
    for label in ("quality", "adaptive bytes", "prior bytes", "saved", "bpp", "PSNR (dB)"):
        table.add_column(label, justify="right")
    for place, quality in enumerate(QUALITIES):
        points = [row.points[place] for row in rows]
        adaptive, own = sum(p.adaptive for p in points), sum(p.prior or 0 for p in points)
        table.add_row(
            f"{quality:g}",
            f"{adaptive / len(rows):.0f}",
            f"{own / len(rows):.0f}",
            f"{100 * (1 - own / adaptive):.1f} %",
            f"{np.mean([p.prior_bpp or 0.0 for p in points]):.3f}",
            f"{np.mean([p.prior_psnr or 0.0 for p in points]):.2f}",
        )
    Console().print(table)
    deltas = []
    for row in rows:
        with suppress(InvalidArgument):  # curves that turn back, or share too little
            anchor = [p.bpp for p in row.points], [p.psnr for p in row.points]
            test = [p.prior_bpp or 0.0 for p in row.points], [p.prior_psnr or 0.0 for p in row.points]
            deltas.append(bd_rate(anchor, test).percent)
    told = f"{np.mean(deltas):.1f} %" if deltas else "-"
    click.echo(f"delta rate of its files at equal PSNR, mean of {len(deltas)} pictures: {told}")


def crop(pixels: Pixels, side: int) -> Pixels:
    """The middle of a picture, at most side x side."""
    top, left = (max(size - side, 0) // 2 for size in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def show(rows: list[Row]) -> None:
    """The means of all pictures."""
    console = Console()
    table = Table(title=f"{len(rows)} pictures")
    for label in ("quality", "bpp", "PSNR (dB)", "adaptive bytes", "static bytes", "saved"):
        table.add_column(label, justify="right")
    for place, quality in enumerate(QUALITIES):
        points = [row.points[place] for row in rows]
        adaptive, static = (
            float(np.mean([getattr(p, name) for p in points])) for name in ("adaptive", "static")
        )
        bpp, decibel = np.mean([p.bpp for p in points]), np.mean([p.psnr for p in points])
        saved = 100 * (1 - adaptive / static)
        table.add_row(
            f"{quality:g}",
            f"{bpp:.3f}",
            f"{decibel:.2f}",
            f"{adaptive:.0f}",
            f"{static:.0f}",
            f"{saved:.1f} %",
        )
    console.print(table)
    table = Table(title="palette, and scalar at its PSNR")
    for label in ("picture", "PSNR (dB)", "palette bytes", "scalar bytes", "saved"):
        table.add_column(label, justify="right")
    for row in rows:
        share = "-" if row.scalar is None else f"{100 * (1 - row.scalar / row.palette):.1f} %"
        table.add_row(row.name, f"{row.palette_psnr:.2f}", str(row.palette), str(row.scalar or "-"), share)
    console.print(table)


@click.command()
@click.argument("pictures", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--model", default="taef2", show_default=True, help="A name in the store, or a path.")
@click.option("--crop", "side", default=512, show_default=True, help="Side of the middle that is taken.")
@click.option("--effort", type=click.IntRange(1, 9), default=DEFAULT_EFFORT, show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--prior", type=click.Path(exists=True, dir_okay=False), help="Measures this prior, too.")
@click.option(
    "--rows", type=click.Path(dir_okay=False, path_type=Path), help="Keeps rows; goes on where it was left."
)
def main(
    pictures: tuple[Path, ...],
    model: str,
    side: int,
    effort: int,
    device: str,
    prior: str | None,
    rows: Path | None,
) -> None:
    """Measure an autoencoder as a codec on PICTURES."""
    kept = _read(rows)
    latent = open_codec(model, choose_device(device))
    fitted = None if prior is None else open_prior(prior, latent.device)
    for path in pictures:
        if path.name not in kept:
            kept[path.name] = measure(latent, path.name, crop(load(path), side), effort, fitted)
            if rows is not None:
                write_atomically(rows, "".join(f"{json.dumps(asdict(r))}\n" for r in kept.values()).encode())
            click.echo(f"{path.name} done", err=True)
    show(list(kept.values()))
    if measured := [row for row in kept.values() if all(p.prior for p in row.points)]:
        show_prior(measured)


def _read(rows: Path | None) -> dict[str, Row]:
    """The rows of a file, by picture; none where there is no file."""
    if rows is None or not rows.exists():
        return {}
    found = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    return {r["name"]: Row(**(r | {"points": tuple(Point(**p) for p in r["points"])})) for r in found}


if __name__ == "__main__":
    main()
