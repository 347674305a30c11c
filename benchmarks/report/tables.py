"""The summary as tables, for a terminal and as Markdown.

summary ─► rows of cells ─┬─► rich tables
                          └─► Markdown
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.report.curves import AXES

__all__ = ["NONE", "Grid", "markdown", "tables", "to_rich"]

MOST_PROBLEMS = 12
MOST_PICTURES = 5
MOST_COLUMNS = 6
NONE = "–"


@dataclass(frozen=True)
class Grid:
    """A table before it has a form."""

    title: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()


def tables(summary: Mapping[str, Any]) -> RenderableType:
    """The summary for people: BD-rates of our codec (of each without ours), times, what went wrong."""
    tests = ["native"] if "native" in summary["codecs"] else list(summary["codecs"])
    grids = [_bd_rates(test, summary) for test in tests]
    grids += [_pictures(summary, MOST_PICTURES), _times(summary)]
    parts: list[RenderableType] = [to_rich(grid) for grid in grids if grid.rows]
    problems = _problems(summary)
    parts += [Text(line, style="yellow") for line in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        parts.append(Text(f"... and {len(problems) - MOST_PROBLEMS} more, in summary.json", style="yellow"))
    return Group(*parts)


def markdown(summary: Mapping[str, Any]) -> str:
    """All tables as Markdown: BD-rates of every codec, pictures worst first, times, what went wrong."""
    grids = [_bd_rates(test, summary) for test in summary["codecs"]]
    grids += [_pictures(summary, None), _times(summary)]
    parts = []
    for grid in grids:
        if grid.rows:
            lines = [f"### {_escaped(grid.title)}", "", _line(grid.columns)]
            lines += ["|---" + "|---:" * (len(grid.columns) - 1) + "|", *(_line(row) for row in grid.rows)]
            lines += ["", *(f"{_escaped(note)}  " for note in grid.notes)] if grid.notes else []
            parts.append("\n".join(lines))
    problems = _problems(summary)
    if problems:
        parts.append(
            "\n".join(["### Left out and failed", "", *(f"- {_escaped(line)}" for line in problems)])
        )
    return "\n\n".join(parts) + "\n"


def _bd_rates(test: str, summary: Mapping[str, Any]) -> Grid:
    against = summary["bd_rate"][test]
    metrics = list(dict.fromkeys(metric for entry in against.values() for metric in entry))
    notes: list[str] = []
    rows = []
    intervals = without = False
    for anchor, entry in against.items():
        cells = [anchor]
        for metric in metrics:
            figure = entry.get(metric, {})
            remark = figure.get("error") or figure.get("warning")
            if remark and f"* {remark}" not in notes:
                notes.append(f"* {remark}")
            cells.append(_figure(figure) + ("*" if remark else ""))
            intervals |= bool(figure.get("interval"))
            without |= figure.get("interval", ()) is None and anchor in summary["codecs"]
        rows.append(cells)
    title = f"BD-rate of {test} in percent (negative: fewer bytes at equal quality)"
    how = summary["bootstrap"]
    if intervals:
        notes.insert(0, f"in brackets: {how['level']:.0%} of {how['draws']} bootstrap draws of the pictures")
        if without:
            notes.insert(
                1, "no brackets beside a measured codec: in too many draws its curve shares too little"
            )
    elif summary["pictures"] == 1:
        notes.insert(0, "one picture: no bootstrap interval")
    return Grid(title, ("against", *(AXES[metric].label for metric in metrics)), rows, tuple(notes))


def _figure(figure: Mapping[str, Any]) -> str:
    if "percent" not in figure:
        return NONE
    interval = figure["interval"]
    return f"{figure['percent']:+.1f}" + (f" [{interval[0]:+.1f}, {interval[1]:+.1f}]" if interval else "")


def _pictures(summary: Mapping[str, Any], most: int | None) -> Grid:
    ranking = summary["worst_first"]
    if ranking is None or len(ranking["pictures"]) < 2:
        return Grid("", (), [])
    label = AXES[ranking["metric"]].label
    title = f"Pictures, worst first: BD-rate of {ranking['test']} against {ranking['anchor']} in percent"
    rows = [[entry["picture"], f"{entry['percent']:+.1f}"] for entry in ranking["pictures"]]
    notes = (f"... and {len(rows) - most} more, in summary.json",) if most and len(rows) > most else ()
    return Grid(title, ("picture", label), rows[:most], notes)


def _times(summary: Mapping[str, Any]) -> Grid:
    rows = []
    for codec, entry in summary["codecs"].items():
        seconds = [entry["encode_seconds"], entry["decode_seconds"]]
        failures = sum(len(failure["settings"]) for failure in entry["failures"])
        cells = [NONE if value is None else f"{value:.3f}" for value in seconds]
        rows.append([codec, *cells, str(failures), entry["version"]])
    columns = ("codec", "encode", "decode", "failures", "version")
    return Grid("Seconds (median) and failures", columns, rows, tuple(summary["machines"]))


def _problems(summary: Mapping[str, Any]) -> list[str]:
    """Failures, those of a picture that cannot be loaded once for all codecs, and what was left out."""
    failed = []
    for codec, entry in summary["codecs"].items():
        for failure in entry["failures"]:
            settings = ", ".join(f"{setting:g}" for setting in failure["settings"])
            place = "" if failure["error"].startswith("load: ") else f"{codec} {settings}: "
            failed.append(f"{place}{failure['picture']}: {failure['error']}")
    return [*dict.fromkeys(failed), *summary["left_out"]]


def to_rich(grid: Grid) -> Table:
    """The grid for a terminal."""
    table = Table(title=Text(grid.title), box=box.SIMPLE_HEAD, min_width=72)
    table.title_justify = table.caption_justify = "left"
    table.add_column(Text(grid.columns[0]), no_wrap=True)
    for name in grid.columns[1:]:
        table.add_column(Text(name), justify="left" if name == "version" else "right")
    many = len(grid.columns) > MOST_COLUMNS  # then a figure's interval goes below it
    for row in grid.rows:
        figures = (cell.replace(" [", "\n[") if many else cell for cell in row[1:])
        table.add_row(*(Text(cell) for cell in (row[0], *figures)))  # Text: a name in brackets is no markup
    table.caption = Text("\n".join(grid.notes))
    return table


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Names and messages come from files: nothing in them is Markdown."""
    for mark in "\\`*_|<>#[]":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
