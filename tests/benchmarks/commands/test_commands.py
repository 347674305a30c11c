"""python -m benchmarks: arguments, and errors in a line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image, features

import latentcodec
from benchmarks.__main__ import main
from benchmarks.experiments import busy
from benchmarks.experiments.busy import Times
from benchmarks.runs.rows import ROWS, read_rows
from latentcodec.threads import BRIEF_SPIN
from tests.benchmarks.conftest import make_picture

ROOT = Path(__file__).resolve().parents[3]


def call(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


@pytest.mark.slow
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
        (["--qualities", "5,nan"], "'5,nan' is not a list of numbers"),
    ],
)
def test_wrong_arguments(folder: Path, tmp_path: Path, options: list[str], message: str) -> None:
    code, text = call("run", folder, "--out", tmp_path / "out", "--codecs", "jpeg", *options)
    assert code in {1, 2}
    assert message in " ".join(text.split())
    assert not (tmp_path / "out" / ROWS).exists()


@pytest.mark.slow
def test_the_report_as_markdown(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--codecs", "jpeg,webp", "--metrics", "psnr", "--qualities", "5,50,90"]
    assert call("run", folder, "--out", out, *options)[0] == 0
    (out / "report.html").unlink()
    code, text = call("report", out, "--markdown")
    assert code == 0, text
    assert text.startswith("### BD-rate of jpeg in percent")
    assert "| webp | " in text
    assert (out / "report.html").exists()


@pytest.mark.parametrize("command", ["speed", "demo", "seed"])
def test_a_picture_that_is_none_is_a_line(tmp_path: Path, command: str) -> None:
    path = tmp_path / "text.png"
    path.write_text("no picture")
    options = [] if command == "speed" else ["--out", tmp_path / "out"]
    code, text = call(command, path, *options)
    assert code == 1
    assert text.startswith("Error: ")
    assert "cannot identify image file" in text
    assert text.count("\n") <= 2


def test_a_folder_that_cannot_be_made_is_a_line(folder: Path) -> None:
    code, text = call("run", folder, "--out", folder / "a.PNG" / "out", "--codecs", "jpeg")
    assert code == 1
    assert text.splitlines()[-1].startswith("Error: ")


def test_speed_without_a_peer_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = features.check
    monkeypatch.setattr(features, "check", lambda name: name != "avif" and check(name))
    Image.fromarray(make_picture(64, 64)).save(tmp_path / "a.png")
    code, text = call("speed", tmp_path / "a.png", "--runs", "1", "--threads", "1")
    assert code == 0, text
    assert "codec avif is skipped: this Pillow" in text
    assert "encode: webp" in text
    assert "encode: avif" not in text


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    code, text = call("speed", "--scaling", "--largest", "0.1", "--threads", "1", "--out", tmp_path)
    assert code == 0, text
    assert text.startswith("0.1 megapixels: encode ")
    (point,) = json.loads((tmp_path / "scaling.json").read_text())
    assert point["width"] * point["height"] == pytest.approx(1e5, rel=0.01)
    assert point["encode_seconds"] > 0
    assert point["decode_seconds"] > 0
    assert 1_000 < point["file_bytes"] < 50_000
    assert point["encode_memory"] >= point["loaded_memory"] > 1e8  # PyTorch alone takes that
    assert point["decode_memory"] > 1e8
    assert call("speed", "--scaling", "--largest", "0")[0] == 2


def test_a_folder_without_pictures(tmp_path: Path) -> None:
    code, text = call("run", tmp_path, "--out", tmp_path / "out", "--codecs", "jpeg")
    assert code == 1
    assert "holds no picture" in text


def test_a_network_of_another_name_is_refused() -> None:
    code, text = call("networks", "vgg")
    assert code == 2
    assert "no network is called vgg; there are unet, x4, vae" in " ".join(text.split())


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "benchmarks", "--help"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert "Usage: python -m benchmarks" in run.stdout
    assert {"at-size", "demo", "latents", "networks", "report", "run"} <= set(run.stdout.split())


def test_a_setting_that_is_none_is_a_line() -> None:
    code, text = call("busy", "--setting", "GOMP_SPINCOUNT=3,passive")
    assert code == 2
    assert "'GOMP_SPINCOUNT=3,passive' is not of the form NAME=VALUE,NAME=VALUE" in " ".join(text.split())


def test_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(
        file: Path, settings: dict[str, dict[str, str]], threads: int, runs: int
    ) -> dict[str, tuple[Times, Times]]:
        assert latentcodec.info(file).width == 64
        assert (threads, runs) == (1, 7)
        assert settings["OpenMP's default"] == {}
        assert settings["latentcodec's"] == BRIEF_SPIN
        return {name: (Times([0.3], [0.2]), Times([0.9], [0.5])) for name in settings}

    monkeypatch.setattr(busy, "measure", measured)
    Image.fromarray(make_picture(64, 64)).save(tmp_path / "a.png")
    own = "OMP_WAIT_POLICY=active"
    code, text = call("busy", tmp_path / "a.png", "--runs", "7", "--threads", "1", "--setting", own)
    assert code == 0, text
    assert "a.png, quality 60, threads 1," in text
    assert text.count("500 (2.5)") == 6
    assert own in text
