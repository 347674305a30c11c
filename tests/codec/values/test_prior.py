"""Files that a fitted prior codes: exact, checked, found in the store or named, and refused without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latentcodec.codec.api import Codec
from latentcodec.codec.autoencoder.encoder import LatentEncoder
from latentcodec.codec.autoencoder.latent import LatentCodec, file_chunk
from latentcodec.codec.info import info
from latentcodec.codec.values import prior as prior_module
from latentcodec.codec.values.choice import coder_for
from latentcodec.codec.values.prior import (
    SHIFT_LIMIT,
    LatentPrior,
    PriorCoder,
    expected_shifts,
    open_prior,
    shifts,
)
from latentcodec.codec.values.prior_context import logarithm
from latentcodec.codec.values.prior_file import (
    MAX_BYTES,
    PriorWeights,
    read_prior,
    stored_path,
    write_prior,
)
from latentcodec.codec.values.scalar import scale, steps
from latentcodec.container.autoencoder import ScalarQuantiser
from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    InvalidArgument,
    InvalidWeights,
    UnknownModel,
    WeightsMismatch,
)
from latentcodec.picture.picture import from_array
from latentcodec.weights.native import FILES
from tests.conftest import photograph
from tests.toy_prior import toy_prior

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def latent(pair: Path) -> LatentCodec:
    found = Codec(pair, "cpu")._latent
    assert found is not None
    return found


@pytest.fixture(scope="module")
def weights(latent: LatentCodec) -> PriorWeights:
    return toy_prior(latent)


@pytest.fixture(scope="module")
def path(weights: PriorWeights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("priors") / "toy.safetensors"
    write_prior(weights, path)
    return path


@pytest.mark.parametrize(("width", "height"), [(1, 1), (8, 8), (61, 45), (40, 200)])
def test_symbols_survive_exactly(latent: LatentCodec, path: Path, width: int, height: int) -> None:
    prior = open_prior(path, CPU)
    picture = from_array(photograph(width=width, height=height))
    for level in (0, 1730, 4000):
        encoded, plane = LatentEncoder(latent, picture, prior=prior)._encode(level)
        tile, chunk = encoded.file.tiles[0], file_chunk(encoded.file)
        assert tile is not None
        assert (chunk.quantiser, chunk.prior) == ("prior", prior.hash)
        assert encoded.file.header.networks_hash == prior.hash[:4]
        coder = coder_for(chunk, level, CPU, prior)
        values, whole = coder.decode(tile.stream, tile.digest, *plane.shape[1:])
        assert whole
        assert (values == plane).all()


def test_int64_gives_the_same_symbols(latent: LatentCodec, weights: PriorWeights) -> None:
    """The reference arithmetic against float32."""
    floats, longs = LatentPrior(weights, CPU), LatentPrior(weights, CPU)
    longs._layers = weights.runnable(CPU, torch.int64)
    picture = from_array(photograph(width=80, height=56))
    a, b = (LatentEncoder(latent, picture, prior=prior).encode(2000).data for prior in (floats, longs))
    assert a == b


def test_errors_are_within_half_a_step(latent: LatentCodec, weights: PriorWeights) -> None:
    """Without rate-aware rounding."""
    prior = LatentPrior(weights, CPU)
    latents = latent.analyse(photograph(width=96, height=64))
    encoder = LatentEncoder(latent, from_array(photograph(width=96, height=64)), prior=prior)
    steps = encoder._steps(3000)
    assert set(steps.offsets) == {0}
    coder = PriorCoder(prior, steps, 3000)
    coded = coder.encode(latents, rate_weight=0)
    error = np.abs(scale(steps, coder.dequantise(coded.values)) - scale(steps, latents))
    assert (error <= 0.5 + 1e-6).all()
    frugal = coder.encode(latents)
    assert len(frugal.stream) < len(coded.stream)


def test_by_name_by_store_and_not_at_all(pair: Path, path: Path, weights: PriorWeights) -> None:
    pixels = photograph(width=64, height=48)
    codec = Codec(pair, "cpu", prior=path)
    data = codec.encode(pixels)
    shown = np.asarray(codec.decode(data))
    told = info(data).autoencoder
    assert told is not None
    assert (told.quantiser, told.prior) == ("prior", weights.hash.hex())
    with pytest.raises(UnknownModel, match=f"needs the prior {weights.hash.hex()} of the autoencoder toy"):
        Codec(pair, "cpu").decode(data)
    stored_path(weights.hash).parent.mkdir(parents=True)
    write_prior(weights, stored_path(weights.hash))
    assert (np.asarray(Codec(pair, "cpu").decode(data)) == shown).all()
    with pytest.raises(InvalidArgument, match="the palette is coded without one"):
        codec.encode(pixels, quantiser="palette")
    # Files without a prior take no notice of it.
    assert codec.decode(Codec(pair, "cpu").encode(pixels)).size == (64, 48)


def test_the_wrong_one(pair: Path, path: Path, weights: PriorWeights, tmp_path: Path) -> None:
    pixels = photograph(width=32, height=32)
    other = replace(weights, fingerprint=bytes(8))
    write_prior(other, tmp_path / "other.safetensors")
    with pytest.raises(
        WeightsMismatch, match="was fitted to the autoencoder of fingerprint 0000000000000000"
    ):
        Codec(pair, "cpu", prior=tmp_path / "other.safetensors").encode(pixels)
    with pytest.raises(InvalidArgument, match="for autoencoders only"):
        Codec("native", "cpu", prior=path).encode(pixels)
    data = Codec(pair, "cpu", prior=path).encode(pixels)
    changed = dict(weights.tensors) | {"integer.centres": weights.tensors["integer.centres"] + 1}
    stored_path(weights.hash).parent.mkdir(parents=True)
    write_prior(replace(weights, tensors=changed), stored_path(weights.hash))
    with pytest.raises(InvalidWeights, match="holds the prior"):
        Codec(pair, "cpu").decode(data)


def test_damage_is_found(latent: LatentCodec, weights: PriorWeights) -> None:
    prior = LatentPrior(weights, CPU)
    encoded, plane = LatentEncoder(latent, from_array(photograph(width=64, height=64)), prior=prior)._encode(
        2400
    )
    tile, coder = encoded.file.tiles[0], coder_for(file_chunk(encoded.file), 2400, CPU, prior)
    assert tile is not None
    with pytest.raises(ChecksumMismatch, match="tile: decoded symbols have digest"):
        coder.decode(tile.stream, tile.digest ^ 1, 8, 8)
    for length in range(0, len(tile.stream), 7):
        with pytest.raises(FormatError):
            coder.decode(tile.stream[:length], tile.digest, 8, 8)
    values, whole = coder.decode(tile.stream[: len(tile.stream) // 2], tile.digest, 8, 8, partial=True)
    assert not whole
    assert values.shape == plane.shape


def test_shifts_are_bounded_whatever_the_steps(latent: LatentCodec, weights: PriorWeights) -> None:
    finest = ScalarQuantiser(0, (0,) * 4, (0,) * 4)
    far = np.full(4, 2**31 - 1)
    assert expected_shifts(finest, far).max() < SHIFT_LIMIT
    assert expected_shifts(finest, -far).min() > -SHIFT_LIMIT
    scaled = np.random.default_rng(1).normal(3.3, 2.0, (4, 8, 8))
    near = shifts(scaled, finest, np.full(4, 100))
    assert (np.abs(near - expected_shifts(finest, np.full(4, 100))) <= 4).all()
    assert np.allclose((near - 8 * scaled.mean((1, 2)) + 4) % 8 - 4, 0, atol=0.5)
    # Latents far beyond what a plane holds saturate, and come back.
    prior = LatentPrior(weights, CPU)
    coder = PriorCoder(prior, finest, 4000)
    coded = coder.encode(1e4 * scaled * steps(finest))
    values, whole = coder.decode(coded.stream, coded.digest, 8, 8)
    assert whole
    assert (values == coded.values).all()
    assert np.abs(values).max() < 1 << 15


def test_the_logarithm_is_that_of_the_format() -> None:
    x = np.arange(1 << 17)
    assert (logarithm(x) == np.rint(8 * np.log2(1 + x)).clip(max=127)).all()


def test_the_file_comes_back(path: Path, weights: PriorWeights) -> None:
    read = read_prior(path)
    assert (read.hash, read.fingerprint, read.config) == (weights.hash, weights.fingerprint, weights.config)
    assert read.card == {"steps": 2}
    assert path.stat().st_size < 1 << 20


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"integer.centres": torch.zeros(4)}, "centres: torch.float32"),
        ({"integer.centres": torch.zeros(5, dtype=torch.int32)}, "not integers \\(4,\\)"),
        ({"integer.mid.shift": torch.zeros(96, dtype=torch.int8)}, "mid: shifts"),
        ({"integer.own0.weight": torch.zeros((96, 4, 1, 1), dtype=torch.int8)}, "own0: weight .* are not"),
        ({"integer.row_in.bias": None}, "row_in.bias: the prior has no such tensor"),
        ({"integer.sizes": None}, "integer.sizes"),
        ({"integer.thresholds": torch.arange(5)}, "thresholds, which must ascend"),
        ({"integer.big": torch.zeros(1 << 21, dtype=torch.int16)}, "not a prior's file|at most"),
    ],
)
def test_broken_contents(
    weights: PriorWeights, tmp_path: Path, change: dict[str, torch.Tensor | None], complaint: str
) -> None:
    tensors = {k: v for k, v in (dict(weights.tensors) | change).items() if v is not None}
    write_prior(replace(weights, tensors=tensors), tmp_path / "broken.safetensors")
    with pytest.raises(InvalidWeights, match=complaint) as caught:
        open_prior(tmp_path / "broken.safetensors", CPU)
    assert "broken.safetensors: " in str(caught.value)


def test_no_prior_at_all(path: Path, tmp_path: Path) -> None:
    shipped = Path(prior_module.__file__).parents[2] / "weights" / FILES[1]
    (tmp_path / "text").write_text("none")
    (tmp_path / "short").write_bytes(path.read_bytes()[:5000])
    (tmp_path / "large").write_bytes(bytes(MAX_BYTES + 1))
    for name in (shipped, tmp_path / "text", tmp_path / "short", tmp_path / "large", tmp_path / "gone"):
        with pytest.raises(InvalidWeights, match=str(name)):
            open_prior(name, CPU)


def test_sizes_out_of_bounds(weights: PriorWeights, tmp_path: Path) -> None:
    for config in (replace(weights.config, hidden=1 << 30), replace(weights.config, latents=0)):
        write_prior(replace(weights, config=config), tmp_path / "sizes.safetensors")
        with pytest.raises(InvalidWeights, match="not a prior's file"):
            read_prior(tmp_path / "sizes.safetensors")
