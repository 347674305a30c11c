"""From rows to curves: the mean over all pictures at each setting, on an even scale of quality.

    rows ─► the pictures and settings that are complete ─► mean bpp, mean quality ─► Curve (quality in dB)

A mean over other pictures is another number, so a point counts only if every picture has one, and what was
left out is said in words.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from benchmarks.rows import Row

__all__ = ["AXES", "Axis", "Curve", "mean_curves", "published_curves"]

PUBLISHED = Path(__file__).parent / "data" / "kodak_published.json"
KODAK = 24


@dataclass(frozen=True)
class Axis:
    """How a metric is drawn and integrated."""

    label: str
    in_decibels: bool
    """Whether it is 1 minus a distance, drawn as -10 log10(1 - x)."""
    least_overlap: float
    """Curves that share less than this have no delta rate."""
    good_overlap: float
    """... and under this one that comes with a warning."""

    def scale(self, value: float) -> float:
        """A mean of the metric in the axis's unit; infinite if nothing was lost."""
        if not self.in_decibels:
            return value
        return -10 * math.log10(1 - value) if value < 1 else math.inf


AXES = {
    "psnr": Axis("PSNR (dB)", False, least_overlap=1, good_overlap=8),
    "ms_ssim": Axis("MS-SSIM (dB)", True, least_overlap=1, good_overlap=4),
    "ssim": Axis("SSIM (dB)", True, least_overlap=1, good_overlap=4),
    "ssimulacra2": Axis("SSIMULACRA2", False, least_overlap=5, good_overlap=20),
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
        kept = [index for index, setting in enumerate(self.settings) if low <= setting <= high]
        return replace(
            self,
            settings=tuple(self.settings[index] for index in kept),
            bpp=tuple(self.bpp[index] for index in kept),
            quality=tuple(self.quality[index] for index in kept),
        )


def mean_curves(rows: Sequence[Row], metric: str) -> tuple[dict[str, Curve], list[str]]:
    """One curve a codec, `native` first, and what was left out of them, in words."""
    axis = AXES[metric]
    by_place = {(row.codec, row.setting, row.picture): row for row in rows}
    sweeps = {codec: sorted({row.setting for row in rows if row.codec == codec}) for codec in _codecs(rows)}
    pictures, notes = _pictures(rows, metric)
    curves = {}
    for codec, settings in sweeps.items():
        points = []
        for setting in settings:
            found = [row for name in pictures if metric in (row := by_place[codec, setting, name]).metrics]
            quality = axis.scale(fmean(row.metrics[metric] for row in found)) if found else math.nan
            if len(found) < len(pictures):
                notes.append(
                    f"{metric}: {codec} {setting:g} is left out: {len(found)} of {len(pictures)} pictures"
                )
            elif not math.isfinite(quality):
                notes.append(f"{metric}: {codec} {setting:g} is left out, since it lost nothing")
            else:
                points.append((setting, fmean(row.bpp or 0 for row in found), quality))
        if points:
            curves[codec] = Curve(codec, len(pictures), *zip(*points, strict=True))
    return curves, notes


def _codecs(rows: Sequence[Row]) -> list[str]:
    return sorted({row.codec for row in rows}, key=lambda name: (name != "native", name))


def _pictures(rows: Sequence[Row], metric: str) -> tuple[list[str], list[str]]:
    """The pictures to average over: those that were tried everywhere and gave a value somewhere."""
    places = {(row.codec, row.setting) for row in rows}
    names, notes = [], []
    for name in sorted({row.picture for row in rows}):
        own = [row for row in rows if row.picture == name]
        if len({(row.codec, row.setting) for row in own}) < len(places):
            notes.append(f"{metric}: {name} is left out, since the run has not finished with it")
        elif not any(metric in row.metrics for row in own):
            notes.append(f"{metric}: {name} is left out, since no codec has a value for it")
        else:
            names.append(name)
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
