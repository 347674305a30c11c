"""The palette quantiser: the method of 2022."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.codec import palette
from latentcodec.errors import MalformedFile


def latents(channels: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, height, width))


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 9), st.integers(1, 24), st.integers(1, 24))
def test_round_trip(channels: int, height: int, width: int) -> None:
    stream, values = palette.quantise(latents(channels, height, width))
    decoded = palette.dequantise(stream, channels, height, width)
    assert (decoded == values).all()
    assert palette.digest(decoded) == palette.digest(values)


def test_few_colours_are_kept_exactly() -> None:
    wanted = palette.to_latents(np.arange(8 * 4).reshape(4, 2, 4) * 7)
    _, values = palette.quantise(wanted)
    assert np.allclose(palette.to_latents(values), wanted)


def test_the_dither_keeps_the_mean() -> None:
    _, values = palette.quantise(latents(4, 64, 64))
    wanted = latents(4, 64, 64)
    assert abs(palette.to_latents(values).mean((1, 2)) - wanted.mean((1, 2))).max() < 0.03


def test_the_step_is_that_of_2022() -> None:
    assert np.diff(palette.to_latents(np.array([0, 1, 255])))[0] == pytest.approx(0.18215**2, rel=1e-4)


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"junk", "palette"),
        (zstandard.compress(bytes(100)), "holds 100 bytes"),
        (zstandard.compress(bytes(1 << 24)), "holds 16777216 bytes"),
    ],
)
def test_streams_of_the_wrong_size(stream: bytes, complaint: str) -> None:
    with pytest.raises(MalformedFile, match=complaint):
        palette.dequantise(stream, 4, 8, 8)


def test_a_cut_stream() -> None:
    stream, _ = palette.quantise(latents(4, 8, 8))
    with pytest.raises(MalformedFile, match="zstandard"):
        palette.dequantise(stream[:-3], 4, 8, 8)
