"""Errors as lines."""

from __future__ import annotations

import pytest

from latentcodec.cli.console import explain
from latentcodec.errors import FormatError, UnreadableImage


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FormatError("not a latentcodec file"), "a: not a latentcodec file"),  # an "a" in it does not name it
        (UnreadableImage("a is no picture"), "a is no picture"),
        (FileNotFoundError(2, "No such file or directory", "a"), "a: No such file or directory"),
        (PermissionError(13, "Permission denied", b"b\xff"), "a: b\ufffd: Permission denied"),
        (OSError("odd"), "a: odd"),
        (MemoryError(), "a: not enough memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "a: not enough memory"),
        (RuntimeError("a bug"), None),
        (KeyError("a bug"), None),
    ],
)
def test_explain(error: Exception, line: str | None) -> None:
    assert explain(error, "a") == line
