"""From rows to curves: the mean over all pictures at each setting, on an even scale of quality.

    rows ─► the pictures and settings that are complete ─► Sweep: bpp and metric, (picture, setting)
                                                             ├─► mean over pictures ─► Curve (quality in dB)
                                                             └─► one picture        ─► Curve

A mean over other pictures is another number, so a point counts only if every picture has one, and what was
left out is said in words. A picture that our codec keeps without loss has no curve: benchmarks.equal_quality.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.pictures.arrays import Floats
from benchmarks.runs.rows import Row

__all__ = [
    "AXES",
    "OURS",
    "Axis",
    "Curve",
    "Sweep",
    "lost_nothing",
    "mean_curves",
    "published_curves",
    "sweeps",
]

PUBLISHED = Path(__file__).parent / "data" / "kodak_published.json"
KODAK = 24
OURS = "native"


@dataclass(frozen=True)
class Axis:
    """How a metric is drawn and integrated: up is better, in a unit in which curves are nearly straight."""

    label: str
    kind: Literal["as it is", "similarity", "distance"]
    """A similarity s of at most 1 is drawn as -10 log10(1 - s), a distance d as -10 log10(d)."""
    least_overlap: float
    """Curves that share less than this have no delta rate."""
    good_overlap: float
    """... and under this one that comes with a warning."""

    def scale(self, value: float) -> float:
        """A mean of the metric in the axis's unit; infinite if nothing was lost."""
        return float(self.scale_all(np.float64(value)))

    def scale_all(self, values: Floats | np.float64) -> Floats:
        """The same of an array."""
        if self.kind == "as it is":
            return np.asarray(values, np.float64)
        distance = np.maximum(1 - values if self.kind == "similarity" else values, 0)
        with np.errstate(divide="ignore"):
            return np.asarray(-10 * np.log10(distance), np.float64)


AXES = {
    "psnr": Axis("PSNR (dB)", "as it is", least_overlap=1, good_overlap=8),
    "psnr_y": Axis("PSNR of luma (dB)", "as it is", least_overlap=1, good_overlap=8),
    "ms_ssim": Axis("MS-SSIM (dB)", "similarity", least_overlap=1, good_overlap=4),
    "ssim": Axis("SSIM (dB)", "similarity", least_overlap=1, good_overlap=4),
    "ssimulacra2": Axis("SSIMULACRA2", "as it is", least_overlap=5, good_overlap=20),
    "mse": Axis("MSE (dB)", "distance", least_overlap=1, good_overlap=8),
    "butteraugli": Axis("Butteraugli (dB)", "distance", least_overlap=1, good_overlap=3),
    "flip": Axis("FLIP (dB)", "distance", least_overlap=1, good_overlap=3),
    "lpips": Axis("LPIPS (dB)", "distance", least_overlap=1, good_overlap=3),
    "dists": Axis("DISTS (dB)", "distance", least_overlap=1, good_overlap=3),
    "features": Axis("Feature distance (dB)", "distance", least_overlap=1, good_overlap=3),
}


@dataclass(frozen=True)
class Curve:
    """A codec's points, in ascending setting: means over so many pictures. quality is in the axis's unit."""

    codec: str
    pictures: int
    settings: tuple[float, ...]
    bpp: tuple[float, ...]
    quality: tuple[float, ...]

    def between(self, low: float, high: float) -> Curve:
        """The points whose setting lies in [low, high]."""
        inside = [index for index, setting in enumerate(self.settings) if low <= setting <= high]
        return replace(
            self,
            settings=tuple(self.settings[index] for index in inside),
            bpp=tuple(self.bpp[index] for index in inside),
            quality=tuple(self.quality[index] for index in inside),
        )


@dataclass(frozen=True, eq=False)
class Sweep:
    """A codec's points before the mean: bpp and the metric's own values, both (pictures, settings)."""

    codec: str
    pictures: tuple[str, ...]
    settings: tuple[float, ...]
    bpp: Floats
    values: Floats

    def between(self, low: float, high: float) -> Sweep:
        """The points whose setting lies in [low, high]."""
        inside = [index for index, setting in enumerate(self.settings) if low <= setting <= high]
        settings = tuple(self.settings[index] for index in inside)
        return replace(self, settings=settings, bpp=self.bpp[:, inside], values=self.values[:, inside])

    def mean(self, axis: Axis) -> Curve:
        """The means over all pictures; a decibel is one of the mean, not a mean of decibels."""
        return self._curve(
            self.bpp.mean(axis=0), axis.scale_all(self.values.mean(axis=0)), len(self.pictures)
        )

    def of_picture(self, index: int, axis: Axis) -> Curve:
        """One picture's own curve, without the points at which nothing was lost."""
        return self._curve(self.bpp[index], axis.scale_all(self.values[index]), 1)

    def _curve(self, bpp: Floats, quality: Floats, pictures: int) -> Curve:
        points = zip(self.settings, bpp.tolist(), quality.tolist(), strict=True)
        finite = [point for point in points if math.isfinite(point[2])]
        settings, rates, qualities = zip(*finite, strict=True) if finite else ((), (), ())
        return Curve(self.codec, pictures, settings, rates, qualities)


def lost_nothing(row: Row) -> bool:
    """Whether the same picture came back, as far as its metrics show."""
    best = {"psnr": math.inf, "ssimulacra2": 100.0, "ms_ssim": 1.0}
    return any(row.metrics.get(name, -math.inf) >= value for name, value in best.items())


def mean_curves(rows: Sequence[Row], metric: str) -> tuple[dict[str, Curve], list[str]]:
    """One curve a codec, `native` first, and what was left out of them, in words."""
    by_codec, notes = sweeps(rows, metric)
    return {codec: sweep.mean(AXES[metric]) for codec, sweep in by_codec.items()}, notes


def sweeps(rows: Sequence[Row], metric: str) -> tuple[dict[str, Sweep], list[str]]:
    """One sweep a codec, `native` first, all over the same pictures, and what was left out, in words."""
    axis = AXES[metric]
    by_place = {(row.codec, row.setting, row.picture): row for row in rows}
    pictures, notes = _pictures(rows, metric)
    by_codec = {}
    for codec in sorted({row.codec for row in rows}, key=lambda name: (name != "native", name)):
        columns = []
        for setting in sorted({row.setting for row in rows if row.codec == codec}):
            column = [row for name in pictures if metric in (row := by_place[codec, setting, name]).metrics]
            values = [row.metrics[metric] for row in column]
            if len(column) < len(pictures):
                notes.append(
                    f"{metric}: {codec} {setting:g} is left out: {len(column)} of {len(pictures)} pictures"
                )
            elif column and not math.isfinite(axis.scale(float(np.mean(values)))):
                best = sum(math.isinf(axis.scale(value)) for value in values)
                notes.append(
                    f"{metric}: {codec} {setting:g} is left out, since it lost nothing"
                    + (f" on {best} of {len(values)} pictures" if len(values) > 1 else "")
                )
            elif column:
                columns.append((setting, [row.bpp or 0 for row in column], values))
        if columns:
            settings, bpp, quality = zip(*columns, strict=True)
            by_codec[codec] = Sweep(
                codec, tuple(pictures), settings, np.array(bpp, np.float64).T, np.array(quality, np.float64).T
            )
    return by_codec, notes


def _pictures(rows: Sequence[Row], metric: str) -> tuple[list[str], list[str]]:
    """The pictures to average over: those that were tried everywhere and gave a value somewhere."""
    places = {(row.codec, row.setting) for row in rows}
    names, notes = [], []
    by_picture: dict[str, list[Row]] = {}
    for row in rows:
        by_picture.setdefault(row.picture, []).append(row)
    for name, own in sorted(by_picture.items()):
        reasons = {row.undefined[metric] for row in own if metric in row.undefined}
        if len({(row.codec, row.setting) for row in own}) < len(places):
            notes.append(f"{metric}: {name} is left out, since the run has not finished with it")
        elif lossless := sorted(
            {row.codec for row in own if row.codec.startswith(OURS) and lost_nothing(row)}
        ):
            notes.append(
                f"{metric}: {name} is left out, since {' and '.join(lossless)} keeps it without loss"
            )
        elif any(metric in row.metrics for row in own):
            names.append(name)
        elif reasons:
            notes.append(f"{metric}: {name} is left out, since it is not defined there: {min(reasons)}")
        else:
            notes.append(f"{metric}: {name} is left out, since no codec has a value for it")
    return names, notes


def published_curves(metric: str) -> dict[str, Curve]:
    """Published means over the 24 Kodak pictures, by the name to be shown; empty for most metrics."""
    axis = AXES[metric]
    return {
        label: Curve(
            label,
            KODAK,
            tuple(range(len(entry["bpp"]))),
            tuple(entry["bpp"]),
            tuple(axis.scale(value) for value in entry[metric]),
        )
        for label, entry in json.loads(PUBLISHED.read_text(encoding="utf-8"))["curves"].items()
        if metric in entry
    }
