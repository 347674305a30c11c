"""Models on disk that the tests of the store share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAEF2, TAESD, TinyAutoencoder
from tests.weights.made_checkpoints import random_network


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A folder with an encoder and a decoder, and what is neither."""
    folder = tmp_path / "pair"
    folder.mkdir()
    network = random_network(lambda: TinyAutoencoder(TAEF2))
    for half in ("encoder", "decoder"):
        torch.save(getattr(network, half).state_dict(), folder / f"mine_{half}.pth")
    (folder / "LICENSE").write_text("MIT")
    return folder


@pytest.fixture
def single(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_file(random_network(lambda: TinyAutoencoder(TAESD)).state_dict(), path)
    return path
