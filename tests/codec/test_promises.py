"""What the product promises of every photograph: 5,000 bytes at 512x512."""

from __future__ import annotations

import numpy as np
import pytest

from latentcodec.codec.api import Codec
from latentcodec.picture.picture import Pixels
from tests.conftest import photograph


def busy() -> Pixels:
    """512x512 of the busiest that photographs get: grain all over a picture full of edges."""
    picture = np.tile(photograph("coffee", 256, 256), (2, 2, 1)).astype(float)
    grain = np.random.default_rng(1).normal(0, 25, picture.shape)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", [pytest.param("astronaut", marks=pytest.mark.slow), "busy"])
def test_512x512_reaches_5000_bytes(codec: Codec, name: str) -> None:
    picture = busy() if name == "busy" else photograph(name)
    data = codec.encode(picture, target_size=5000)
    assert 4950 <= len(data) <= 5000
    assert codec.decode(data).size == (512, 512)


def test_quality_0_is_small_and_quality_100_is_close(codec: Codec) -> None:
    picture = photograph("coffee")
    bits = 8 * len(codec.encode(picture, quality=0)) / (picture.shape[0] * picture.shape[1])
    assert bits <= 0.06
    decoded = np.asarray(codec.decode(codec.encode(picture, quality=100)), dtype=float)
    assert 10 * np.log10(255**2 / np.mean((decoded - picture) ** 2)) >= 38
