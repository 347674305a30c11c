"""The training loop: resumed exactly, stopped cleanly, and plain about what is wrong with a run."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from latentcodec.errors import TrainingError
from latentcodec.nn.native.transform import LARGEST_LOG_SCALE, WIDEST_STEP, initial_log_gain
from latentcodec.training.data import is_held_out
from latentcodec.training.native import loop
from latentcodec.training.native.loop import Run, TrainingConfig
from latentcodec.training.native.losses import rate_distortion_loss
from tests.conftest import photograph, picture, tiny_config

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("astronaut", "coffee", "chelsea"):
        assert not is_held_out(Path(f"{name}.png"))
        Image.fromarray(photograph(name, 200, 180)).save(folder / f"{name}.png")
    return folder


pytestmark = pytest.mark.usefixtures("one_thread")  # floats are compared bit for bit


def config(pictures: Path, **other: Any) -> TrainingConfig:
    return TrainingConfig(**({"pictures": str(pictures), "batch": 2, "crop": 128, "warm_up": 4} | other))


def create(folder: Path, pictures: Path, **other: Any) -> Run:
    return Run.create(folder, config(pictures, **other), tiny_config(), CPU)


@pytest.mark.release  # compiles
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # PyTorch's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_run_does_the_same(tmp_path: Path, pictures: Path) -> None:
    plain, compiled = (
        create(tmp_path / str(each), pictures, compile=each, autocast=False) for each in (False, True)
    )
    for _ in range(2):
        expected, found = plain.train_step(), compiled.train_step()
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3)
        assert found["norm"] == pytest.approx(expected["norm"], rel=0.02)
    compiled.save()
    assert Run.resume(tmp_path / "True", CPU).step == 2


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of a checkpoint, with its path."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from flat(each, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, each in enumerate(value):
            yield from flat(each, f"{name}.{index}")
    else:
        yield name, value


def assert_same_state(one: Path, other: Path) -> None:
    """The same steps, weights, averages, moments and schedule, to the last bit."""
    states = [torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (one, other)]
    kept = [
        dict(flat({key: state[key] for key in ("step", "model", "average", "optimiser", "schedule")}))
        for state in states
    ]
    assert kept[0].keys() == kept[1].keys()
    for name, value in kept[0].items():
        same = (
            torch.equal(value, kept[1][name]) if isinstance(value, torch.Tensor) else value == kept[1][name]
        )
        assert same, name


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from latentcodec.training.native.loop import Run
Run.resume(Path(sys.argv[1]), torch.device("cpu")).train(steps=2, cooldown=0)
"""


@pytest.mark.slow
def test_four_steps_are_two_and_a_new_process_and_two(tmp_path: Path, pictures: Path) -> None:
    create(tmp_path / "straight", pictures).train(steps=4, cooldown=0)
    create(tmp_path / "broken", pictures).train(steps=2, cooldown=0)
    with pytest.raises(AssertionError):
        assert_same_state(tmp_path / "straight", tmp_path / "broken")
    subprocess.run(
        [sys.executable, "-W", "error", "-c", CHILD, str(tmp_path / "broken")],
        check=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )
    assert_same_state(tmp_path / "straight", tmp_path / "broken")


@pytest.mark.slow
def test_a_run_that_is_stopped_in_its_cool_down_ends_as_if_it_had_not_been(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(tmp_path / "straight", pictures).train(steps=4, cooldown=0.5)
    run = create(tmp_path / "stopped", pictures)
    step = run.train_step

    def stop_at_three() -> dict[str, float]:
        parts = step()
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return parts

    monkeypatch.setattr(run, "train_step", stop_at_three)
    run.train(steps=4, cooldown=0.5)
    assert run.stopped_by == signal.SIGTERM
    assert run.step == 3
    resumed = Run.resume(tmp_path / "stopped", CPU)
    assert not resumed.finished
    resumed.train()
    assert resumed.finished
    assert resumed.step == 4
    assert_same_state(tmp_path / "straight", tmp_path / "stopped")


def loss_of(run: Run) -> float:
    """Of three pictures at three qualities, the same ones every time."""
    x = torch.cat([picture(name, 128, 128) for name in ("astronaut", "coffee", "chelsea")])
    level = torch.tensor([500.0, 2000.0, 3500.0])
    with torch.no_grad():
        return float(rate_distortion_loss(x, *run.model(x, level), level, 0.5, 0.0)[0])


@pytest.mark.slow
def test_the_loss_falls(tmp_path: Path, pictures: Path) -> None:
    run = create(tmp_path / "run", pictures, drawn=0.0)
    before = loss_of(run)
    run.train(steps=30, cooldown=0.25)
    assert loss_of(run) < before  # 0.979 to 0.989 of it for five seeds


def test_progress_is_told_and_logged(tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 2)
    run = create(tmp_path / "run", pictures)
    seen: list[dict[str, Any]] = []
    run.train(steps=4, cooldown=0.25, progress=seen.append)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [each["step"] for each in seen] == [2, 4]
    assert {"loss", "bpp", "mse", "ms_ssim", "norm", "rate", "seconds"} <= rows[0].keys()
    assert [each["cooling"] for each in seen] == [False, True] or seen[0]["cooling"]
    assert run.finished


def test_the_average_follows_the_weights(tmp_path: Path, pictures: Path) -> None:
    run = create(tmp_path / "run", pictures)
    start = {name: value.clone() for name, value in run.average.items()}
    run.train(steps=3, cooldown=0)
    own = run.model.state_dict()
    moved = [name for name in own if not torch.equal(own[name], start[name])]
    assert len(moved) > 20
    for name in moved:
        assert not torch.equal(run.average[name], own[name])
        low, high = torch.minimum(start[name], own[name]), torch.maximum(start[name], own[name])
        inside = (run.average[name] >= low - 0.02) & (run.average[name] <= high + 0.02)
        assert inside.float().mean() > 0.8


def test_no_step_closes_a_channel(tmp_path: Path, pictures: Path) -> None:
    run = create(tmp_path / "run", pictures)
    with torch.no_grad():
        run.model.analysis.log_gain.sub_(5)
    run.train_step()
    lowest = initial_log_gain(run.model.analysis.log_gain.shape[1]) - math.log(WIDEST_STEP)
    assert torch.equal(run.model.analysis.log_gain.detach(), lowest)


def test_no_step_takes_a_scale_to_where_no_decoder_holds_it(tmp_path: Path, pictures: Path) -> None:
    run = create(tmp_path / "run", pictures)
    with torch.no_grad():
        run.model.synthesis.log_scale.add_(5)
    run.train_step()
    assert run.model.synthesis.log_scale.max() == torch.tensor(LARGEST_LOG_SCALE)


def test_only_the_synthesis_is_trained_where_that_is_asked_for(tmp_path: Path, pictures: Path) -> None:
    """The same files, decoded better: what determines symbols stays to the bit, also in a resumed run."""
    begun = create(tmp_path / "begun", pictures)
    begun.train(steps=2, cooldown=0)
    options = config(pictures, only_synthesis=True)
    run = Run.create(tmp_path / "run", options, tiny_config(), CPU, begun.model.state_dict())
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.train(steps=1, cooldown=0)
    resumed = Run.resume(tmp_path / "run", CPU)
    assert resumed.config.only_synthesis
    resumed.train(steps=1, cooldown=0)
    for own in (resumed.model.state_dict(), resumed.average):
        changed = {name for name, value in own.items() if not torch.equal(value, before[name])}
        assert changed == {f"synthesis.{name}" for name, _ in run.model.synthesis.named_parameters()}


def test_the_shares_of_the_distortion_reach_the_loss(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path / "run", pictures, structure=0.2, visible=0.7)
    seen: list[tuple[float, ...]] = []

    def noting(*arguments: Any) -> Any:
        seen.append(arguments[4:])
        return rate_distortion_loss(*arguments)

    monkeypatch.setattr(run, "_loss", noting)
    run.train_step()
    assert seen == [(0.2, 0.7)]


def test_every_step_sees_all_qualities(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path / "run", pictures, batch=4)
    levels: list[torch.Tensor] = []
    loss = rate_distortion_loss

    def noting(*arguments: Any) -> Any:
        levels.append(arguments[3])
        return loss(*arguments)

    monkeypatch.setattr(run, "_loss", noting)
    for _ in range(3):
        run.train_step()
    for level in levels:
        assert level.min() >= 0
        assert level.max() <= 4000
        quarters = (level / 1000).clamp(max=3.999).floor().tolist()
        assert len(set(quarters)) >= 3
    assert not torch.equal(levels[0], levels[1])


def test_a_loss_that_is_not_finite_stops_the_run(
    tmp_path: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create(tmp_path / "run", pictures)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    nothing = torch.tensor(torch.nan)
    monkeypatch.setattr(run, "_loss", lambda *a: (nothing, {"loss": nothing}))
    with pytest.raises(TrainingError, match="loss is nan at step 0"):
        run.train(steps=2)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, before[name])


def test_checkpoints_hold_what_is_documented(tmp_path: Path, pictures: Path) -> None:
    run = create(tmp_path / "run", pictures)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert {"step", "model", "average", "optimiser", "schedule"} <= state.keys()
    assert state["step"] == 0
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["training"] == asdict(run.config)
    assert written["native"] == tiny_config().to_dict()
    assert not list((tmp_path / "run").glob("*.tmp"))


def test_folders_that_hold_a_run_or_none(tmp_path: Path, pictures: Path) -> None:
    create(tmp_path / "run", pictures)
    with pytest.raises(TrainingError, match="already holds a run"):
        create(tmp_path / "run", pictures)
    with pytest.raises(TrainingError, match="no training run here"):
        Run.resume(tmp_path, CPU)
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    data = checkpoint.read_bytes()
    for damage in (data[: len(data) // 2], b"", b"text"):
        checkpoint.write_bytes(damage)
        with pytest.raises(TrainingError, match=r"checkpoint\.pt"):
            Run.resume(tmp_path / "run", CPU)
    checkpoint.unlink()
    with pytest.raises(TrainingError):
        Run.resume(tmp_path / "run", CPU)


def test_runs_begin_the_same_way_for_a_seed(tmp_path: Path, pictures: Path) -> None:
    one, two = create(tmp_path / "one", pictures), create(tmp_path / "two", pictures)
    other = create(tmp_path / "other", pictures, seed=2)
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name])
    assert not torch.equal(one.model.analysis.conv_in.weight, other.model.analysis.conv_in.weight)


def test_a_run_may_start_from_other_weights(tmp_path: Path, pictures: Path) -> None:
    first = create(tmp_path / "first", pictures)
    first.train(steps=2, cooldown=0)
    run = Run.create(
        tmp_path / "second",
        config(pictures),
        tiny_config(),
        CPU,
        {k: v.clone() for k, v in first.average.items()},
    )
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, first.average[name])
    assert run.step == 0
