"""Models for the commands that generate, made once, and pictures for them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.toy_pipelines import save_folder

Models = Callable[[str], Path]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """models(family): the folder of a small random model; not to be changed."""
    return cache(lambda family: save_folder(tmp_path_factory.mktemp("models") / f"toy-{family}", family))


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU too: pictures are compared bit for bit, alone and in batches."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def sd1(models: Models) -> Path:
    return models("sd1")


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """White in the lower half of 64x64."""
    path = tmp_path / "mask.png"
    Image.fromarray((np.mgrid[:64, :64][0] >= 32).astype(np.uint8) * 255).save(path)
    return path


def pixels_of(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
