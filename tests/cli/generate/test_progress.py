"""Progress and previews, as a terminal gets them; nothing elsewhere; and what Ctrl-C leaves."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from latentcodec.cli.generate import progress
from latentcodec.cli.generate.progress import GenerationProgress, half_blocks, speed
from latentcodec.generate.live import Progress
from tests.cli.conftest import ROOT, Call, on_terminal

OPTIONS = ("--steps", "3", "--size", "32", "--seed", "1")


@pytest.mark.parametrize(
    ("rate", "text"), [(25.0, "25.00 steps/s"), (1.0, "1.00 steps/s"), (0.4, "2.50 s/step")]
)
def test_speed(rate: float, text: str) -> None:
    assert speed(rate) == text


def test_half_blocks_show_two_pixels_each() -> None:
    image = Image.new("RGB", (2, 4))
    for x, y, colour in ((0, 0, (255, 0, 0)), (0, 1, (0, 255, 0)), (1, 3, (0, 0, 255))):
        image.putpixel((x, y), colour)
    text = half_blocks(image, 2, 2)
    assert text.plain == "▀▀\n▀▀"
    first, last = text.spans[0].style, text.spans[-1].style
    assert str(first) == "#ff0000 on #00ff00"
    assert str(last) == "#000000 on #0000ff"
    assert half_blocks(Image.new("RGB", (512, 256)), 64, 24).plain.count("\n") == 15
    assert half_blocks(Image.new("RGB", (1, 5000)), 64, 24).plain.count("▀") == 24


def test_nothing_is_shown_where_there_is_no_terminal(call: Call, sd1: Path, tmp_path: Path) -> None:
    with GenerationProgress("generate", 1, quiet=False, preview=True) as bar:
        assert not bar.previews
    done = call("generate", "--model", sd1, "cat", tmp_path / "a.png", *OPTIONS, "--preview")
    assert (done.code, "▀" in done.err, "━" in done.err) == (0, False, False)


def test_previews_and_speed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, color_system="truecolor", width=100, height=30)
    monkeypatch.setattr(progress, "error_console", lambda: console)
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    with GenerationProgress("generate", 2, quiet=False, preview=True) as bar:
        assert bar.previews
        for step in (1, 2, 3):
            bar.show(1, 1, Progress(step, 3, Image.new("RGB", (8, 8), "red")))
    text = shown.getvalue()
    assert "▀" in text
    assert "6/6" in text  # the second of two pictures, of three steps each
    assert "steps/s" in text or "s/step" in text
    for quiet, preview in ((True, True), (False, False)):
        assert not GenerationProgress("generate", 2, quiet=quiet, preview=preview).previews


@pytest.mark.slow
def test_a_terminal_gets_a_bar_and_a_preview(sd1: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    code, text = on_terminal("generate", "--model", sd1, "cat", out, *OPTIONS, "--preview", columns=100)
    assert code == 0
    shown = text.decode()
    assert "▀" in shown
    assert "3/3" in shown
    assert "steps/s" in shown or "s/step" in shown
    assert "a.png: 32x32, " in shown.replace("\r\n", "")  # the path may be folded
    assert out.is_file()


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_done_and_nothing_half_written(sd1: Path, tmp_path: Path) -> None:
    out = tmp_path / "%d.png"
    command = [sys.executable, "-m", "latentcodec", "generate", "--model", str(sd1), "cat", str(out)]
    command += ["--count", "1000", "--size", "32", "--steps", "2", "--device", "cpu"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "2.png").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    written = sorted(tmp_path.iterdir())
    assert all(path.suffix == ".png" for path in written)
    for path in written:
        with Image.open(path) as image:
            image.load()
