"""latentcodec train run | resume | eval | export"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from latentcodec.cli.training.progress import duration, line
from latentcodec.nn.native.model import NativeModel
from latentcodec.training.native.export import export
from latentcodec.weights.native import read_weights
from tests.cli.conftest import Call
from tests.tiny_run import STEPS, make_pictures, make_run, same_parameters

CPU = torch.device("cpu")
FEW = ["--batch", "2", "--threads", "1", "-Q"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("train") / "pictures")


@pytest.fixture(scope="module")
def made(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run after two steps."""
    return make_run(tmp_path_factory.mktemp("made") / "run", pictures).folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def checkpoint(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    state: dict[str, dict[str, torch.Tensor]] = torch.load(folder / "checkpoint.pt", weights_only=True)
    return state


@pytest.mark.slow
def test_ten_and_ten_are_twenty(
    call: Call, tiny_model: NativeModel, pictures: Path, tmp_path: Path, one_thread: None
) -> None:
    """From a weights file, in a short and a long run."""
    export(tiny_model, {}, tmp_path / "tiny.safetensors")
    start = ["train", "run", pictures, "--init", tmp_path / "tiny.safetensors", *FEW]
    assert call(*start, "--out", tmp_path / "twenty", "--steps", "4").code == 0
    assert call(*start, "--out", tmp_path / "ten", "--steps", "2").code == 0
    done = call("train", "resume", tmp_path / "ten", "--steps", "2")
    assert done.code == 0
    a, b = checkpoint(tmp_path / "twenty"), checkpoint(tmp_path / "ten")
    assert same_parameters(a["model"], b["model"])
    assert same_parameters(a["average"], b["average"])
    config = json.loads((tmp_path / "ten" / "config.json").read_text())
    assert config["training"]["threads"] == 1
    assert config["init"].startswith("tiny.safetensors, networks ")


def test_what_is_told(call: Call, run: Path, pictures: Path) -> None:
    done = call("train", "resume", run, "--steps", "1", "--cooldown", "1")
    assert (done.code, done.out) == (0, b"")
    first, second, last = done.err.splitlines()
    assert first.startswith(f"{run}: at step {STEPS}; pictures: 2 of {pictures}; ")
    assert re.fullmatch(
        r"step 3, [\d.]+ steps/s, 0:00:\d\d gone, 0:00:00 left, "
        r"loss [\d.]+, [\d.]+ bpp, MSE [\d.]+, cooling down",
        second,
    )
    report = (
        rf"{re.escape(str(run))}: step 3, \d+\.\d minutes of training, saved; next: latentcodec train export"
    )
    assert re.match(report, last)


def test_minutes_end_with_a_cool_down(call: Call, run: Path) -> None:
    assert call("train", "resume", run, "--minutes", "0.01", "-Q").code == 0
    schedule = checkpoint(run)["schedule"]
    assert schedule["cooldown_start"] is not None
    finished = call("train", "resume", run)
    assert finished.code == 1
    assert re.fullmatch(
        rf"latentcodec: {run}: finished at step \d+; train on with --minutes .*\n", finished.err
    )
    assert call("train", "resume", run, "--steps", "1", "-Q").code == 0
    assert checkpoint(run)["schedule"]["cooldown_start"] is None  # --steps: at the constant rate again


def test_eval_and_export(call: Call, run: Path, pictures: Path, tmp_path: Path) -> None:
    before = call("train", "export", run, "--out", tmp_path / "x" / "before.safetensors")
    assert before.code == 0
    assert before.line.startswith(f"the card has no figures of step {STEPS}: ")
    measured = call("train", "eval", run, pictures)
    assert (measured.code, measured.err) == (0, "")
    table = measured.out.decode()
    assert f"step {STEPS}, 2 pictures of pictures" in table
    assert all(name in table for name in ("quality", "bpp", "PSNR (dB)", "MS-SSIM"))
    done = call("train", "export", run)
    assert (done.code, done.err) == (0, "")
    weights = read_weights(run / "native-1.safetensors")
    assert weights.networks_hash.hex() in done.out.decode()
    points = weights.card["figures"]["points"]
    assert [point["quality"] for point in points] == [0, 20, 40, 60, 80, 100]
    assert all(f"{point['bpp']:.4f}"[:5] in table for point in points)


def test_beginning_with_another_run(call: Call, made: Path, pictures: Path, tmp_path: Path) -> None:
    assert (
        call("train", "run", pictures, "--out", tmp_path / "b", "--init", made, "--steps", "1", *FEW).code
        == 0
    )
    assert json.loads((tmp_path / "b" / "config.json").read_text())["init"] == f"run run, step {STEPS}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "{pictures}"], "Missing option '--out'"),
        (["run", "{tmp}/gone", "--out", "{tmp}/r"], "does not exist"),
        (
            ["run", "{pictures}", "--out", "{tmp}/r", "--steps", "1", "--minutes", "1"],
            "--minutes and --steps: give one",
        ),
        (
            ["run", "{pictures}", "--out", "{tmp}/r", "--crop", "144"],
            "--crop 144: it must be a multiple of 32",
        ),
        (["run", "{pictures}", "--out", "{tmp}/r", "--crop", "96"], "96 is not in the range x>=128"),
        (["run", "{pictures}", "--out", "{tmp}/r", "--steps", "0"], "0 is not in the range x>=1"),
        (["run", "{pictures}", "--out", "{tmp}/r", "--learning-rate", "nan"], "'nan' is no finite number"),
        (["run", "{pictures}", "--out", "{tmp}/r", "--init", "{tmp}/gone"], "does not exist"),
        (["resume", "{tmp}", "--cooldown", "0.5"], "it is a share of --minutes or --steps"),
        (["eval", "{tmp}"], "Missing argument 'FOLDER'"),
    ],
)
def test_wrong_usage(call: Call, pictures: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = call("train", *(each.format(pictures=pictures, tmp=tmp_path) for each in arguments))
    assert done.code == 2
    assert message in " ".join(done.err.split())
    assert list(tmp_path.iterdir()) == []


def test_errors_are_a_line(call: Call, run: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "text.png").write_text("not a picture")
    (tmp_path / "weights").write_text("none")
    out, one = ["--out", tmp_path / "new"], ["--steps", "1", *FEW]
    for arguments, message in (
        (["run", pictures, "--out", run, *one], "already holds a run; resume it, or name another folder"),
        (["run", tmp_path / "empty", *out, *one], "no pictures"),
        (["run", tmp_path / "bad", *out, *one], "text.png: not a readable picture"),
        (["run", pictures, *out, *one, "--init", tmp_path / "weights"], "not a native model's weights file"),
        (["run", pictures, *out, *one, "--device", "abacus"], "device 'abacus'"),
        (["run", pictures, *out, *one, "--crop", "256"], "has both sides of at least 256 pixels"),
        (["resume", tmp_path / "empty"], "no training run here (config.json is missing)"),
        (["export", tmp_path / "gone"], "no training run here"),
        (["eval", run, tmp_path / "empty"], "no pictures"),
        (["eval", run, tmp_path / "bad"], "text.png: not a readable picture"),
    ):
        done = call("train", *arguments)
        assert done.code == 1, arguments
        assert message in done.err
        assert done.err.startswith("latentcodec: ")
        assert done.err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_pictures_too_small_to_evaluate(call: Call, run: Path, picture: Path) -> None:
    done = call("train", "eval", run, picture.parent)
    assert done.code == 1
    assert "picture.png: 64x64 pixels, but evaluation needs 192 a side" in done.err


def test_ctrl_c_is_told_and_saved(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import signal

    from latentcodec.training.native.loop import Run

    take = Run.train_step

    def step(self: Run) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGINT)
        return take(self)

    monkeypatch.setattr(Run, "train_step", step)
    done = call("train", "resume", run, "--steps", "5")
    assert done.code == 130
    assert done.line.endswith(f"saved; next: latentcodec train resume {run}")
    monkeypatch.setattr(Run, "train_step", take)
    assert checkpoint(run)["step"] == STEPS + 1
    assert call("train", "resume", run, "-Q").code == 0  # to the end that it was given
    assert checkpoint(run)["step"] == STEPS + 5


def test_packed_pictures_are_trained_on(call: Call, pictures: Path, made: Path, tmp_path: Path) -> None:
    done = call("train", "pack", pictures, "--out", tmp_path / "packed", "--size", "120KB")
    assert (done.code, done.err) == (0, "")
    tars = sorted((tmp_path / "packed").glob("*.tar"))
    assert all(path.stat().st_size <= 120_000 for path in tars)
    total, largest = (f(path.stat().st_size for path in tars) for f in (sum, max))
    assert done.out.decode() == f"{tmp_path / 'packed'}: {len(tars)} tars, {total} bytes, {largest} at most\n"
    start = ["train", "run", tmp_path / "packed", "--init", made, "--steps", "1", *FEW]
    assert call(*start, "--out", tmp_path / "run").code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["pictures"]["count"] == 2
    again = call("train", "pack", pictures, "--out", tmp_path / "packed")
    assert again.code == 1
    assert "already holds tar files" in again.err
    small = call("train", "pack", pictures, "--out", tmp_path / "small", "--size", "1KB")
    assert small.code == 1
    assert "more than 1000 (--size)" in small.err
    moved = call("train", "resume", tmp_path / "run", "--pictures", pictures, "--steps", "1", "-Q")
    assert (moved.code, moved.err) == (0, "")  # the same pictures, in a folder


def test_progress_lines() -> None:
    row = {
        "step": 40,
        "rate": 1.5,
        "seconds": 3725.4,
        "remaining": None,
        "loss": 12.0,
        "bpp": 0.5,
        "mse": 40.04,
    }
    assert line(row | {"cooling": False}) == (
        "step 40, 1.50 steps/s, 1:02:05 gone, no end set, loss 12.000, 0.500 bpp, MSE 40.0"
    )
    assert line(row | {"remaining": 59.6, "cooling": True}).endswith("MSE 40.0, cooling down")
    assert duration(59.6) == "0:01:00"
