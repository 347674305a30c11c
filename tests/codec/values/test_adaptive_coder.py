"""The adaptive coder of a file: exact, frugal, and sure of what it refuses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from latentcodec.codec.values.adaptive_coder import AdaptiveCoder
from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.codec.values.context_coding import ContextCoding, Uncorrected
from latentcodec.codec.values.scalar import steps
from latentcodec.container.autoencoder import MAX_VALUE, ScalarQuantiser
from latentcodec.errors import ChecksumMismatch, FormatError, MalformedFile
from latentcodec.rans.coder import Encoder

QUANTISER = ScalarQuantiser(80, (0, 2, 5), (0, -3, 7))


@pytest.fixture
def latents() -> npt.NDArray[np.float64]:
    """(3, 20, 13), some steps wide."""
    noise = np.random.default_rng(1).normal(size=(3, 20, 13)).cumsum(1)
    return noise * steps(QUANTISER)


def test_what_is_coded_comes_back(latents: npt.NDArray[np.float64]) -> None:
    coder = AdaptiveCoder(QUANTISER)
    coded = coder.encode(latents)
    values, whole = coder.decode(coded.stream, coded.digest, 20, 13)
    assert whole
    assert (values == coded.values).all()
    assert coder.networks_hash == shipped_tables().hash


def test_without_a_rate_each_latent_is_rounded(latents: npt.NDArray[np.float64]) -> None:
    coder = AdaptiveCoder(QUANTISER)
    rounded, frugal = coder.encode(latents, rate_weight=0), coder.encode(latents)
    error, more = (
        np.abs(coder.dequantise(coded.values) - latents) / steps(QUANTISER) for coded in (rounded, frugal)
    )
    assert error.max() <= 0.5 + 1e-6
    assert 0.5 + 1e-6 < more.max() < 1.5  # at most a step nearer to what is expected
    assert len(frugal.stream) < len(rounded.stream)


def test_a_cut_stream(latents: npt.NDArray[np.float64]) -> None:
    coder = AdaptiveCoder(QUANTISER)
    coded = coder.encode(latents)
    cut = coded.stream[: len(coded.stream) // 2]
    with pytest.raises(FormatError):
        coder.decode(cut, coded.digest, 20, 13)
    values, whole = coder.decode(cut, coded.digest, 20, 13, partial=True)
    assert not whole
    assert values.shape == coded.values.shape


def test_another_digest(latents: npt.NDArray[np.float64]) -> None:
    coder = AdaptiveCoder(QUANTISER)
    coded = coder.encode(latents)
    with pytest.raises(ChecksumMismatch, match="tile 3: decoded symbols have digest"):
        coder.decode(coded.stream, coded.digest ^ 1, 20, 13, name="tile 3")


def test_values_past_the_limit() -> None:
    coder, encoder = AdaptiveCoder(QUANTISER), Encoder(shipped_tables().tables)
    farther = ContextCoding(shipped_tables(), MAX_VALUE + 1, Uncorrected())
    farther.encode(encoder, np.full((3, 1, 1), MAX_VALUE + 1.0), rate_weight=0)
    with pytest.raises(
        MalformedFile, match=f"tile 3: a value of magnitude {MAX_VALUE + 1}, the limit is {MAX_VALUE}"
    ):
        coder.decode(encoder.finish(), encoder.digest, 1, 1, name="tile 3")
    saturated = coder.encode(np.full((3, 2, 2), 1e9))
    assert (saturated.values == MAX_VALUE).all()
