"""Training on a GPU: the device is never waited for but twice a second, and a plan in minutes ends in time.

    started ─► pictures to the device ─► prepare ─► warm-up ─► constant rate ─► cool-down ─► saved ─► the end
    (before pictures were loaded)                   └─ some steps ─► sums ─► finite? ─┐
                                                       └───── log, save ◄─────────────┘ no: back, half rate

When the cool-down begins, the run as it then is goes into RUN/constant, a run of its own from which training
can go on at the constant rate. Crops come from the device's own random numbers: resuming is not exact here.
"""

from __future__ import annotations

import math
import signal
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from latentcodec.errors import TrainingError
from latentcodec.training.native.device_pictures import DevicePictures
from latentcodec.training.native.device_step import DeviceStep
from latentcodec.training.native.run_folder import CONFIG
from latentcodec.training.native.schedule import Schedule
from latentcodec.training.stopping import noted_signals

if TYPE_CHECKING:
    from latentcodec.training.native.loop import Run

Progress = Callable[[dict[str, Any]], None]

WAIT_SECONDS = 0.5  # steps are launched ahead for so long
LOG_SECONDS = 10.0
SAVE_SECONDS = 60.0
KEEP_SECONDS = 15.0  # how old the state may be that a loss that is not finite leads back to
MOST_RETURNS = 5
_FIRST_SAVE = 2.0  # seconds that saving is taken to need until it was measured
_LEAVING = 2.0  # seconds that the process needs to end
_LARGEST_RESERVE = 0.1  # of a plan


def train_on_device(run: Run, started: float, progress: Progress | None) -> signal.Signals | None:
    """Carry out the run's plan on its device; the signal that ended it, if one did.

    started: the moment, on time.monotonic's clock, from which a plan in seconds counts. Raises TrainingError
    where pictures or steps do not fit the device, or the loss is not finite again and again.
    """
    config = run.config
    torch.manual_seed(config.seed * 1_000_003 + run.step)
    pictures = DevicePictures(run.pictures, config.crop, run.device, drawn=config.drawn, seed=config.seed)
    step = DeviceStep(run.model, run.average, run.optimiser, pictures, config)
    try:
        step.prepare()
        return DeviceTraining(run, step, started, progress).train()
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"{run.folder}: {config.batch} crops of {config.crop}x{config.crop} and "
            f"{pictures.bytes / 1e9:.1f} GB of pictures are more than {run.device} has memory for; use "
            "smaller crops (--crop), or fewer (--batch)"
        ) from error


class DeviceTraining:
    """The loop over a step that stays on the device."""

    def __init__(self, run: Run, step: DeviceStep, started: float, progress: Progress | None) -> None:
        self.run, self.step, self.started, self.progress = run, step, started, progress
        self._before = run.seconds
        self._begun = self._saved = self._logged = self._kept_at = time.monotonic()
        self._taken = 0  # steps in this process
        self._each = WAIT_SECONDS  # seconds a step
        self._longest_save = _FIRST_SAVE
        self._scale, self._returns = 1.0, 0
        self._kept, self._kept_step = step.kept(), run.step
        self._sums: dict[str, float] = {}
        self._summed = 0
        self._cooling_by_time = False

    def train(self) -> signal.Signals | None:
        """To the end of the plan, or to a signal, which is returned."""
        run = self.run
        with noted_signals() as noted:
            while not noted and not run.finished and not self._ends_within(0.0):
                self._plan_cool_down()
                self._take(self._count())
                now = time.monotonic()
                run.seconds = self._before + now - self.started
                if now - self._logged > LOG_SECONDS:
                    self._log(now)
                if now - self._saved > SAVE_SECONDS and not self._ends_within(2 * self._longest_save):
                    self._save(run.save)
            if self._summed:
                self._log(time.monotonic())
            if not noted:
                self._close()
            self._save(run.save)
        return noted[0] if noted else None

    @property
    def _end(self) -> float | None:
        """The moment at which the last step has to be done; None where steps decide.

        They do in a cool-down that another process began, whatever the plan in seconds was.
        """
        planned = self.run.plan.end_seconds
        if planned is None or (self.run.schedule.cooldown_start is not None and not self._cooling_by_time):
            return None
        length = planned - self._before
        reserve = 1.5 * self._longest_save + _LEAVING + WAIT_SECONDS
        return self.started + length - min(reserve, _LARGEST_RESERVE * length)

    def _ends_within(self, seconds: float) -> bool:
        return self._end is not None and self._end - time.monotonic() < seconds

    def _plan_cool_down(self) -> None:
        """Begin it when its time has come, and stretch one that has begun to what time is left."""
        run, end, begins = self.run, self._end, self.run.plan.cooldown_seconds
        schedule = run.schedule
        if end is not None and begins and schedule.cooldown_start is None:
            if end - time.monotonic() > begins:
                return
            self._save(run.save_constant)
            self._cooling_by_time = True
            schedule = run.schedule = Schedule(schedule.warm_up, run.step, 1)
        elif schedule.cooldown_start == run.step and not self._cooling_by_time:
            self._save(run.save_constant)
        if self._cooling_by_time and end is not None and schedule.cooldown_start is not None:
            left = max(1, round((end - time.monotonic()) / self._each))
            schedule.cooldown_steps = run.step - schedule.cooldown_start + left

    def _count(self) -> int:
        """How many steps to launch at once: no more than to where something changes."""
        run, count = self.run, max(1, round(WAIT_SECONDS / self._each))
        start, end = run.schedule.cooldown_start, run.plan.end_step
        if end is not None:
            count = min(count, end - run.step)
        if start is not None:
            border = start if run.step < start else start + run.schedule.cooldown_steps
            count = min(count, border - run.step)
        return max(1, count)

    def _take(self, count: int) -> None:
        """Take so many steps, and wait for them; go back where their losses are not finite."""
        run, config, begun = self.run, self.run.config, time.monotonic()
        for step in range(run.step, run.step + count):
            rate = self._scale * config.learning_rate * run.schedule.factor(step)
            following = 1 - min(config.average, (2 + step) / (11 + step))
            self.step.step(rate, following, float(step >= config.hyper_free))
        sums = self.step.take_sums()
        now = time.monotonic()
        self._each = max(1e-6, (now - begun) / count)
        self._taken += count
        run.step += count
        if not all(map(math.isfinite, sums.values())):
            self._go_back()
            return
        self._sums = {name: self._sums.get(name, 0.0) + value for name, value in sums.items()}
        self._summed += count
        if now - self._kept_at > KEEP_SECONDS:
            self._kept, self._kept_step, self._kept_at = self.step.kept(), run.step, now

    def _go_back(self) -> None:
        """To the last state that was kept, at half the rate; TrainingError after MOST_RETURNS times."""
        run = self.run
        self.step.go_back(self._kept)
        lost = run.step - self._kept_step
        failed, run.step = run.step, self._kept_step
        self._returns += 1
        if self._returns > MOST_RETURNS:
            raise TrainingError(
                f"{run.folder}: the loss is not finite at step {failed}, at {self._scale:g} of the learning "
                f"rate too; lower learning_rate (now {run.config.learning_rate:g}) in its {CONFIG} and resume"
            )
        self._scale /= 2
        if self._cooling_by_time and run.schedule.cooldown_start is not None:
            run.schedule.cooldown_start -= lost  # time goes on, and with it the cool-down
        warnings.warn(
            f"the loss is not finite at step {failed}: back to step {run.step}, at {self._scale:g} of the "
            "learning rate",
            stacklevel=2,
        )

    def _save(self, save: Callable[[], None]) -> None:
        begun = time.monotonic()
        save()
        self._saved = time.monotonic()
        self._longest_save = max(self._longest_save, self._saved - begun)

    def _log(self, now: float) -> None:
        run, speed = self.run, self._taken / max(1e-6, now - self._begun)
        means = {name: value / self._summed for name, value in self._sums.items()} if self._summed else {}
        remaining = run.remaining(speed) if self._end is None else max(0.0, self._end - now)
        self._logged = now
        if means:
            run.log(now - self.started, speed, means, remaining, self.progress)
        self._sums, self._summed = {}, 0

    def _close(self) -> None:
        """A plan that time has ended is carried out: `finished` says so from now on."""
        schedule, plan = self.run.schedule, self.run.plan
        if not self._taken:
            warnings.warn("no step was taken: loading took all of --minutes; give it more", stacklevel=2)
        if schedule.cooldown_start is not None and self._cooling_by_time:
            schedule.cooldown_steps = min(schedule.cooldown_steps, self.run.step - schedule.cooldown_start)
        elif plan.end_seconds is not None and not self.run.finished:
            plan.end_seconds, plan.cooldown_seconds = self.run.seconds, 0.0
