"""What the tests of reports share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots are made, but not rendered, which takes a second each: their files are blank."""
    blank = io.BytesIO()
    Image.new("RGB", (8, 8), "white").save(blank, "PNG")
    files = {".png": blank.getvalue(), ".svg": b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'}

    def savefig(_: Figure, path: Path, **__: Any) -> None:
        path.write_bytes(files[path.suffix])

    monkeypatch.setattr(Figure, "savefig", savefig)
