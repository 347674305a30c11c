"""runs.rows: what a file of rows brings back, and which lines are refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from benchmarks.runs.rows import ROWS, SCHEMA, Row, read_rows, write_rows
from latentcodec.errors import InvalidArgument


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [
        Row("é.png", "0", "jpeg", "v", 50, "here", 12, 34, 22.7, {"psnr": math.inf, "ssim": 0.5}, 0.1, 0.2),
        Row("b.png", "0", "native", "v", 0.25, "here", error="encode: X: y"),
    ]
    write_rows(tmp_path / ROWS, rows)
    assert read_rows(tmp_path / ROWS) == rows
    assert "Infinity" not in (tmp_path / ROWS).read_text()
    assert json.loads((tmp_path / ROWS).read_text().splitlines()[0])["schema"] == SCHEMA
    assert [path.name for path in tmp_path.iterdir()] == [ROWS]


@pytest.mark.parametrize(
    "line", ["{", "[]", "{}", '{"metrics": {}, "colour": 1}', '{"metrics": {"psnr": "x"}}']
)
def test_a_line_that_is_no_row(tmp_path: Path, line: str) -> None:
    good = Row("a.png", "0", "jpeg", "v", 50, "here").to_json()
    (tmp_path / ROWS).write_text(f"{good}\n{line}\n")
    with pytest.raises(InvalidArgument, match=r"rows\.jsonl, line 2: not a row"):
        read_rows(tmp_path / ROWS)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    newer = {**json.loads(Row("a.png", "0", "jpeg", "v", 50, "here").to_json()), "schema": 3, "colour": 1}
    (tmp_path / ROWS).write_text(json.dumps(newer) + "\n")
    with pytest.raises(InvalidArgument, match=r"line 1: schema 3, and this version reads up to 2"):
        read_rows(tmp_path / ROWS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bpp": "0.5"}, "bpp is '0.5', and must be int or float or null"),
        ({"bpp": math.nan}, "bpp is nan, out of its range"),
        ({"pixels": -1}, "pixels is -1, out of its range"),
        ({"bytes": True}, "bytes is True, and must be int or null"),
        ({"setting": None}, "setting is None"),
        ({"picture": 5}, "picture is 5, and must be str"),
        ({"metrics": {"psnr": math.nan}}, "a metric is not a number"),
        ({"bpp": 0}, "metrics without bytes, bpp and pixels above 0"),
        ({"undefined": {"ssim": 1}}, "undefined holds reasons"),
        ({"schema": "2"}, "schema is '2'"),
    ],
)
def test_a_value_of_another_kind(tmp_path: Path, change: dict[str, object], message: str) -> None:
    row = Row("a.png", "0", "jpeg", "v", 50, "here", 100, 50, 4.0, {"psnr": 30.0})
    line = json.dumps({**json.loads(row.to_json()), **change})
    (tmp_path / ROWS).write_text(f"{line}\n")
    with pytest.raises(InvalidArgument, match=f"line 1: not a row: .*{re.escape(message)}"):
        read_rows(tmp_path / ROWS)


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    assert read_rows(tmp_path / ROWS) == []
