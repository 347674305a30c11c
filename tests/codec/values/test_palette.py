"""The palette quantiser: the method of 2022."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.codec.values.palette import PaletteCoder
from latentcodec.errors import ChecksumMismatch, MalformedFile

CODER = PaletteCoder(4)


def latents(channels: int, height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, height, width))


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 9), st.integers(1, 24), st.integers(1, 24))
def test_round_trip(channels: int, height: int, width: int) -> None:
    coder = PaletteCoder(channels)
    coded = coder.encode(latents(channels, height, width))
    values, whole = coder.decode(coded.stream, coded.digest, height, width)
    assert whole
    assert (values == coded.values).all()


def test_few_colours_are_kept_exactly() -> None:
    wanted = CODER.dequantise(np.arange(8 * 4).reshape(4, 2, 4) * 7)
    assert np.allclose(CODER.dequantise(CODER.encode(wanted).values), wanted)


def test_the_dither_keeps_the_mean() -> None:
    wanted = latents(4, 64, 64)
    shown = CODER.dequantise(CODER.encode(wanted).values)
    assert abs(shown.mean((1, 2)) - wanted.mean((1, 2))).max() < 0.03


def test_the_step_is_that_of_2022() -> None:
    assert np.diff(CODER.dequantise(np.array([0, 1, 255])))[0] == pytest.approx(0.18215**2, rel=1e-4)


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
        CODER.decode(stream, 0, 8, 8)


def test_a_cut_stream() -> None:
    coded = CODER.encode(latents(4, 8, 8))
    with pytest.raises(MalformedFile, match="zstandard"):
        CODER.decode(coded.stream[:-3], coded.digest, 8, 8, partial=True)


def test_another_digest() -> None:
    coded = CODER.encode(latents(4, 8, 8))
    with pytest.raises(ChecksumMismatch, match="tile 3: decoded symbols have digest"):
        CODER.decode(coded.stream, coded.digest ^ 1, 8, 8, name="tile 3")
