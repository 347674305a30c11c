"""What a run's rows say: mean curves, BD-rates, times; as summary.json, a plot and a table.

    rows ─► curves ─► BD-rate of every codec against every other ─► summary.json, rd.png, table
                published curves (Kodak only) ─┘

The figures of peers are those of qualities 5 to 90, where people use them; the plot shows all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.bd_rate import bd_rate
from benchmarks.curves import AXES, Curve, mean_curves, published_curves
from benchmarks.datasets import is_kodak
from benchmarks.plot import draw
from benchmarks.rows import ROWS, Row, read_rows
from latentcodec.errors import InvalidArgument

__all__ = ["report", "summarise", "tables"]

PEER_QUALITIES = (5, 90)


def report(out: Path, console: Console) -> dict[str, Any]:
    """Reads out/rows.jsonl, writes out/summary.json and out/rd.png, prints the tables, returns the summary.

    Raises InvalidArgument if there are no rows.
    """
    rows = read_rows(out / ROWS)
    if not rows:
        raise InvalidArgument(
            f"{out / ROWS} holds no rows; make some with: python -m benchmarks run FOLDER --out {out}"
        )
    measured, published, notes = _curves(rows)
    summary = summarise(rows, measured, published, notes)
    (out / "summary.json").write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    drawn = {metric: curves for metric, curves in measured.items() if curves}
    if drawn:
        count = max(curve.pictures for curves in drawn.values() for curve in curves.values())
        title = f"{'Kodak, mean' if summary['kodak'] else 'Mean'} of {count} picture{'s' * (count > 1)}"
        draw(drawn, published, out / "rd.png", title=title)
    console.print(tables(summary))
    console.print(f"{out / 'summary.json'}" + (f", {out / 'rd.png'}" if drawn else ""), highlight=False)
    return summary


def _curves(
    rows: Sequence[Row],
) -> tuple[dict[str, dict[str, Curve]], dict[str, dict[str, Curve]], list[str]]:
    """Measured and published curves, by metric and codec, and what was left out of them."""
    names = {name for row in rows for name in row.metrics}
    measured, published, notes = {}, {}, []
    kodak = is_kodak({(row.picture, row.pixels or 0) for row in rows})
    for metric in AXES:
        if metric in names:
            measured[metric], left_out = mean_curves(rows, metric)
            notes += left_out
            published[metric] = published_curves(metric) if kodak else {}
    return measured, published, notes


def summarise(
    rows: Sequence[Row],
    measured: Mapping[str, Mapping[str, Curve]],
    published: Mapping[str, Mapping[str, Curve]],
    notes: Sequence[str],
) -> dict[str, Any]:
    """All of it as data that JSON can hold. bd_rate goes test -> anchor -> metric."""
    codecs = list(dict.fromkeys(codec for curves in measured.values() for codec in curves))
    codecs += sorted({row.codec for row in rows} - set(codecs))
    anchors = codecs + list(dict.fromkeys(name for curves in published.values() for name in curves))
    return {
        "pictures": len({row.picture for row in rows}),
        "kodak": any(published.values()),
        "machines": sorted({row.machine for row in rows}),
        "codecs": {codec: _codec(codec, rows, measured) for codec in codecs},
        "bd_rate": {
            test: {
                anchor: {
                    metric: _bd(metric, {**published[metric], **curves}, anchor, test)
                    for metric, curves in measured.items()
                    if anchor in codecs or anchor in published[metric]
                }
                for anchor in anchors
                if anchor != test
            }
            for test in codecs
        },
        "left_out": list(notes),
    }


def _codec(codec: str, rows: Sequence[Row], measured: Mapping[str, Mapping[str, Curve]]) -> dict[str, Any]:
    own = [row for row in rows if row.codec == codec]
    return {
        "version": own[-1].version,
        "failures": _failures(own),
        "encode_seconds": _median([row.encode_seconds for row in own]),
        "decode_seconds": _median([row.decode_seconds for row in own]),
        "curves": {
            metric: {
                "pictures": curve.pictures,
                "setting": curve.settings,
                "bpp": curve.bpp,
                "quality": curve.quality,
                "unit": AXES[metric].label,
            }
            for metric, curves in measured.items()
            for name, curve in curves.items()
            if name == codec
        },
    }


def _failures(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What failed, the settings at which a picture failed in the same way together."""
    settings: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.error:
            settings.setdefault((row.picture, row.error), []).append(row.setting)
    return [{"picture": key[0], "settings": at, "error": key[1]} for key, at in settings.items()]


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _bd(metric: str, curves: Mapping[str, Curve], anchor: str, test: str) -> dict[str, Any]:
    """The figure with its overlap, or why there is none."""
    axis = AXES[metric]
    missing = [name for name in (anchor, test) if name not in curves]
    if missing:
        return {"error": f"there is no {axis.label} curve of {missing[0]}"}
    pair = [_in_use(curves[name]) for name in (anchor, test)]
    try:
        result = bd_rate(
            (pair[0].bpp, pair[0].quality),
            (pair[1].bpp, pair[1].quality),
            least_overlap=axis.least_overlap,
            good_overlap=axis.good_overlap,
        )
    except InvalidArgument as error:
        return {"error": str(error)}
    return {"percent": result.percent, "overlap": [result.low, result.high], "warning": result.warning}


def _in_use(curve: Curve) -> Curve:
    return curve.between(*PEER_QUALITIES) if curve.codec in {"jpeg", "webp", "avif"} else curve


def tables(summary: Mapping[str, Any]) -> RenderableType:
    """The summary for people: BD-rates of our codec (of each, if ours was not run), times, failures."""
    codecs: Mapping[str, Any] = summary["codecs"]
    parts: list[RenderableType] = []
    for test in ["native"] if "native" in codecs else codecs:
        parts.append(_bd_table(test, summary["bd_rate"][test]))
    times = _table("Seconds (median) and failures", "codec", "encode", "decode", "failures", "version")
    for codec, entry in codecs.items():
        seconds = [entry["encode_seconds"], entry["decode_seconds"]]
        cells = ["–" if value is None else f"{value:.3f}" for value in seconds]
        times.add_row(
            codec,
            *cells,
            str(sum(len(failure["settings"]) for failure in entry["failures"])),
            entry["version"],
        )
    parts.append(times)
    problems = [
        f"{codec} {', '.join(f'{setting:g}' for setting in failure['settings'])}: "
        f"{failure['picture']}: {failure['error']}"
        for codec, entry in codecs.items()
        for failure in entry["failures"]
    ]
    problems += summary["left_out"]
    parts += [Text(line, style="yellow") for line in problems[:12]]
    if len(problems) > 12:
        parts.append(Text(f"... and {len(problems) - 12} more, in summary.json", style="yellow"))
    return Group(*parts)


def _bd_table(test: str, against: Mapping[str, Any]) -> Table:
    metrics = list(dict.fromkeys(metric for entry in against.values() for metric in entry))
    title = f"BD-rate of {test} in percent (negative: fewer bytes at equal quality)"
    table = _table(title, "against", *(AXES[metric].label for metric in metrics))
    notes: list[str] = []
    for anchor, entry in against.items():
        cells = []
        for metric in metrics:
            figure = entry.get(metric, {})
            remark = figure.get("error") or figure.get("warning")
            if remark and f"* {remark}" not in notes:
                notes.append(f"* {remark}")
            cells.append(
                (f"{figure['percent']:+.1f}" if "percent" in figure else "–") + ("*" if remark else "")
            )
        table.add_row(anchor, *cells)
    table.caption = "\n".join(notes)
    return table


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, min_width=72)
    table.title_justify = table.caption_justify = "left"
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="left" if name == "version" else "right")
    return table
