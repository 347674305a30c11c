"""A small autoencoder with random weights, as a pair of files and as a codec."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentcodec.codec.api import Codec
from tests.toy_autoencoder import save_pair


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pair(tmp_path_factory.mktemp("models") / "toy", 1)


@pytest.fixture(scope="module")
def toy(pair: Path) -> Codec:
    return Codec(pair, "cpu")
