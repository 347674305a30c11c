"""The training loop, with exact resume.

RUN/config.json       sizes, seed, optimiser, picture folder: fixed when the run is made
RUN/checkpoint.pt     step, weights, their moving average, moments, schedule, plan: replaced atomically
RUN/log.jsonl         one line every LOG_EVERY steps
RUN/constant          on a GPU: the run before its cool-down

Each step seeds its own random numbers from (seed, step), so 20 steps equal 10 + a new process + 10, bit for
bit (on one machine with one thread count). The schedule is warm-up, constant, then a cool-down to zero that
starts when the run is asked to end: `schedule` holds the step where it began and its length, `plan` where the
run is to end. SIGINT and SIGTERM end it after a step, with a checkpoint. On a GPU device_loop.py does it.
"""

from __future__ import annotations

import json
import math
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcodec.atomic import write_atomically
from latentcodec.errors import TrainingError
from latentcodec.nn.knots import MAX_LEVEL
from latentcodec.nn.native.config import NativeConfig
from latentcodec.nn.native.model import NativeModel
from latentcodec.nn.native.transform import bound_gains
from latentcodec.picture.picture import Pixels
from latentcodec.training.data import batch, find_training_pictures, is_held_out, load_pictures
from latentcodec.training.native.checkpoint import write_checkpoint
from latentcodec.training.native.device_loop import train_on_device
from latentcodec.training.native.losses import rate_distortion_loss
from latentcodec.training.native.run_folder import (
    CONFIG,
    LOG,
    damaged_checkpoint,
    logged_seconds,
    native_config,
    read_checkpoint,
    read_config,
)
from latentcodec.training.native.schedule import Plan, Schedule
from latentcodec.training.native.settings import TrainingConfig
from latentcodec.training.optimiser import Optimiser, in_layout_of
from latentcodec.training.provenance import describe_hardware, describe_pictures
from latentcodec.training.stopping import noted_signals

LOG_EVERY = 20
CHECKPOINT_SECONDS = 240.0
CONSTANT = "constant"


class Run:
    """A training run on disk and in memory."""

    def __init__(
        self,
        folder: Path,
        config: TrainingConfig,
        native: NativeConfig,
        device: torch.device,
        init: dict[str, Tensor] | None = None,
    ) -> None:
        self.folder, self.config, self.device = folder, config, device
        torch.manual_seed(config.seed)
        self.model = NativeModel(native).to(device)
        if init is not None:
            self.model.load_state_dict(init)
        if device.type == "cuda":
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # quickest there
        source = Path(config.pictures)
        paths = find_training_pictures(source)
        self.origin: dict[str, Any] = {"pictures": describe_pictures(source, paths)}
        chosen = [p for p in paths if not is_held_out(p)]
        if not chosen:
            raise TrainingError(
                f"{source}: all of its {len(paths)} pictures are held out for validation; add more"
            )
        self.pictures: list[Pixels] = load_pictures(chosen, config.crop)
        if init is None:
            self.model.calibrate(batch(self.pictures, config.seed, -1 % 2**31, 64, config.crop).to(device))
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        for fixed in (self.model.analysis, self.model.entropy):
            fixed.requires_grad_(not config.only_synthesis)
        trained = ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
        self.optimiser = Optimiser(trained, muon=config.muon)
        self._loss = rate_distortion_loss
        if config.compile and device.type != "cuda":  # there two parts are: device_step.py
            for part in (self.model.analysis, self.model.entropy, self.model.synthesis):
                part.compile(dynamic=False)
            self._loss = torch.compile(rate_distortion_loss, dynamic=False)
        self.schedule = Schedule(config.warm_up)
        self.plan = Plan()
        self.step = 0
        self.seconds = 0.0  # of training, in all processes
        self.hardware = [describe_hardware(device)]
        self.torch = [str(torch.__version__)]
        self.stopped_by: signal.Signals | None = None

    @classmethod
    def create(
        cls,
        folder: Path,
        config: TrainingConfig,
        native: NativeConfig,
        device: torch.device,
        init: dict[str, Tensor] | None = None,
        origin: str | None = None,
    ) -> Run:
        """A new run, from scratch or from the parameters `init`; `origin` says for the card whose they are.

        Raises TrainingError where the folder already holds one, or the pictures cannot be used.
        """
        if (folder / CONFIG).exists():
            raise TrainingError(f"{folder}: already holds a run; resume it, or name another folder")
        if init is not None:  # its hyperprior is alive: letting it loose would only undo it
            config = replace(config, hyper_free=0)
        run = cls(folder, config, native, device, init)
        run.origin["init"] = origin
        folder.mkdir(parents=True, exist_ok=True)
        run.save()
        run._write_config(folder)  # last: a folder that has it holds a whole run
        return run

    @classmethod
    def resume(cls, folder: Path, device: torch.device, *, pictures: Path | None = None) -> Run:
        """Continue a run from its last checkpoint, with its pictures in another folder if they have moved.

        Raises TrainingError where the folder holds no run or a damaged one, or the pictures are gone.
        """
        values = read_config(folder)
        native = native_config(values, folder)
        try:
            config = TrainingConfig(**values["training"])
        except TypeError as error:
            raise TrainingError(
                f"{folder / CONFIG}: training options of another version ({error})"
            ) from error
        if pictures is not None:
            config = replace(config, pictures=str(pictures))
        if not Path(config.pictures).is_dir():
            raise TrainingError(
                f"{folder}: its pictures are in {config.pictures}, which is not there (any more); bring them "
                "back, or name the folder that holds them now (--pictures)"
            )
        state = read_checkpoint(folder, device)
        try:
            run = cls(folder, config, native, device, state["model"])
            run._load(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise damaged_checkpoint(folder, error) from error
        run._compare_pictures(values)
        if pictures is not None:
            run._write_config(folder)
        return run

    def _load(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state, the model's parameters aside."""
        if state["average"].keys() != self.average.keys():
            raise ValueError("the moving average has other parameters than the model")
        self.average = {name: in_layout_of(own, state["average"][name]) for name, own in self.average.items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule = Schedule(**state["schedule"])
        self.plan = Plan(**state.get("plan", {}))
        self.step = state["step"]
        self.seconds = state.get("seconds", 0.0) or logged_seconds(self.folder)
        for ours, stored in (
            (self.hardware, state.get("hardware", [])),
            (self.torch, state.get("torch", [])),
        ):
            ours[:0] = [each for each in stored if each not in ours]

    def _compare_pictures(self, values: dict[str, Any]) -> None:
        """Warn where the pictures are not those that the run was made with."""
        self.origin["init"] = values.get("init")
        noted = values.get("pictures")
        if isinstance(noted, dict) and noted.get("sha256") != self.origin["pictures"]["sha256"]:
            warnings.warn(
                f"{self.config.pictures}: not the {noted.get('count')} pictures that {self.folder} began "
                "with: training goes on with what is there, not exactly as it would have",
                stacklevel=3,
            )

    def _write_config(self, folder: Path) -> None:
        values = {"training": asdict(self.config), "native": self.model.config.to_dict()} | self.origin
        write_atomically(folder / CONFIG, json.dumps(values, indent=1).encode())

    def save(self, folder: Path | None = None) -> None:
        """Write the checkpoint, replacing the last one of the run's folder (or of another) atomically."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "schedule": asdict(self.schedule),
            "plan": asdict(self.plan),
            "seconds": self.seconds,
            "hardware": self.hardware,
            "torch": self.torch,
        }
        write_checkpoint(folder or self.folder, state, in_parts=self.device.type == "cuda")

    def save_constant(self) -> None:
        """Write the run as it is into RUN/constant, a run without a plan, whose rate is the constant one."""
        folder = self.folder / CONSTANT
        folder.mkdir(exist_ok=True)
        schedule, plan = self.schedule, self.plan
        self.reopen()
        self.save(folder)
        self._write_config(folder)
        self.schedule, self.plan = schedule, plan

    def train_step(self) -> dict[str, float]:
        """One step. Returns the parts of the loss."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        x = batch(self.pictures, config.seed, self.step, config.batch, config.crop, config.drawn)
        x = x.to(self.device)
        # Stratified levels: every batch covers the whole range of rates; the ends get a little more.
        level = (torch.arange(config.batch) + torch.rand(config.batch)) / config.batch
        level = ((1.04 * level - 0.02) * MAX_LEVEL).clamp(0, MAX_LEVEL).to(self.device)
        self.model.entropy.hyper_pull = float(self.step >= config.hyper_free)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.autocast):
            decoded, bits = self.model(x, level, relaxed=not config.only_synthesis)
        loss, tensors = self._loss(x, decoded, bits, level, config.structure, config.visible)
        parts = {name: float(value) for name, value in tensors.items()}
        if not math.isfinite(parts["loss"]):
            raise TrainingError(
                f"{self.folder}: the loss is {parts['loss']} at step {self.step}; "
                f"lower learning_rate (now {config.learning_rate:g}) in {CONFIG} and resume"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step(config.learning_rate * self.schedule.factor(self.step))
        bound_gains(self.model.analysis, self.model.synthesis)
        self.step += 1
        decay = min(config.average, (1 + self.step) / (10 + self.step))
        own = self.model.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [own[k] for k in self.average], 1 - decay)
        return parts | {"norm": float(norm)}

    def train(
        self,
        *,
        steps: int | None = None,
        seconds: float | None = None,
        cooldown: float = 0.25,
        progress: Callable[[dict[str, Any]], None] | None = None,
        started: float | None = None,
    ) -> None:
        """Train for `steps` more steps, or for `seconds`, the last `cooldown` share at a falling rate.

        cooldown=0 leaves the rate constant, to be continued. With neither, the plan of the last call is
        carried out; where there is none, training goes on until a signal ends it. `progress` gets the means
        of the last LOG_EVERY steps, the steps a second and the seconds that remain. Saves every few minutes
        and at the end; `stopped_by` then says which signal came, if any. On a GPU `seconds` hold all of it
        since the moment `started` (of time.monotonic), the last save too. Raises TrainingError where the loss
        is not finite.
        """
        begun = saved = time.monotonic()
        if steps is not None or seconds is not None:
            self._make_plan(steps, seconds, cooldown)
        if self.device.type == "cuda":
            self.stopped_by = train_on_device(self, begun if started is None else started, progress)
            return
        first, before = self.step, self.seconds
        rows: list[dict[str, float]] = []

        def note() -> None:
            elapsed = time.monotonic() - begun
            rate = (self.step - first) / elapsed
            means = {name: sum(r[name] for r in rows) / len(rows) for name in rows[0]}
            self.log(elapsed, rate, means, self.remaining(rate), progress)
            rows.clear()

        with noted_signals() as noted:
            while not noted and not self.finished:
                rows.append(self.train_step())
                elapsed = time.monotonic() - begun
                self.seconds = before + elapsed
                self._cool_down((self.step - first) / elapsed)
                if self.step % LOG_EVERY == 0:
                    note()
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self.save()
                    saved = time.monotonic()
            if rows:
                note()
            self.save()
        self.stopped_by = noted[0] if noted else None

    def log(
        self,
        seconds: float,
        rate: float,
        means: dict[str, float],
        remaining: float | None,
        progress: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        """Write a line to log.jsonl, and tell `progress`: means of the last steps, `rate` steps a second."""
        row = {"step": self.step, "seconds": seconds, "rate": rate} | means
        with open(self.folder / LOG, "a", encoding="utf-8") as log:
            log.write(json.dumps({k: round(v, 5) for k, v in row.items()}) + "\n")
        if progress:
            cooling = self.schedule.cooldown_start is not None
            progress(row | {"cooling": cooling, "remaining": remaining})

    @property
    def finished(self) -> bool:
        """Whether the plan is carried out."""
        plan = self.plan
        if self.schedule.ended(self.step) or (plan.end_step is not None and self.step >= plan.end_step):
            return True
        constant = self.schedule.cooldown_start is None and not plan.cooldown_seconds
        return constant and plan.end_seconds is not None and self.seconds >= plan.end_seconds

    def reopen(self) -> None:
        """Set the rate back to its constant part, for a new plan after or amid a cool-down."""
        self.schedule, self.plan = Schedule(self.config.warm_up), Plan()

    def _make_plan(self, steps: int | None, seconds: float | None, cooldown: float) -> None:
        self.plan = Plan(
            None if steps is None else self.step + steps,
            None if seconds is None else self.seconds + seconds,
            0.0 if seconds is None else cooldown * seconds,
        )
        if steps is not None and cooldown and self.schedule.cooldown_start is None:
            length = round(cooldown * steps)
            self.schedule = Schedule(self.config.warm_up, self.step + steps - length, length)

    def _cool_down(self, rate: float) -> None:
        """Begin the cool-down of a plan in seconds when its time has come; rate: steps a second so far."""
        plan = self.plan
        if plan.end_seconds is None or not plan.cooldown_seconds or self.schedule.cooldown_start is not None:
            return
        if self.seconds >= plan.end_seconds - plan.cooldown_seconds:
            length = max(1, round(rate * plan.cooldown_seconds))
            self.schedule = Schedule(self.config.warm_up, self.step, length)

    def remaining(self, rate: float) -> float | None:
        """Seconds that the plan will still take at `rate` steps a second; None where it has no end."""
        schedule, plan = self.schedule, self.plan
        if schedule.cooldown_start is not None:
            return (schedule.cooldown_start + schedule.cooldown_steps - self.step) / rate
        if plan.end_step is not None:
            return (plan.end_step - self.step) / rate
        return None if plan.end_seconds is None else max(0.0, plan.end_seconds - self.seconds)
