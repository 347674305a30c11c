"""python -m benchmarks: arguments, and errors in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from benchmarks.rows import ROWS, read_rows

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_run_and_report(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--codecs", "jpeg, webp", "--metrics", "psnr,ssim", "--qualities", "5,50,90"]
    code, text = call("run", folder, "--out", out, *options)
    assert code == 0, text
    assert "BD-rate of jpeg" in text
    rows = read_rows(out / ROWS)
    assert len(rows) == 2 * 2 * 3
    assert all(set(row.metrics) == {"psnr", "ssim"} and row.error is None for row in rows)
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["codecs"]) == {"jpeg", "webp"}
    (out / "rd.png").unlink()
    code, text = call("report", out)
    assert code == 0, text
    assert (out / "rd.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--codecs", "gif"], "no codec is called 'gif'"),
        (["--metrics", "beauty"], "no metric is called 'beauty'; there are mse, psnr"),
        (["--codecs", "vae:none"], "no codec is left: vae:none: model 'none'"),
        (["--jobs", "0"], "0 is not in the range"),
        (["--qualities", "5,high"], "'5,high' is not a list of numbers"),
    ],
)
def test_wrong_arguments(folder: Path, tmp_path: Path, options: list[str], message: str) -> None:
    code, text = call("run", folder, "--out", tmp_path / "out", "--codecs", "jpeg", *options)
    assert code in {1, 2}
    assert message in " ".join(text.split())
    assert not (tmp_path / "out" / ROWS).exists()


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    code, text = call("run", tmp_path, "--out", tmp_path / "out", "--codecs", "jpeg")
    assert code == 1
    assert "holds no picture" in text


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "benchmarks", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "Usage: python -m benchmarks" in run.stdout
    assert {"demo", "report", "run"} <= set(run.stdout.split())
