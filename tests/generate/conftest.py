"""A model of a few thousand random weights as a Generator, loaded from its folder once."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentcodec.generate.generator import Generator
from tests.toy_diffusion import know_toys, save_model


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("generate") / "toy")


@pytest.fixture
def known_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toys are found to be of Stable Diffusion 1.x."""
    know_toys(monkeypatch)


@pytest.fixture(scope="session")
def toy(toy_folder: Path) -> Generator:
    with pytest.MonkeyPatch.context() as patch:
        know_toys(patch)
        return Generator.open(toy_folder, device="cpu")
