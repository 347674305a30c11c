"""A run's folder, whole and damaged."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from latentcodec.errors import TrainingError
from latentcodec.training.native.loop import Run
from latentcodec.training.native.run_folder import (
    averaged_model,
    logged_seconds,
    read_checkpoint,
    read_config,
)
from tests.conftest import tiny_config
from tests.tiny_run import STEPS, make_pictures, make_run, same_parameters

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("made")
    return make_run(folder / "run", make_pictures(folder / "pictures"))


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Path:
    """A copy of a run's folder."""
    return Path(shutil.copytree(made.folder, tmp_path / "run"))


def test_the_moving_average(made: Run) -> None:
    model, step = averaged_model(made.folder, CPU)
    assert (step, model.config, model.training) == (STEPS, tiny_config(), False)
    assert same_parameters(model.state_dict(), made.average)
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_pictures_need_not_be_there(made: Run, run: Path) -> None:
    config = read_config(run)
    config["training"]["pictures"] = "/nowhere"
    (run / "config.json").write_text(json.dumps(config))
    averaged_model(run, CPU)
    with pytest.raises(TrainingError, match=r"its pictures are in /nowhere, which is not there .*--pictures"):
        Run.resume(run, CPU)
    moved = Run.resume(run, CPU, pictures=Path(made.config.pictures))
    assert moved.step == STEPS
    assert read_config(run)["training"]["pictures"] == made.config.pictures


def test_other_pictures_are_warned_of(made: Run, run: Path, tmp_path: Path) -> None:
    Path(shutil.copytree(made.config.pictures, tmp_path / "fewer"), "second.png").unlink()
    with pytest.warns(UserWarning, match=r"fewer: not the 2 pictures that .* began with"):
        Run.resume(run, CPU, pictures=tmp_path / "fewer")


@pytest.mark.parametrize("name", ["config.json", "checkpoint.pt"])
def test_a_missing_part(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(TrainingError, match=f"no training run here.*{name} is missing"):
        averaged_model(run, CPU)
    with pytest.raises(TrainingError, match="no training run here"):
        Run.resume(run, CPU)
    with pytest.raises(TrainingError, match="no training run here"):
        Run.resume(run / "config.json", CPU)  # a file, not a folder


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_cut_checkpoint(run: Path, kept: float) -> None:
    path = run / "checkpoint.pt"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data) if kept < 1 else kept)])
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: damaged, or of another version"):
        read_checkpoint(run, CPU)
    with pytest.raises(TrainingError, match="restore a copy, or start a new run"):
        Run.resume(run, CPU)


@pytest.mark.parametrize("part", ["pickle", "largest"])
def test_a_flipped_bit(run: Path, part: str) -> None:
    path = run / "checkpoint.pt"
    with zipfile.ZipFile(path) as archive:
        entries = sorted(archive.infolist(), key=lambda each: each.file_size)
    entry = entries[-1] if part == "largest" else next(e for e in entries if e.filename.endswith("data.pkl"))
    data = bytearray(path.read_bytes())
    data[entry.header_offset + 200 + entry.file_size // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(
        TrainingError, match=r"checkpoint\.pt: damaged, or of another version \(the checksum of"
    ):
        read_checkpoint(run, CPU)


def test_other_content(run: Path) -> None:
    path = run / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for wrong in (
        ["not", "a", "state"],
        {key: value for key, value in state.items() if key != "optimiser"},
        state | {"average": {}},
        state | {"average": None},
        state | {"model": {}},
        state | {"optimiser": {"adam": {}, "momentum": []}},
        state | {"schedule": {"speed": 3}},
        state | {"plan": {"end": 3}},
    ):
        torch.save(wrong, path)
        with pytest.raises(TrainingError, match=r"checkpoint\.pt: damaged, or of another version"):
            Run.resume(run, CPU)


def test_checkpoints_of_before_plans_were_kept(run: Path) -> None:
    path = run / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for key in ("plan", "seconds", "hardware", "torch"):
        del state[key]
    torch.save(state, path)
    resumed = Run.resume(run, CPU)
    assert (resumed.step, resumed.finished) == (STEPS, False)
    assert resumed.seconds == logged_seconds(run) > 0


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"training": {}}'])
def test_a_damaged_configuration(run: Path, text: str) -> None:
    (run / "config.json").write_text(text)
    with pytest.raises(TrainingError, match=r"config\.json: (damaged|not the configuration of a run)"):
        averaged_model(run, CPU)


def test_a_configuration_of_another_version(run: Path) -> None:
    config = read_config(run)
    for change, message in (
        ({"training": config["training"] | {"speed": 3}}, "training options of another version"),
        ({"native": {"transform": {"luma": 3, "depth": 4}, "entropy": {}}}, "sizes of another version"),
        ({"native": 3}, "sizes of another version"),
    ):
        (run / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(TrainingError, match=message):
            Run.resume(run, CPU)


def test_logged_seconds(tmp_path: Path) -> None:
    assert logged_seconds(tmp_path) == 0
    lines = [json.dumps({"step": i, "seconds": seconds}) for i, seconds in enumerate((5.0, 10.0, 2.0, 7.0))]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines[:2], "{cut", *lines[2:]]) + "\n")
    assert logged_seconds(tmp_path) == 17
