"""Fits a prior to the latents of an autoencoder that stays as it is.

    Examples ─► batch ─► network ─► bits of each sample / those of the adaptive coder ─► mean ─► gradients
                                    moving average ─► the model that is exported

There is no distortion in the loss: the steps fix it. The ratio makes a percent of every rate count alike.
The network's outputs begin at zero, which is the adaptive coder: training gains from the first step on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch

from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.codec.values.prior_network import PriorConfig
from latentcodec.errors import TrainingError
from latentcodec.training.optimiser import Optimiser
from latentcodec.training.prior.data import SHARE, Examples
from latentcodec.training.prior.model import TrainablePrior

LOG_EVERY = 20
BATCH = 8  # samples a step
PASSES = 3  # over the data, at most: 14 over 22 crops of taef2's made files a tenth larger at equal PSNR
_LEARNING_RATE = 3e-3
_LEAST_RATE = 0.02  # bits a latent, added to the rates: below it a percent matters less
_WARM_UP, _COOL_DOWN = 30, 0.5  # steps, and the share of the time
_AVERAGE = 0.99  # of the moving average


def start_model(data: Examples, seed: int) -> TrainablePrior:
    """A prior that does what the adaptive coder does."""
    torch.manual_seed(seed)
    return TrainablePrior(PriorConfig(latents=len(data.centres)), shipped_tables())


def fit_prior(
    data: Examples,
    *,
    seed: int = 1,
    steps: int | None = None,
    seconds: float | None = None,
    device: torch.device | None = None,
    stopped: Callable[[], object] = lambda: False,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[TrainablePrior, int]:
    """Train for `steps` or `seconds`, the last part at a falling rate, or until stopped() is true.

    Without `steps` it ends after PASSES passes over the data, however many seconds are left.
    progress gets step, rate (steps a second), seconds, remaining and bits a latent.
    Returns the moving average of the model, on the CPU, and the steps taken. Raises TrainingError where the
    loss is not finite, or where stopped() is true before the first step.
    """
    model, average = (start_model(data, seed).to(device) for _ in range(2))
    optimiser = Optimiser(model.named_parameters(), muon=False)
    steps = steps or PASSES * SHARE * len(data.quality) // BATCH
    begun, rates, step = time.monotonic(), [], 0
    while not stopped():
        elapsed = time.monotonic() - begun
        done = max(step / steps, elapsed / seconds if seconds else 0.0)
        if done >= 1:
            break
        batch = data.batch(seed, step, BATCH).to(device or torch.device("cpu"))
        rate = model(batch)
        loss = ((rate + _LEAST_RATE) / (batch.adaptive + _LEAST_RATE)).mean()
        if not math.isfinite(float(loss.detach())):
            raise TrainingError(f"the loss is {float(loss.detach())} at step {step}; try another --seed")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step(_LEARNING_RATE * _factor(step, done))
        step += 1
        own, decay = model.state_dict(), min(_AVERAGE, (1 + step) / (10 + step))
        averaged = average.state_dict()
        torch._foreach_lerp_(list(averaged.values()), [own[name] for name in averaged], 1 - decay)
        rates.append(float(rate.detach().mean()))
        if progress and step % LOG_EVERY == 0:
            elapsed = time.monotonic() - begun
            row = {"step": step, "rate": step / elapsed, "seconds": elapsed, "bits": sum(rates) / len(rates)}
            progress(row | {"remaining": elapsed * (1 - done) / done})
            rates.clear()
    if not step:
        raise TrainingError("stopped before the first step: there is no prior to write")
    return average.cpu(), step


@torch.no_grad()
def compare(model: TrainablePrior, data: Examples) -> tuple[float, float]:
    """Bits a latent that the prior takes, and that the adaptive coder takes, over all samples' positions."""
    start, every = start_model(data, 0), range(len(data.quality))
    batches = [data.take([sample], share=1) for sample in every]
    own, adaptive = (
        sum(float(network(batch)) for batch in batches) / len(batches) for network in (model, start)
    )
    return own, adaptive


def _factor(step: int, done: float) -> float:
    """What the learning rate is multiplied with; done: the share of the whole that is over."""
    late = max(0.0, done - (1 - _COOL_DOWN)) / _COOL_DOWN
    return min(1.0, (step + 1) / _WARM_UP) * (1 - 0.98 * late)
