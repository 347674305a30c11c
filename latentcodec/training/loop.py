"""The training loop, with exact resume.

    RUN/config.json       sizes, seed, optimiser, picture folder: fixed when the run is made
    RUN/checkpoint.pt     step, weights, their moving average, moments, schedule: replaced atomically
    RUN/log.jsonl         one line every LOG_EVERY steps

Each step seeds its own random numbers from (seed, step), so 20 steps equal 10 + a new process + 10, bit for
bit (on one machine with one thread count). The schedule is warm-up, constant, then a cool-down to zero that
starts when the run is told to end: `schedule` holds the step where it began and its length.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcodec.errors import TrainingError
from latentcodec.nn.layers import MAX_LEVEL
from latentcodec.nn.native import NativeConfig, NativeModel
from latentcodec.training.data import Pixels, batch, find_pictures, is_held_out, load_pictures
from latentcodec.training.losses import rate_distortion_loss
from latentcodec.training.optimiser import Optimiser

LOG_EVERY = 20
CHECKPOINT_SECONDS = 240.0


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What a run is made of. Everything that its result depends on, pictures and machine aside."""

    pictures: str
    seed: int = 1
    batch: int = 16
    crop: int = 128
    learning_rate: float = 1e-3
    warm_up: int = 200
    structure: float = 0.5
    average: float = 0.999
    clip: float = 200.0
    muon: bool = True
    autocast: bool = True


@dataclass
class Schedule:
    """The learning rate as a function of the step; `cooldown_start` is None while the rate is constant."""

    warm_up: int
    cooldown_start: int | None = None
    cooldown_steps: int = 0

    def factor(self, step: int) -> float:
        """What the peak learning rate is multiplied with at a step."""
        factor = min(1.0, (step + 1) / self.warm_up)
        if self.cooldown_start is not None:
            done = (step - self.cooldown_start) / max(self.cooldown_steps, 1)
            factor *= max(0.0, 1 - math.sqrt(min(1.0, max(0.0, done))) * 0.98)
        return factor

    def ended(self, step: int) -> bool:
        """Whether the cool-down is over."""
        return self.cooldown_start is not None and step >= self.cooldown_start + self.cooldown_steps


class Run:
    """A training run on disk and in memory."""

    def __init__(
        self, folder: Path, config: TrainingConfig, native: NativeConfig, device: torch.device, init: dict[str, Tensor] | None = None
    ) -> None:
        self.folder, self.config, self.device = folder, config, device
        torch.manual_seed(config.seed)
        self.model = NativeModel(native).to(device)
        if init is not None:
            self.model.load_state_dict(init)
        paths = find_pictures(Path(config.pictures))
        self.pictures: list[Pixels] = load_pictures([p for p in paths if not is_held_out(p)])
        if init is None:
            self.model.calibrate(batch(self.pictures, config.seed, -1 % 2**31, 64, config.crop).to(device))
        self.average = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimiser = Optimiser(self.model.named_parameters(), muon=config.muon)
        self.schedule = Schedule(config.warm_up)
        self.step = 0

    @classmethod
    def create(
        cls,
        folder: Path,
        config: TrainingConfig,
        native: NativeConfig,
        device: torch.device,
        init: dict[str, Tensor] | None = None,
    ) -> Run:
        """A new run. Raises TrainingError where the folder already holds one."""
        if (folder / "config.json").exists():
            raise TrainingError(f"{folder}: already holds a run; resume it, or name another folder")
        run = cls(folder, config, native, device, init)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"training": asdict(config), "native": native.to_dict()}, indent=1))
        run.save()
        return run

    @classmethod
    def resume(cls, folder: Path, device: torch.device) -> Run:
        """Continue a run from its last checkpoint."""
        try:
            values = json.loads((folder / "config.json").read_text())
            state = torch.load(folder / "checkpoint.pt", map_location=device, weights_only=True)
        except FileNotFoundError as error:
            raise TrainingError(f"{folder}: no training run here ({error.filename} is missing)") from error
        run = cls(folder, TrainingConfig(**values["training"]), NativeConfig.from_dict(values["native"]), device)
        run.model.load_state_dict(state["model"])
        run.average = state["average"]
        run.optimiser.load_state_dict(state["optimiser"])
        run.schedule = Schedule(**state["schedule"])
        run.step = state["step"]
        return run

    def save(self) -> None:
        """Write the checkpoint, replacing the last one atomically."""
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "schedule": asdict(self.schedule),
        }
        temporary = self.folder / "checkpoint.tmp"
        torch.save(state, temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def train_step(self) -> dict[str, float]:
        """One step. Returns the parts of the loss."""
        config = self.config
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        x = batch(self.pictures, config.seed, self.step, config.batch, config.crop).to(self.device)
        # Stratified levels: every batch covers the whole range of rates; the ends get a little more.
        level = (torch.arange(config.batch) + torch.rand(config.batch)) / config.batch
        level = ((1.04 * level - 0.02) * MAX_LEVEL).clamp(0, MAX_LEVEL).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.autocast):
            decoded, bits = self.model(x, level)
        loss, parts = rate_distortion_loss(x, decoded, bits, level, config.structure)
        if not math.isfinite(parts["loss"]):
            raise TrainingError(f"{self.folder}: the loss is {parts['loss']} at step {self.step}; resume with a lower rate")
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step(config.learning_rate * self.schedule.factor(self.step))
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
    ) -> None:
        """Train for `steps` more steps, or for `seconds`, the last `cooldown` share of them at a falling rate.

        cooldown=0 leaves the rate constant, to be continued. Saves every few minutes and at the end.
        """
        begun = saved = time.monotonic()
        first = self.step
        rows: list[dict[str, float]] = []
        if steps is not None and cooldown and self.schedule.cooldown_start is None:
            length = round(cooldown * steps)
            self.schedule = Schedule(self.config.warm_up, first + steps - length, length)
        while not self.schedule.ended(self.step) and (steps is None or self.step < first + steps):
            elapsed = time.monotonic() - begun
            if seconds is not None and self.schedule.cooldown_start is None:
                if elapsed >= seconds * (1 - cooldown):
                    if not cooldown:
                        break
                    rate = max(self.step - first, 1) / max(elapsed, 1e-3)
                    self.schedule = Schedule(self.config.warm_up, self.step, max(1, round(rate * seconds * cooldown)))
            rows.append(self.train_step())
            if self.step % LOG_EVERY == 0:
                elapsed = time.monotonic() - begun
                row = {"step": self.step, "seconds": elapsed, "rate": (self.step - first) / elapsed}
                row |= {name: sum(r[name] for r in rows) / len(rows) for name in rows[0]}
                with open(self.folder / "log.jsonl", "a") as log:
                    log.write(json.dumps({k: round(v, 5) for k, v in row.items()}) + "\n")
                if progress:
                    progress(row | {"cooling": self.schedule.cooldown_start is not None})
                rows = []
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
