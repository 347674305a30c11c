"""A training run that takes a second: two pictures, a tiny model, two steps of two crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from latentcodec.training.native.loop import Run, TrainingConfig
from tests.conftest import photograph, tiny_config

STEPS = 2


def make_pictures(folder: Path) -> Path:
    """Two pictures of 192x192 that are both trained on; the folder."""
    folder.mkdir()
    for name, sample in (("first", "astronaut"), ("second", "coffee")):
        Image.fromarray(photograph(sample, 192, 192)).save(folder / f"{name}.png")
    return folder


def make_run(folder: Path, pictures: Path) -> Run:
    """A run after STEPS steps, saved."""
    config = TrainingConfig(pictures=str(pictures), batch=2)
    run = Run.create(folder, config, tiny_config(), torch.device("cpu"))
    run.train(steps=STEPS, cooldown=0.0)
    return run


def same_parameters(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two states are the same, bit for bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[k].numpy(), b[k].numpy()) for k in a)
