"""The command line called in this process, where the model is loaded once, and small pictures for it."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from latentcodec.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Called:
    """What a command did."""

    code: int
    out: bytes
    err: str

    @property
    def line(self) -> str:
        """The last line on stderr."""
        return self.err.splitlines()[-1] if self.err else ""


Call = Callable[..., Called]


@pytest.fixture
def call() -> Call:
    """call(*arguments, data=stdin) -> Called; an exception that the commands let through fails the test."""

    def run(*arguments: str | Path, data: bytes | None = None) -> Called:
        result = CliRunner().invoke(
            main, [str(argument) for argument in arguments], input=data, prog_name="latentcodec"
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            pytest.fail("".join(traceback.format_exception(result.exception)))
        return Called(result.exit_code, result.stdout_bytes, result.stderr)

    return run


def on_terminal(*arguments: str | Path, columns: int, stdout: int | None = None) -> tuple[int, bytes]:
    """The program on a terminal of so many columns, `stdout` elsewhere if given: its exit code, the text."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "latentcodec", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": str(columns)}
    streams = {"stdout": theirs if stdout is None else stdout, "stderr": theirs}
    with subprocess.Popen(command, env=environment, **streams) as process:
        os.close(theirs)
        text = b""
        while part := _read(ours):
            text += part
    os.close(ours)
    return process.returncode, text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # how Linux says that the other end has gone
        return b""


def pixels(height: int = 64, width: int = 64, seed: int = 0) -> np.ndarray:
    """Colour slopes, an edge and some noise: uint8 (H, W, 3)."""
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / width], axis=2)
    planes[height // 4 : height // 2, width // 4 : width // 2] = (200, 30, 30)
    planes += np.random.default_rng(seed).normal(0, 4, planes.shape)
    return planes.clip(0, 255).astype(np.uint8)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG of 64x64."""
    path = tmp_path / "picture.png"
    Image.fromarray(pixels()).save(path)
    return path


@pytest.fixture(scope="session")
def lci(codec: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its .lci file; not to be changed."""
    path = tmp_path_factory.mktemp("lci") / "picture.lci"
    path.write_bytes(codec.encode(pixels()))  # type: ignore[attr-defined]
    return path


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """album/a.png, album/sub/b.jpg, album/sub/deep/c.bmp, and what is none of its pictures."""
    folder = tmp_path / "album"
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for seed, name in enumerate(("a.png", "sub/b.jpg", "sub/deep/c.bmp", ".hidden/d.png", "sub/._b.jpg")):
        Image.fromarray(pixels(seed=seed)).save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder
