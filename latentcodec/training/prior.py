"""Fits an entropy model to the latents of an autoencoder that stays as it is.

    LatentSet ─► batch: latents in steps, levels ─► entropy model ─► bits ─► log ─► mean ─► gradients
                                                     moving average ─► the model that is exported

There is no distortion in the loss: the steps fix it. The logarithm makes a percent of every rate count alike.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import torch

from latentcodec.codec.steps import visible_step
from latentcodec.errors import InvalidArgument, TrainingError
from latentcodec.nn.entropy_model import EntropyConfig, TrainableEntropyModel
from latentcodec.nn.layers import KNOTS, LEVELS_PER_KNOT
from latentcodec.training.optimiser import Optimiser
from latentcodec.training.prior_data import LatentSet

LOG_EVERY = 20
BATCH = 8  # windows a step
_LEARNING_RATE = 2e-3
_LEAST_RATE = 0.02  # bits a latent, added to the rates: below it a percent matters less
_WARM_UP, _COOL_DOWN = 30, 0.4  # steps, and the share of the time
_AVERAGE = 0.99  # of the moving average


def prior_config(latents: int) -> EntropyConfig:
    """A small entropy model for so many channels; below 1 MiB for up to 32. Raises InvalidArgument."""
    if latents % 4:
        raise InvalidArgument(f"a prior needs a multiple of 4 latent channels, the autoencoder has {latents}")
    return EntropyConfig(latents=latents, hyper=16, hyper_hidden=64, features=64, context=96, analysis=64)


def start_model(data: LatentSet, seed: int) -> TrainableEntropyModel:
    """An entropy model that begins with the statistics of these latents."""
    torch.manual_seed(seed)
    latents = data.latents.shape[1]
    model = TrainableEntropyModel(prior_config(latents))
    finer = [math.log(visible_step(0) / visible_step(knot * LEVELS_PER_KNOT)) for knot in range(KNOTS)]
    model.calibrate(data.at_level(0, 32), torch.tensor(finer)[:, None].expand(KNOTS, latents))
    return model


def fit_prior(
    data: LatentSet,
    *,
    seed: int = 1,
    steps: int | None = None,
    seconds: float | None = None,
    device: torch.device | None = None,
    stopped: Callable[[], object] = lambda: False,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[TrainableEntropyModel, int]:
    """Train for `steps` or `seconds`, the last part at a falling rate, or until stopped() is true.

    progress gets step, rate (steps a second), seconds, remaining (None without an end) and bits a latent.
    Returns the moving average of the model, on the CPU, and the steps taken. Raises TrainingError where the
    loss is not finite, or where stopped() is true before the first step.
    """
    model = start_model(data, seed).to(device)
    average = copy.deepcopy(model)
    optimiser = Optimiser(model.named_parameters())
    begun, rates, step = time.monotonic(), [], 0
    while not stopped():
        elapsed = time.monotonic() - begun
        done = max(step / steps if steps else 0.0, elapsed / seconds if seconds else 0.0)
        if done >= 1:
            break
        torch.manual_seed(seed * 1_000_003 + step)
        y, level = (tensor.to(device) for tensor in data.batch(seed, step, BATCH))
        _, bits_y, bits_z = model(y, level)
        rate = (bits_y + bits_z) / y[0].numel()
        loss = (rate + _LEAST_RATE).log().mean()
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
            progress(row | {"remaining": elapsed * (1 - done) / done if done else None})
            rates.clear()
    if not step:
        raise TrainingError("stopped before the first step: there is no prior to write")
    return average.cpu(), step


def _factor(step: int, done: float) -> float:
    """What the learning rate is multiplied with; done: the share of the whole that is over."""
    late = max(0.0, done - (1 - _COOL_DOWN)) / _COOL_DOWN
    return min(1.0, (step + 1) / _WARM_UP) * (1 - 0.98 * late)
