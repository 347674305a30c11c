"""An autoencoder as a codec: its curve, and the adaptive coder against a static one and against the palette.

    pictures ─► middle crop ─► five qualities ─► file bytes, PSNR of the decoded picture
                            ├► rounded latents ─► adaptive stream : static entropy per channel
                            ├► palette ─► bytes, PSNR ─► scalar at that PSNR ─► bytes
                            └► with --prior: its streams at the same steps, and its curve

    python -m benchmarks latents --model taef2 --crop 512 PICTURE...

The static entropy is the zero-order one of each channel's values in each picture, without the tables that a
decoder would need: a bound that no static coder reaches.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import load
from benchmarks.report.bd_rate import bd_rate
from latentcodec.atomic import write_atomically
from latentcodec.codec.arguments import DEFAULT_EFFORT
from latentcodec.codec.autoencoder.encoder import LatentEncoder
from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.autoencoder.models import open_codec
from latentcodec.codec.autoencoder.steps import choose_steps, sensitivities
from latentcodec.codec.planes import pad_to_patches
from latentcodec.codec.targets import PSNR, meet_measure
from latentcodec.codec.values.adaptive_coder import AdaptiveCoder
from latentcodec.codec.values.prior import LatentPrior, PriorCoder, open_prior
from latentcodec.container.autoencoder import PALETTE
from latentcodec.container.quality import level_of_quality
from latentcodec.errors import InvalidArgument, TargetUnreachable
from latentcodec.nn.device import choose_device
from latentcodec.picture.picture import from_array

QUALITIES = (20.0, 40.0, 60.0, 80.0, 100.0)


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


def static_bytes(values: NDArray[np.int64]) -> float:
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
    """Everything that is measured of a picture."""
    picture = from_array(pixels)
    encoder = LatentEncoder(latent, picture, effort=effort)
    latents = latent.analyse(pad_to_patches(pixels, latent.downscale))
    shows, means = sensitivities(latent, latents), latents.mean((1, 2))
    points = []
    for quality in QUALITIES:
        level = level_of_quality(quality)
        attempt = encoder.attempt(level, measure=PSNR)
        steps = choose_steps(level, shows, means)
        plain = AdaptiveCoder(steps).encode(latents, rate_weight=0)
        point = Point(
            quality,
            8 * attempt.size / (picture.width * picture.height),
            attempt.psnr or 0.0,
            len(plain.stream),
            static_bytes(plain.values),
        )
        if prior is not None:
            steps = replace(steps, offsets=(0,) * latent.latents)
            stream = PriorCoder(prior, steps, level).encode(latents, rate_weight=0).stream
            attempt = LatentEncoder(latent, picture, effort=effort, prior=prior).attempt(level, measure=PSNR)
            bpp = 8 * attempt.size / (picture.width * picture.height)
            point = replace(point, prior=len(stream), prior_bpp=bpp, prior_psnr=attempt.psnr or 0.0)
        points.append(point)
    palette = LatentEncoder(latent, picture, quantiser=PALETTE).attempt(0, measure=PSNR)
    reached = palette.psnr or 0.0
    try:
        scalar = meet_measure(lambda level: encoder.attempt(level, measure=PSNR), reached, PSNR).size
    except TargetUnreachable:
        scalar = None
    return Row(name, tuple(points), palette.size, reached, scalar)


def crop(pixels: Pixels, side: int) -> Pixels:
    """The middle of a picture, at most side x side."""
    top, left = (max(size - side, 0) // 2 for size in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def curve_table(rows: Sequence[Row]) -> Table:
    """The means of all pictures at each quality."""
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
    return table


def palette_table(rows: Sequence[Row]) -> Table:
    """Each picture by palette, and the bytes of scalar quantisation at the same PSNR."""
    table = Table(title="palette, and scalar at its PSNR")
    for label in ("picture", "PSNR (dB)", "palette bytes", "scalar bytes", "saved"):
        table.add_column(label, justify="right")
    for row in rows:
        share = "-" if row.scalar is None else f"{100 * (1 - row.scalar / row.palette):.1f} %"
        table.add_row(row.name, f"{row.palette_psnr:.2f}", str(row.palette), str(row.scalar or "-"), share)
    return table


def prior_table(rows: Sequence[Row]) -> Table:
    """What a prior's streams save at equal steps: means of the pictures."""
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
    return table


def delta_rate(rows: Sequence[Row]) -> str:
    """The delta rate of the prior's files at equal PSNR, in words."""
    deltas = []
    for row in rows:
        with suppress(InvalidArgument):  # curves that turn back, or share too little
            anchor = [p.bpp for p in row.points], [p.psnr for p in row.points]
            test = [p.prior_bpp or 0.0 for p in row.points], [p.prior_psnr or 0.0 for p in row.points]
            deltas.append(bd_rate(anchor, test).percent)
    percent = f"{np.mean(deltas):.1f} %" if deltas else "-"
    return f"delta rate of its files at equal PSNR, mean of {len(deltas)} pictures: {percent}"


def open_models(model: str, prior: str | None, device: str) -> tuple[LatentCodec, LatentPrior | None]:
    """The autoencoder (a name in the store, or a path) and the prior of a file, on the device."""
    latent = open_codec(model, choose_device(device))
    return latent, None if prior is None else open_prior(prior, latent.device)


def measure_all(
    pictures: Sequence[Path],
    latent: LatentCodec,
    prior: LatentPrior | None,
    *,
    side: int,
    effort: int,
    rows_path: Path | None,
    report: Callable[[str], None],
) -> list[Row]:
    """The rows of the middles of these files, after those that the file `rows_path` holds already.

    rows_path: gains each row as it is measured, so that a stopped command goes on. report: called with the
    name of each picture that was measured.
    """
    rows = _read(rows_path)
    for path in pictures:
        if path.name not in rows:
            rows[path.name] = measure(latent, path.name, crop(load(path), side), effort, prior)
            if rows_path is not None:
                lines = "".join(f"{json.dumps(asdict(row))}\n" for row in rows.values())
                write_atomically(rows_path, lines.encode())
            report(path.name)
    return list(rows.values())


def _read(path: Path | None) -> dict[str, Row]:
    """The rows of a file, by picture; none where there is no file."""
    if path is None or not path.exists():
        return {}
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {
        entry["name"]: Row(**(entry | {"points": tuple(Point(**point) for point in entry["points"])}))
        for entry in entries
    }
