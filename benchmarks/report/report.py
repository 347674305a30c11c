"""A run's report, from its folder alone.

OUT/rows.jsonl ─► measured ─► summary ─┬─► summary.json, tables
                                       ├─► rd.png, rd_<metric>.png and .svg, speed.png and .svg
OUT/streams/, OUT/pictures/ ───────────┴─► report.html
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.report.page import write_page
from benchmarks.report.plot import draw, draw_metric, draw_speed
from benchmarks.report.summary import Measured, measured, summarise
from benchmarks.report.tables import markdown, tables
from benchmarks.runs.rows import ROWS, read_rows
from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidArgument

__all__ = ["report"]


def report(out: Path, console: Console, *, as_markdown: bool = False) -> dict[str, Any]:
    """Reads out/rows.jsonl, writes the report's files beside it, prints the tables, returns the summary.

    Raises InvalidArgument if there are no rows.
    """
    rows = read_rows(out / ROWS)
    if not rows:
        raise InvalidArgument(
            f"{out / ROWS} holds no rows; make some with: python -m benchmarks run FOLDER --out {out}"
        )
    data = measured(rows)
    summary = summarise(rows, data)
    write_atomically(out / "summary.json", (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    written = ["summary.json", *_plots(out, data, summary), write_page(out, rows, data, summary).name]
    if as_markdown:
        console.file.write(markdown(summary))
    else:
        console.print(tables(summary))
        console.print(", ".join(str(out / name) for name in written), highlight=False, markup=False)
    return summary


def _plots(out: Path, data: Measured, summary: dict[str, Any]) -> list[str]:
    """Draws what there is to draw; the names of the files."""
    written = []
    curves_by_metric = {metric: curves for metric, curves in data.curves.items() if curves}
    if curves_by_metric:
        count = max(curve.pictures for curves in curves_by_metric.values() for curve in curves.values())
        title = f"{'Kodak, mean' if summary['kodak'] else 'Mean'} of {count} picture{'s' * (count > 1)}"
        draw(curves_by_metric, data.published, out / "rd.png", title=title)
        written.append("rd.png")
        for metric in curves_by_metric:
            draw_metric(metric, curves_by_metric, data.published, out / f"rd_{metric}", title=title)
            written.append(f"rd_{metric}.png")
    if any(entry["speed"] for entry in summary["codecs"].values()):
        draw_speed(summary["codecs"], out / "speed")
        written.append("speed.png")
    return written
