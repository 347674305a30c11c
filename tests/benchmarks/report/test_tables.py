"""report.tables: the same figures in a terminal and as Markdown, and names that stay names."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.report.summary import measured, summarise
from benchmarks.report.tables import markdown, tables
from benchmarks.runs.rows import Row, read_rows
from tests.benchmarks.report.test_summary import curve

DATA = Path(__file__).parent / "data"


def summary_of(rows: list[Row]) -> dict[str, Any]:
    return summarise(rows, measured(rows))


def printed(summary: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(tables(summary))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def cells(text: str, title: str) -> dict[str, list[str]]:
    """The rows of the Markdown table under a heading, by their first cell; every row as wide as its head."""
    lines = text.split(f"### {title}")[1].split("\n### ")[0].splitlines()
    table = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if line[:1] == "|"
    ]
    assert {len(row) for row in table} == {len(table[0])}
    assert set(table[1][1:]) == {"---:"}
    return {row[0]: row[1:] for row in table[2:]}


def test_markdown_of_a_real_result() -> None:
    summary = summary_of(read_rows(DATA / "rows_schema_1.jsonl"))
    text = markdown(summary)
    rates = cells(text, "BD-rate of native in percent")
    assert list(rates) == ["jpeg", "webp"]
    figure = summary["bd_rate"]["native"]["jpeg"]["psnr"]
    low, high = figure["interval"]
    assert rates["jpeg"][0] == rf"{figure['percent']:+.1f} \[{low:+.1f}, {high:+.1f}\]"
    assert list(cells(text, "BD-rate of webp in percent")) == ["native", "jpeg"]
    worst = cells(text, "Pictures, worst first: BD-rate of native against jpeg")
    percents = [float(row[0]) for row in worst.values()]
    assert len(percents) == 3
    assert percents == sorted(percents, reverse=True)
    seconds = cells(text, "Seconds (median) and failures")
    assert seconds["jpeg"][2:] == [
        "0",
        r"Pillow 13.0.0, libjpeg\_turbo 3.2.0, optimize=True progressive=True",
    ]
    assert "### Left out and failed\n\n- " in text
    assert "in brackets: 95% of 1000 bootstrap draws" in text
    assert f"{figure['percent']:+.1f} [{low:+.1f}, {high:+.1f}]" in printed(summary)


def test_names_and_errors_are_no_markup() -> None:
    name = "a|b`[red]x[/red]<i>#*_.png"
    rows = [row for each in (name, "c.png") for codec in ("native", "jpeg") for row in curve(each, codec, 1)]
    failed = replace(rows[0], codec="webp", error="encode: OSError: [bold]|\nnext", metrics={})
    summary = summary_of([*rows, failed, replace(failed, picture="c.png")])
    text = markdown(summary)
    assert r"| a\|b\`\[red\]x\[/red\]\<i\>\#\*\_.png |" in text
    assert r"encode: OSError: \[bold\]\| next" in text
    assert name in printed(summary)
    assert "OSError: [bold]|" in printed(summary)


def test_a_figure_without_an_interval_is_explained() -> None:
    rows = [row for name in "abc" for row in curve(name, "jpeg", 1) + curve(name, "webp", 0.9)]
    rows += [
        row
        for name, shift in (("a", 0), ("b", 30), ("c", 0))
        for row in curve(name, "native", 0.8, shift=shift)
    ]
    text = markdown(summary_of(rows))
    assert "no brackets beside a measured codec" in text.split("### BD-rate of jpeg")[1].split("###")[0]
    one = markdown(summary_of(curve("a", "native", 0.5) + curve("a", "jpeg", 1)))
    assert "one picture: no bootstrap interval" in one
    assert "Pictures, worst first" not in one


def test_nothing_measured_is_no_table_of_rates() -> None:
    row = Row("a.png", "0", "jpeg", "1", 5, "here", error="load: OSError: no")
    text = markdown(summary_of([row]))
    assert "BD-rate" not in text
    assert cells(text, "Seconds (median) and failures") == {"jpeg": ["–", "–", "1", "1"]}
    assert "- a.png: load: OSError: no" in text
