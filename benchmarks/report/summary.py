"""What a run's rows say, as data that JSON can hold: mean curves, BD-rates, times, failures.

    rows ─► sweeps ─┬─► mean curves ─► BD-rate of every codec against every other, with its interval
                    ├─► one picture's curves ─► BD-rate per picture ─► worst first
                    └─► seconds a megapixel at every setting
                published curves (Kodak only) ─► anchors too, without interval: they are means alone

BD-rates with JPEG, WebP and AVIF are those of qualities 5 to 90, where people use them; the curves show all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.pictures.datasets import is_kodak
from benchmarks.report import bootstrap
from benchmarks.report.bd_rate import BdRate, bd_rate
from benchmarks.report.bootstrap import Draws
from benchmarks.report.curves import AXES, Axis, Curve, Sweep, published_curves, sweeps
from benchmarks.runs.rows import SCHEMA, Row
from latentcodec.errors import InvalidArgument

__all__ = ["Measured", "measured", "summarise"]

PEER_QUALITIES = (5, 90)
TINY = 64 * 64  # pixels: a JPEG of one colour takes a bit a pixel there
PEERS_IN_USE = {"jpeg", "mozjpeg", "webp", "avif", "avif-fast"}
ANCHORS = (
    "jpeg",
    "webp",
    "avif",
)  # the first of them that was run is the one that pictures are ranked against


@dataclass(frozen=True, eq=False)
class Measured:
    """Everything that rows hold about quality, by metric and codec."""

    sweeps: Mapping[str, Mapping[str, Sweep]]
    curves: Mapping[str, Mapping[str, Curve]]
    published: Mapping[str, Mapping[str, Curve]]
    notes: Sequence[str]
    """What was left out, in words."""


def measured(rows: Sequence[Row]) -> Measured:
    """The sweeps and mean curves of every metric in the rows that has an axis."""
    names = {name for row in rows for name in (*row.metrics, *row.undefined)}
    notes = [
        f"{name}: left out, since the report knows no such metric" for name in sorted(names - AXES.keys())
    ]
    notes += _mixtures(rows)
    kodak = is_kodak({(row.picture, row.pixels or 0) for row in rows})
    by_codec, curves, published = {}, {}, {}
    for metric in (name for name in AXES if name in names):
        by_codec[metric], left_out = sweeps(rows, metric)
        curves[metric] = {codec: sweep.mean(AXES[metric]) for codec, sweep in by_codec[metric].items()}
        published[metric] = published_curves(metric) if kodak else {}
        notes += left_out
    return Measured(by_codec, curves, published, notes)


def summarise(rows: Sequence[Row], data: Measured) -> dict[str, Any]:
    """The summary. bd_rate goes test -> anchor -> metric, per_picture metric -> test -> anchor -> picture."""
    codecs = list(dict.fromkeys(codec for curves in data.curves.values() for codec in curves))
    codecs += sorted({row.codec for row in rows} - set(codecs))
    anchors = codecs + list(dict.fromkeys(name for curves in data.published.values() for name in curves))
    pairs = {metric: _Pairs(metric, data) for metric in data.curves}
    per_picture = {metric: _per_picture(metric, by_codec) for metric, by_codec in data.sweeps.items()}
    return {
        "pictures": len({row.picture for row in rows}),
        "kodak": any(data.published.values()),
        "machines": sorted({row.machine for row in rows}),
        "jobs": _most_jobs(rows),
        "packages": sorted({row.packages for row in rows if row.packages}),
        "bootstrap": {"draws": bootstrap.DRAWS, "level": bootstrap.LEVEL, "of": "pictures"},
        "codecs": {codec: _codec(codec, rows, data.curves) for codec in codecs},
        "bd_rate": {
            test: {
                anchor: {
                    metric: pairs[metric].figure(anchor, test)
                    for metric in data.curves
                    if anchor in codecs or anchor in data.published[metric]
                }
                for anchor in anchors
                if anchor != test
            }
            for test in codecs
        },
        "per_picture": per_picture,
        "worst_first": _worst_first(per_picture, codecs),
        "left_out": list(data.notes),
    }


class _Pairs:
    """The BD-rates of one metric, every codec's draws made once."""

    def __init__(self, metric: str, data: Measured) -> None:
        self.axis = AXES[metric]
        in_use = {codec: _in_use(sweep) for codec, sweep in data.sweeps[metric].items()}
        self.curves = {
            **data.published[metric],
            **{codec: sweep.mean(self.axis) for codec, sweep in in_use.items()},
        }
        self.draws: dict[str, Draws | None] = {
            codec: bootstrap.draw(sweep, self.axis) for codec, sweep in in_use.items()
        }

    def figure(self, anchor: str, test: str) -> dict[str, Any]:
        """The figure with its overlap and interval, or why there is none."""
        missing = [name for name in (anchor, test) if name not in self.curves]
        if missing:
            return {"error": f"there is no {self.axis.label} curve of {missing[0]}"}
        try:
            result = _bd(self.curves[anchor], self.curves[test], self.axis)
        except InvalidArgument as error:
            return {"error": str(error)}
        draws = self.draws.get(anchor), self.draws.get(test)
        interval = None
        if draws[0] and draws[1]:
            interval = bootstrap.interval(draws[0], draws[1], least_overlap=self.axis.least_overlap)
        return {
            "percent": result.percent,
            "interval": interval,
            "overlap": [result.low, result.high],
            "warning": result.warning,
        }


def _bd(anchor: Curve, test: Curve, axis: Axis) -> BdRate:
    return bd_rate(
        (anchor.bpp, anchor.quality),
        (test.bpp, test.quality),
        least_overlap=axis.least_overlap,
        good_overlap=axis.good_overlap,
    )


def _in_use(sweep: Sweep) -> Sweep:
    return sweep.between(*PEER_QUALITIES) if sweep.codec in PEERS_IN_USE else sweep


def _per_picture(metric: str, by_codec: Mapping[str, Sweep]) -> dict[str, dict[str, dict[str, float | None]]]:
    """test -> anchor -> picture -> percent; None where the picture's two curves share too little."""
    axis = AXES[metric]
    curves = {
        codec: [_in_use(sweep).of_picture(index, axis) for index in range(len(sweep.pictures))]
        for codec, sweep in by_codec.items()
    }
    result: dict[str, dict[str, dict[str, float | None]]] = {codec: {} for codec in by_codec}
    for number, anchor in enumerate(by_codec):
        for test in list(by_codec)[number + 1 :]:
            there, back = {}, {}
            for name, first, second in zip(
                by_codec[test].pictures, curves[anchor], curves[test], strict=True
            ):
                percent = _percent(first, second, axis)
                there[name] = percent
                back[name] = None if percent is None else 100 * (1 / (1 + percent / 100) - 1)
            result[test][anchor], result[anchor][test] = there, back
    return result


def _percent(anchor: Curve, test: Curve, axis: Axis) -> float | None:
    try:
        return _bd(anchor, test, axis).percent
    except InvalidArgument:
        return None


def _worst_first(
    per_picture: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float | None]]]], codecs: Sequence[str]
) -> dict[str, Any] | None:
    """The pictures on which the first codec does worst against a common one; None where nothing compares."""
    anchors = [name for name in ANCHORS if name in codecs[1:]] + list(codecs[1:])
    for metric, tests in per_picture.items():
        for anchor in anchors:
            percents = tests.get(codecs[0], {}).get(anchor, {})
            known = [(name, percent) for name, percent in percents.items() if percent is not None]
            if known:
                known.sort(key=lambda item: -item[1])
                return {
                    "metric": metric,
                    "test": codecs[0],
                    "anchor": anchor,
                    "pictures": [{"picture": name, "percent": percent} for name, percent in known],
                }
    return None


def _codec(codec: str, rows: Sequence[Row], curves: Mapping[str, Mapping[str, Curve]]) -> dict[str, Any]:
    own = [row for row in rows if row.codec == codec]
    return {
        "version": own[-1].version,
        "failures": _failures(own),
        "encode_seconds": _median(row.encode_seconds for row in own),
        "decode_seconds": _median(row.decode_seconds for row in own),
        "peak_memory": _median(row.peak_memory for row in own),
        "speed": _speed(own),
        "curves": {
            metric: {
                "pictures": curve.pictures,
                "setting": curve.settings,
                "bpp": curve.bpp,
                "quality": curve.quality,
                "unit": AXES[metric].label,
            }
            for metric, by_codec in curves.items()
            for name, curve in by_codec.items()
            if name == codec
        },
    }


def _speed(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """At every setting, medians over the pictures: bits a pixel, seconds a megapixel."""
    points = []
    for setting in sorted({row.setting for row in rows}):
        own = [row for row in rows if row.setting == setting and row.pixels and not row.error]
        point = {
            "setting": setting,
            "bpp": _median(row.bpp for row in own),
            "encode": _median(_per_megapixel(row, lambda measured: measured.encode_seconds) for row in own),
            "decode": _median(_per_megapixel(row, lambda measured: measured.decode_seconds) for row in own),
        }
        if None not in point.values():
            points.append(point)
    return points


def _per_megapixel(row: Row, seconds: Callable[[Row], float | None]) -> float | None:
    spent = seconds(row)
    return None if spent is None or not row.pixels else 1e6 * spent / row.pixels


def _failures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What failed, the settings at which a picture failed in the same way together."""
    settings: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.error:
            settings.setdefault((row.picture, row.error), []).append(row.setting)
    return [{"picture": key[0], "settings": at, "error": key[1]} for key, at in settings.items()]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _most_jobs(rows: Sequence[Row]) -> int:
    return max((row.jobs or 1 for row in rows), default=1)


def _mixtures(rows: Sequence[Row]) -> list[str]:
    """Rows in one file that should not be averaged or compared without a word."""
    notes = []
    for codec in sorted({row.codec for row in rows}):
        versions = sorted({row.version for row in rows if row.codec == codec})
        if len(versions) > 1:
            notes.append(f"{codec}: rows of {len(versions)} versions are averaged: {'; '.join(versions)}")
    packages = {row.packages for row in rows if row.packages}
    if len(packages) > 1:
        notes.append(
            f"rows were measured with {len(packages)} sets of package versions: {'; '.join(sorted(packages))}"
        )
    old = sum(row.schema < SCHEMA for row in rows)
    if old:
        notes.append(f"{old} rows are of an older schema, without coded files, memory and package versions")
    sides = {row.picture: (row.width, row.height) for row in rows if row.width and row.height}
    tiny = sorted(f"{name} ({w}x{h})" for name, (w, h) in sides.items() if w * h < TINY)
    if tiny:
        notes.append(
            "means weigh every picture's bits per pixel alike, and those of a tiny one are mostly header: "
            f"{', '.join(tiny)}"
        )
    machines = {row.machine for row in rows}
    if len(machines) > 1:
        notes.append(f"times come from {len(machines)} machines and do not compare")
    jobs = _most_jobs(rows)
    if jobs > 1:
        notes.append(f"times were taken while up to {jobs} processes measured: read them as upper bounds")
    return notes
