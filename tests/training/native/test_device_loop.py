"""The loop for GPUs, rehearsed on the CPU: minutes end in time, bad steps are taken back, runs go on."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from latentcodec.errors import TrainingError
from latentcodec.nn.native.model import NativeModel
from latentcodec.training.native import device_loop
from latentcodec.training.native.device_loop import DeviceTraining, train_on_device
from latentcodec.training.native.device_step import PARTS, DeviceStep
from latentcodec.training.native.loop import Run, TrainingConfig
from latentcodec.training.native.run_folder import read_checkpoint
from latentcodec.training.native.schedule import Plan, Schedule
from tests.conftest import tiny_config
from tests.tiny_run import make_pictures, same_parameters

CPU = torch.device("cpu")
RATE = 1e-3
pytestmark = pytest.mark.usefixtures("one_thread")


class Clock:
    """Time that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class FakeStep:
    """Takes `each` seconds of the clock, and notes its learning rates."""

    def __init__(self, clock: Clock, each: float = 0.05) -> None:
        self.clock, self.each = clock, each
        self.rates: list[float] = []
        self.bad: set[int] = set()  # by the number of the call
        self.calls = 0
        self.returned = 0
        self.losses: list[float] = []

    def step(self, rate: float, following: float, pull: float) -> None:
        self.rates.append(rate)
        self.clock.now += self.each
        self.losses.append(math.nan if self.calls in self.bad else 2.0)
        self.calls += 1

    def take_sums(self) -> dict[str, float]:
        total = sum(self.losses)
        self.losses = []
        return dict.fromkeys(PARTS, total)

    def kept(self) -> list[Any]:
        return []

    def go_back(self, kept: list[Any]) -> None:
        self.returned += 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("made")
    config = TrainingConfig(
        pictures=str(make_pictures(folder / "pictures")), batch=1, warm_up=20, learning_rate=RATE, drawn=0.0
    )
    weights = NativeModel(tiny_config()).state_dict()  # calibrating others would take seconds
    return Run.create(folder / "run", config, tiny_config(), CPU, weights)


@pytest.fixture
def run(made: Run, tmp_path: Path) -> Run:
    """A run in a folder of its own."""
    run = copy.deepcopy(made)
    run.folder = tmp_path / "run"
    run.folder.mkdir()
    run._write_config(run.folder)
    return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(device_loop, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def train(
    run: Run, step: FakeStep, clock: Clock, *, loading: float = 0.0, saving: float = 0.0, **plan: Any
) -> tuple[list[dict[str, Any]], list[tuple[float, int]]]:
    """Train by a plan; rows of progress, and when (in seconds from the start) which step was saved."""
    started, rows, saves = clock.now, [], []
    save = run.save

    def noting(folder: Path | None = None) -> None:
        clock.now += saving
        saves.append((clock.now - started, run.step))
        save(folder)

    run.save = noting  # type: ignore[method-assign]
    plan = {"steps": None, "seconds": None, "cooldown": 0.25} | plan
    run._make_plan(**plan)
    clock.now += loading
    DeviceTraining(run, cast(DeviceStep, step), started, rows.append).train()
    return rows, saves


@pytest.mark.parametrize(
    ("seconds", "loading", "saving", "each"),
    [(540.0, 60.0, 1.0, 0.05), (540.0, 130.0, 6.0, 0.11), (60.0, 20.0, 0.2, 0.04)],
)
def test_minutes_hold_loading_cool_down_and_the_last_save(
    run: Run, clock: Clock, seconds: float, loading: float, saving: float, each: float
) -> None:
    step = FakeStep(clock, each)
    begun = clock.now
    _, saves = train(run, step, clock, loading=loading, saving=saving, seconds=seconds)
    taken = clock.now - begun
    assert taken <= seconds
    assert taken >= 0.85 * seconds
    assert run.finished
    assert saves[-1] == (pytest.approx(taken), run.step)
    rates = step.rates
    assert rates[:20] == pytest.approx([RATE * (n + 1) / 20 for n in range(20)])  # warm-up
    assert rates[25] == RATE
    assert rates[-200:] == sorted(rates[-200:], reverse=True)
    assert rates[-1] < 0.1 * RATE
    falling = sum(rate < RATE for rate in rates[25:])
    assert falling * each == pytest.approx(0.25 * seconds, abs=0.12 * seconds)  # a quarter, less the reserve


def test_slow_steps_and_few_of_them_end_in_time(run: Run, clock: Clock) -> None:
    train(run, FakeStep(clock, 1.3), clock, loading=2.0, saving=0.1, seconds=20.0)
    assert 1015 < clock.now <= 1020
    assert run.finished


def test_a_pace_that_changes_in_the_cool_down_still_ends_in_time(run: Run, clock: Clock) -> None:
    class Slowing(FakeStep):
        def step(self, rate: float, following: float, pull: float) -> None:
            self.each = 0.05 if self.clock.now < 1250 else 0.08
            super().step(rate, following, pull)

    step = Slowing(clock)
    train(run, step, clock, seconds=300.0)
    assert 1285 < clock.now <= 1300
    assert step.rates[-1] < 0.1 * RATE


def test_it_saves_every_minute_and_the_constant_part_once(run: Run, clock: Clock) -> None:
    rows, saves = train(run, FakeStep(clock), clock, saving=0.1, seconds=400.0)
    moments = [moment for moment, _ in saves]
    assert all(b - a < 62 for a, b in zip([0.0, *moments], moments, strict=False))
    constant = Run.resume(run.folder / "constant", CPU)
    assert constant.step in [step for _, step in saves]
    assert constant.step < run.step
    assert constant.schedule.cooldown_start is None
    assert constant.plan.end_seconds is None
    assert not constant.finished
    assert constant.schedule.factor(constant.step) == 1
    assert [row["cooling"] for row in rows] == sorted(row["cooling"] for row in rows)
    assert rows[0]["loss"] == pytest.approx(2.0)
    assert rows[0]["rate"] == pytest.approx(20, rel=0.02)
    assert all(0 <= row["remaining"] <= 400 for row in rows)
    logged = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged] == [row["step"] for row in rows]


def test_steps_end_at_the_step_with_their_cool_down(run: Run, clock: Clock) -> None:
    step = FakeStep(clock)
    train(run, step, clock, steps=100, cooldown=0.3)
    assert run.step == len(step.rates) == 100
    assert run.finished
    assert sum(rate == RATE for rate in step.rates[:71]) == 71 - 19
    assert step.rates[71] < RATE
    assert read_checkpoint(run.folder / "constant", CPU)["step"] == 70
    run.reopen()
    train(run, step, clock, steps=7, cooldown=0.0)
    assert run.step == 107


def test_a_plan_without_cool_down_ends_in_time_too(run: Run, clock: Clock) -> None:
    train(run, FakeStep(clock), clock, seconds=100.0, cooldown=0.0)
    assert clock.now <= 1100
    assert run.finished
    assert not (run.folder / "constant").exists()


def test_a_loss_that_is_not_finite_leads_back_at_half_the_rate(run: Run, clock: Clock) -> None:
    step = FakeStep(clock)
    step.bad = {700}  # 35 s: the state of about 31 s was kept
    with pytest.warns(UserWarning, match=r"not finite at step 7\d\d: back to step 6\d\d, at 0.5 of the"):
        rows, _ = train(run, step, clock, seconds=200.0)
    assert step.returned == 1
    assert step.calls - run.step in range(20, 400)  # what was lost
    assert step.rates[699] == RATE
    assert step.rates[720] == RATE / 2
    assert all(math.isfinite(row["loss"]) for row in rows)
    assert clock.now <= 1200
    assert step.rates[-1] < 0.05 * RATE


def test_going_back_amid_the_cool_down_goes_on_cooling(run: Run, clock: Clock) -> None:
    step = FakeStep(clock)
    step.bad = {3400}
    with pytest.warns(UserWarning, match="not finite"):
        train(run, step, clock, seconds=200.0)
    assert clock.now <= 1200
    assert run.finished
    cooling = step.rates[3420:]
    assert cooling == sorted(cooling, reverse=True)
    assert cooling[0] < step.rates[3390] / 2


def test_losses_that_stay_not_finite_end_the_run(run: Run, clock: Clock) -> None:
    step = FakeStep(clock)
    step.bad = set(range(10**6))
    with (
        pytest.warns(UserWarning, match="not finite"),
        pytest.raises(TrainingError, match=r"at 0\.03125 of the learning rate too; lower learning_rate"),
    ):
        train(run, step, clock, seconds=200.0)
    assert run.step == 0


def test_a_cool_down_of_another_process_is_ended_by_its_steps(run: Run, clock: Clock) -> None:
    """However long that takes, and saved every minute."""
    run.plan, run.schedule = Plan(None, 10.0, 5.0), Schedule(0, 0, 4000)
    started, saves = clock.now, []
    run.save = lambda: saves.append(clock.now)  # type: ignore[method-assign,misc,assignment]
    clock.now += 60
    step = FakeStep(clock)
    run.step = 1
    DeviceTraining(run, cast(DeviceStep, step), started, None).train()
    assert run.step == 4000
    assert run.finished
    assert len(saves) == 4
    assert step.rates == sorted(step.rates, reverse=True)


def test_minutes_that_loading_took_are_told(run: Run, clock: Clock) -> None:
    with pytest.warns(UserWarning, match="no step was taken"):
        train(run, FakeStep(clock), clock, loading=61.0, seconds=60.0)
    assert run.finished
    assert run.step == 0


def test_a_signal_ends_it_with_a_checkpoint(run: Run, clock: Clock) -> None:
    class Stopped(FakeStep):
        def step(self, rate: float, following: float, pull: float) -> None:
            super().step(rate, following, pull)
            if self.calls == 50:
                os.kill(os.getpid(), signal.SIGTERM)

    run._make_plan(None, 200.0, 0.25)
    ended = DeviceTraining(run, cast(DeviceStep, Stopped(clock)), clock.now, None).train()
    assert ended == signal.SIGTERM
    assert not run.finished
    assert read_checkpoint(run.folder, CPU)["step"] == run.step < 70


def test_a_real_run_by_this_loop_goes_on_by_the_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The whole of it with tiny sizes: pictures, steps, parts; then the CPU's loop from there."""
    from latentcodec.training.native import checkpoint, loop

    monkeypatch.setattr(checkpoint, "PART_BYTES", 100_000)
    write = checkpoint.write_checkpoint
    monkeypatch.setattr(loop, "write_checkpoint", lambda *a, in_parts: write(*a, in_parts=True))
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run._make_plan(2, None, 0.5)
    assert train_on_device(run, device_loop.time.monotonic(), None) is None
    assert run.step == 2
    assert not same_parameters(before, run.model.state_dict())
    assert len(list(run.folder.glob("checkpoint-2-*.part"))) > 2
    assert not (run.folder / "checkpoint.pt").exists()
    assert read_checkpoint(run.folder / "constant", CPU)["step"] == 1
    monkeypatch.setattr(loop, "write_checkpoint", write)
    resumed = Run.resume(run.folder, CPU)
    assert (resumed.step, resumed.finished) == (2, True)
    assert same_parameters(resumed.model.state_dict(), run.model.state_dict())
    assert same_parameters(resumed.average, run.average)
    group = resumed.optimiser.adam.param_groups[0]
    assert isinstance(group["lr"], float)
    assert group["capturable"] is False
    assert resumed.optimiser.moments()[-1].any()
    resumed.reopen()
    resumed.train(steps=1, cooldown=0.0)
    assert (run.folder / "checkpoint.pt").exists()
    assert not list(run.folder.glob("*.part"))
    assert Run.resume(run.folder, CPU).step == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_what_a_gpu_wrote_goes_on_on_both(made: Run, tmp_path: Path) -> None:
    device = torch.device("cuda")
    config = TrainingConfig(**(vars(made.config) | {"drawn": 0.05}))
    run = Run.create(tmp_path / "run", config, tiny_config(), device)
    run.train(steps=6, cooldown=0.5)
    assert not (run.folder / "checkpoint.pt").exists()
    for where in (device, CPU, device):
        resumed = Run.resume(tmp_path / "run", where)
        step = resumed.step
        resumed.reopen()
        resumed.train(steps=2, cooldown=0.0)
        assert Run.resume(tmp_path / "run", where).step == step + 2
    assert Run.resume(tmp_path / "run" / "constant", CPU).step == 3
