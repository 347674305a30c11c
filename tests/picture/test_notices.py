"""One way in which losses are told: a warning, a note, or an error."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import pytest

from latentcodec.errors import NotKept
from latentcodec.picture.notices import DroppedDataWarning, ReducedDepthWarning, noted, report, strictly

PACKAGE = Path(__file__).resolve().parents[2] / "latentcodec"


def test_a_warning_and_a_note() -> None:
    with noted() as notes, pytest.warns(DroppedDataWarning, match=r"^a\.png: its hat is gone$"):
        report("a.png", "its hat is gone")
    assert notes == ["its hat is gone"]
    with pytest.warns(ReducedDepthWarning):
        report("a.png", "its depth", ReducedDepthWarning)
    assert notes == ["its hat is gone"]


def test_strictly_an_error() -> None:
    with strictly(), pytest.raises(NotKept, match=r"^a\.png: its hat is gone; strict forbids it$"):
        report("a.png", "its hat is gone")
    with strictly(), strictly(False), pytest.raises(NotKept):  # who asked for it goes on asking
        report("a.png", "its hat is gone")
    with strictly(False), pytest.warns(DroppedDataWarning):
        report("a.png", "its hat is gone")


def test_threads_are_apart() -> None:
    told: list[Warning] = []

    def other() -> None:
        try:
            report("b.png", "its hat is gone")
        except Warning as warning:  # as tests have them
            told.append(warning)

    with strictly(), noted() as notes:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert (len(told), notes) == (1, [])


def test_nobody_warns_of_a_loss_otherwise() -> None:
    """Or the file's record and `strict` would not know."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            warns = isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"
            if warns and path.name != "notices.py":
                words = ast.unparse(node)
                assert "DroppedData" not in words, path
                assert "ReducedDepth" not in words, path
