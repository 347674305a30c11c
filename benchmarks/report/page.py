"""The report as one HTML file that needs nothing else: no network, no folder beside it.

    summary, curves, viewer's pictures ─► JSON without "<" ─┐
    page_template/: index.html, style.css, *.js ────────────┴─► OUT/report.html

What comes from rows (picture names, errors, versions) reaches the page as JSON alone and is shown as text,
never as HTML; the page's content security policy forbids it to fetch anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report.curves import AXES
from benchmarks.report.plot import LABELS, colours_of
from benchmarks.report.summary import Measured
from benchmarks.report.viewer import Gallery, show
from benchmarks.runs.rows import RUN, Row
from latentcodec.atomic import write_atomically

__all__ = ["PAGE", "write_page"]

PAGE = "report.html"
TEMPLATE = Path(__file__).parent / "page_template"
SCRIPTS = ("elements.js", "chart.js", "tables.js", "viewer.js", "main.js")


def write_page(out: Path, rows: Sequence[Row], data: Measured, summary: Mapping[str, Any]) -> Path:
    """Writes out/report.html and returns its path."""
    gallery = show(out, rows, _order(rows, summary))
    page = (TEMPLATE / "index.html").read_text(encoding="utf-8")
    parts = {
        "/*STYLE*/": (TEMPLATE / "style.css").read_text(encoding="utf-8"),
        "/*SCRIPT*/": "\n".join((TEMPLATE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "/*DATA*/": _json(_page_data(out, rows, data, summary, gallery)),
    }
    for mark, part in parts.items():
        head, tail = page.split(mark)
        page = head + part + tail
    write_atomically(out / PAGE, page.encode())
    return out / PAGE


def _page_data(
    out: Path, rows: Sequence[Row], data: Measured, summary: Mapping[str, Any], gallery: Gallery
) -> dict[str, Any]:
    published = list(dict.fromkeys(name for curves in data.published.values() for name in curves))
    names = [*summary["codecs"], *published]
    colours = colours_of(names)
    sizes = {row.picture: (row.width, row.height, row.pixels) for row in rows if row.pixels}
    return {
        "summary": summary,
        "metrics": {metric: AXES[metric].label for metric in data.curves},
        "labels": {name: LABELS.get(name, name) for name in names},
        "colours": {name: colours[name] for name in names},
        "published": {
            metric: {name: asdict(curve) for name, curve in curves.items()}
            for metric, curves in data.published.items()
        },
        "sizes": sizes,
        "run": _run(out),
        "viewer": {"pictures": gallery.pictures, "notes": gallery.notes},
    }


def _order(rows: Sequence[Row], summary: Mapping[str, Any]) -> list[str]:
    """The pictures in the order in which they get room: worst, best, next worst ...; then the rest."""
    ranking = summary["worst_first"]
    ranked = [entry["picture"] for entry in ranking["pictures"]] if ranking else []
    order = []
    while ranked:
        order.append(ranked.pop(0))
        ranked.reverse()
    return list(dict.fromkeys([*order, *sorted({row.picture for row in rows})]))


def _run(out: Path) -> dict[str, Any]:
    """What run.json says about the run; nothing if it is not there or not JSON."""
    try:
        about = json.loads((out / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def _json(data: Any) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(_finite(data), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _finite(data: Any) -> Any:
    """JSON has no infinity: null instead."""
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
