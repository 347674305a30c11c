"""report.page and viewer: what is on the page, and what is left out of it and named."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.report import viewer
from benchmarks.report.report import report
from benchmarks.report.viewer import pick_sizes, show
from benchmarks.runs.rows import ROWS, STREAMS, Row, write_rows
from tests.benchmarks.report.results import make_results

HOSTILE = "</script><img src=x onerror=alert(1)>.png"


def page_of(out: Path) -> tuple[str, dict[str, Any]]:
    report(out, Console(file=io.StringIO()))
    page = (out / "report.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return page, json.loads(found[1])


@pytest.mark.slow
def test_a_page_with_pictures(tmp_path: Path) -> None:
    make_results(tmp_path, [HOSTILE, "b.png"])
    page, data = page_of(tmp_path)
    assert HOSTILE not in page  # names are JSON without "<", and so cannot end the element
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    viewer = data["viewer"]
    assert {picture["name"] for picture in viewer["pictures"]} == {HOSTILE, "b.png"}
    picture = viewer["pictures"][0]
    assert picture["address"].startswith("data:image/webp;base64,")
    kinds = {image["codec"]: image["address"][:16] for image in picture["images"].values()}
    assert kinds == {"jpeg": "data:image/jpeg;", "webp": "data:image/webp;", "jpeg2000": "data:image/webp;"}
    for codec, keys in picture["shown"].items():
        for size, key in zip(picture["sizes"], keys, strict=True):
            own = [image["bytes"] for image in picture["images"].values() if image["codec"] == codec]
            under = [each for each in own if each <= size]
            assert picture["images"][key]["bytes"] == (max(under) if under else min(own))
    assert any("not defined there" in note for note in data["summary"]["left_out"])


@pytest.mark.usefixtures("unrendered")
def test_results_without_files_say_so(tmp_path: Path) -> None:
    rows = make_results(tmp_path, ["a.png"])
    write_rows(tmp_path / ROWS, [replace(row, stream=None) for row in rows])
    _, data = page_of(tmp_path)
    assert data["viewer"]["pictures"] == []
    assert "hold no coded files" in data["viewer"]["notes"][0]


@pytest.mark.usefixtures("unrendered")
def test_what_is_gone_damaged_or_elsewhere_is_named(tmp_path: Path) -> None:
    rows = make_results(tmp_path, ["a.png", "b.png"])
    (tmp_path / "pictures" / f"{1:016}.png").unlink()
    smallest = [row for row in rows if row.picture == "a.png" and row.codec == "jpeg"]
    (tmp_path / STREAMS / str(smallest[0].stream)).unlink()
    for row in smallest[1:]:
        (tmp_path / STREAMS / str(row.stream)).write_bytes(b"\xff\xd8\xff" + bytes(50))
    outside = [replace(row, stream="../rows.jsonl") if row.codec == "webp" else row for row in rows]
    shown = show(tmp_path, outside, ["a.png", "b.png"])
    text = "\n".join(shown.notes)
    assert "No such file" in text
    assert "the row says" in text
    assert "'../rows.jsonl' is no file name" in text
    assert "b.png cannot be shown" in text
    assert {image["codec"] for image in shown.pictures[0]["images"].values()} == {"jpeg2000"}
    assert str(tmp_path) not in text


@pytest.mark.usefixtures("unrendered")
def test_another_picture_in_a_stream_is_not_shown(tmp_path: Path) -> None:
    rows = make_results(tmp_path, ["a.png"])
    wrong = [replace(row, metrics={**row.metrics, "psnr": row.metrics["psnr"] + 1}) for row in rows]
    shown = show(tmp_path, wrong, ["a.png"])
    assert shown.pictures[0]["images"] == {}
    assert "the row says" in shown.notes[0]


@pytest.mark.usefixtures("unrendered")
def test_the_page_stays_within_its_bound(tmp_path: Path) -> None:
    rows = make_results(tmp_path, ["a.png", "b.png", "c.png"])
    whole = show(tmp_path, rows, ["a.png", "b.png", "c.png"])
    length = sum(len(json.dumps(picture)) for picture in whole.pictures)
    budget = length // 2
    some = show(tmp_path, rows, ["a.png", "b.png", "c.png"], budget=budget)
    assert 0 < len(some.pictures) < 3
    assert sum(len(json.dumps(picture)) for picture in some.pictures) < budget + 10_000
    assert "Not shown: " in some.notes[-1]


def test_sizes_lie_where_files_are_close() -> None:
    sizes = {"a": [900, 1000, 4000], "b": [600, 990, 5000]}
    assert pick_sizes(sizes, 80_000) == [1000, 5000]  # near 0.1 and 0.4 bits a pixel
    assert pick_sizes({}, 80_000) == []


@pytest.mark.parametrize("error", [None, "load: OSError: no"])
@pytest.mark.usefixtures("unrendered")
def test_rows_with_nothing_in_them(tmp_path: Path, error: str | None) -> None:
    write_rows(tmp_path / ROWS, [Row("a.png", "0", "jpeg", "1", 5, "here", error=error)])
    _, data = page_of(tmp_path)
    assert data["summary"]["codecs"]["jpeg"]["curves"] == {}


@pytest.mark.slow
@pytest.mark.usefixtures("unrendered")
def test_many_pictures_stay_within_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make_results(tmp_path, ["0.png"])
    names = [f"{number}.png" for number in range(100)]
    many = [replace(row, picture=name) for name in names for row in rows]
    looked_at = Counter[str]()
    look = viewer._picture

    def counted(out: Path, own: Sequence[Row], *rest: Any) -> Any:
        looked_at[own[0].picture] += 1
        return look(out, own, *rest)

    monkeypatch.setattr(viewer, "_picture", counted)
    write_rows(tmp_path / ROWS, many)
    page, data = page_of(tmp_path)
    shown = data["viewer"]
    assert len(shown["pictures"]) == viewer.MOST_PICTURES == len(looked_at)
    assert "24 of 100 pictures are shown" in shown["notes"][-1]
    assert len(json.dumps(shown)) < viewer.BUDGET
    assert len(page) < 25_000_000
    assert len(data["sizes"]) == 100
