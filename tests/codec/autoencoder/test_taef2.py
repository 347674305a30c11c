"""A real autoencoder as a codec: TAEF2's published weights, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from latentcodec.codec.api import Codec
from latentcodec.codec.info import info
from latentcodec.errors import TargetUnreachable
from tests.conftest import photograph, psnr

SHARED = Path(__file__).resolve().parents[4] / "shared" / "weights"
pytestmark = pytest.mark.skipif(
    not (SHARED / "taef2_decoder.pth").exists(), reason="the weights of taef2 are not here"
)


@pytest.fixture(scope="module")
def taef2() -> Codec:
    return Codec(SHARED, "cpu")


@pytest.mark.slow
def test_taef2_end_to_end(taef2: Codec) -> None:
    pixels = photograph("astronaut", width=160, height=128)
    latent = taef2._latent
    assert latent is not None
    assert latent.identity.kind == "taef2"
    before, quality = 0, 0.0
    for level in (20, 50, 80):
        data = taef2.encode(pixels, quality=level)
        reached = psnr(pixels, np.asarray(taef2.decode(data)))
        assert len(data) > before
        assert reached > quality + 1
        before, quality = len(data), reached
    assert quality > 24


@pytest.mark.slow  # test_encoder.py has them of a smaller autoencoder
def test_taef2_meets_targets(taef2: Codec) -> None:
    pixels = photograph("astronaut", width=128, height=128)
    assert 990 <= len(taef2.encode(pixels, target_size=1000)) <= 1000
    data = taef2.encode(pixels, min_psnr=22)
    assert psnr(pixels, np.asarray(taef2.decode(data))) >= 22
    goal = info(data).goal
    assert goal is not None
    assert goal.psnr is not None
    assert goal.psnr >= 22
    with pytest.raises(TargetUnreachable):
        taef2.encode(pixels, min_psnr=60)


def test_taef2_beats_the_palette_by_a_quarter(taef2: Codec) -> None:
    pixels = photograph("astronaut", width=128, height=128)
    palette = taef2.encode(pixels, quantiser="palette")
    reached = psnr(pixels, np.asarray(taef2.decode(palette)))
    assert len(taef2.encode(pixels, min_psnr=reached)) < 0.75 * len(palette)


@pytest.mark.slow  # test_refine.py has it of a smaller autoencoder
def test_refinement_pays(taef2: Codec) -> None:
    pixels = photograph("coffee", width=64, height=64)
    size = len(taef2.encode(pixels, quality=50))
    plain, refined = (taef2.encode(pixels, target_size=size, effort=effort) for effort in (3, 5))
    assert len(refined) <= size
    gain = psnr(pixels, np.asarray(taef2.decode(refined))) - psnr(pixels, np.asarray(taef2.decode(plain)))
    assert gain > 0.5
