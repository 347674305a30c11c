"""Models on disk that the tests of the store share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAEF2, TAESD, TinyAutoencoder
from tests.weights.made_checkpoints import random_network


@pytest.fixture(scope="session")
def made_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an encoder and a decoder, and what is neither; not to be changed."""
    folder = tmp_path_factory.mktemp("pair")
    network = random_network(lambda: TinyAutoencoder(TAEF2))
    for half in ("encoder", "decoder"):
        torch.save(getattr(network, half).state_dict(), folder / f"mine_{half}.pth")
    (folder / "LICENSE").write_text("MIT")
    return folder


@pytest.fixture
def pair(made_pair: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(made_pair, tmp_path / "pair")


@pytest.fixture(scope="session")
def made_single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder in one file; not to be changed."""
    path = tmp_path_factory.mktemp("single") / "tiny.safetensors"
    save_file(random_network(lambda: TinyAutoencoder(TAESD)).state_dict(), path)
    return path


@pytest.fixture
def single(made_single: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copy(made_single, tmp_path / "tiny.safetensors")
