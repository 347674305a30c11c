"""Fitting a prior: deterministic, better with training, and its file codes what the training reckoned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latentcodec.codec.api import Codec
from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.autoencoder.steps import choose_steps, sensitivities
from latentcodec.codec.values.adaptive_coder import AdaptiveCoder
from latentcodec.codec.values.adaptive_order import Kind
from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.codec.values.prior import LatentPrior, PriorCoder
from latentcodec.errors import TrainingError
from latentcodec.training.prior import data as prior_data
from latentcodec.training.prior.data import CROP, KEPT, QUALITIES, SHARE, Examples, gather_examples
from latentcodec.training.prior.export import prior_weights
from latentcodec.training.prior.fit import BATCH, PASSES, compare, fit_prior, start_model
from tests.conftest import photograph
from tests.tiny_run import make_pictures, same_parameters
from tests.toy_autoencoder import save_pair
from tests.toy_prior import toy_examples

pytestmark = pytest.mark.usefixtures("one_thread")
PLACES = sum(KEPT.values()) // SHARE


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> LatentCodec:
    found = Codec(save_pair(tmp_path_factory.mktemp("models") / "toy", 1), "cpu")._latent
    assert found is not None
    return found


@pytest.fixture(scope="module")
def data(codec: LatentCodec) -> Examples:
    return toy_examples(codec)


@pytest.mark.slow
def test_a_batch_is_a_function_of_its_step(data: Examples) -> None:
    batch, again, other = data.batch(1, 7, BATCH), data.batch(1, 7, BATCH), data.batch(2, 7, BATCH)
    assert batch.values.shape == (BATCH, 4, PLACES)
    assert batch.expected.shape == (BATCH, 20, 1, PLACES)
    assert batch.surroundings[Kind.ROW].shape == (BATCH, 44, 1, KEPT[Kind.ROW] // SHARE)
    assert torch.equal(batch.values, again.values)
    assert not torch.equal(batch.values, other.values)
    assert (batch.quality.diff() >= 0).all()
    assert 0 <= batch.quality[0] < batch.quality[-1] <= 4000
    assert len(data.quality) == 2 * QUALITIES


def test_the_untrained_prior_is_the_adaptive_coder(codec: LatentCodec, data: Examples) -> None:
    central = replace(data, centres=np.zeros(4, np.int64))
    prior = LatentPrior(prior_weights(codec, start_model(central, 1), central, {}), torch.device("cpu"))
    latents = codec.analyse(photograph(width=64, height=64))
    quantiser = choose_steps(2000, sensitivities(codec, latents), latents.mean((1, 2)))
    plain = replace(quantiser, offsets=(0,) * 4)
    own, other = PriorCoder(prior, plain, 2000), AdaptiveCoder(quantiser)
    coded, expected = own.encode(latents), other.encode(latents)
    # It has the channels' shifts in its stream, the adaptive coder has its offsets in the V chunk.
    assert 0 <= len(coded.stream) - len(expected.stream) <= 6
    assert np.allclose(own.dequantise(coded.values), other.dequantise(expected.values), atol=1e-9)


def test_training_is_repeatable(data: Examples) -> None:
    # The shipped tables, once something was decoded with them, cannot be copied.
    coder = AdaptiveCoder(choose_steps(0, np.ones(4), np.zeros(4)))
    coded = coder.encode(np.zeros((4, 8, 8)))
    coder.decode(coded.stream, coded.digest, 8, 8)
    a, b = (fit_prior(data, seed=3, steps=2)[0].state_dict() for _ in range(2))
    assert same_parameters(a, b)
    assert not same_parameters(a, fit_prior(data, seed=4, steps=2)[0].state_dict())


@pytest.mark.slow
def test_training_pays(data: Examples) -> None:
    rates: list[float] = []
    fit_prior(data, seed=3, steps=80, progress=lambda row: rates.append(row["bits"]))
    assert rates[-1] < 0.97 * rates[0]


@pytest.mark.slow
def test_streams_are_as_long_as_training_reckons(
    codec: LatentCodec, data: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = fit_prior(data, steps=30)
    prior = LatentPrior(prior_weights(codec, model, data, {}), torch.device("cpu"))
    latents = codec.analyse(photograph("coffee", 8 * CROP, 8 * CROP))
    shows, level = sensitivities(codec, latents), 2800
    monkeypatch.setattr(prior_data, "KEPT", {kind: 32 * count for kind, count in KEPT.items()})
    whole = Examples(data.centres)
    whole.add(latents, shows, level, shipped_tables(), np.random.default_rng(1))
    with torch.no_grad():
        bits = float(model(whole.take([0], share=1))) * latents.size
    plain = replace(choose_steps(level, shows, latents.mean((1, 2))), offsets=(0,) * 4)
    coded = PriorCoder(prior, plain, level).encode(latents)
    assert 8 * len(coded.stream) == pytest.approx(bits, rel=0.03)


@pytest.mark.slow
def test_it_is_compared_with_the_adaptive_coder(data: Examples) -> None:
    own, adaptive = compare(start_model(data, 1), data)
    assert own == pytest.approx(adaptive, rel=1e-6)  # its networks add zeros
    whole = sum(data.adaptive) / len(data.adaptive)  # the figure of all positions, of which samples have some
    assert adaptive == pytest.approx(whole, rel=0.25)
    fitted, _ = fit_prior(data, steps=40)  # 0.897 to 0.905 of it for five seeds
    assert compare(fitted, data)[0] < 0.99 * adaptive


def test_gathering(codec: LatentCodec, tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures")  # of 192x192: too small
    with pytest.raises(TrainingError, match="at least 256 pixels"):
        gather_examples(codec, sorted(folder.iterdir()), 1, 4)
    with pytest.raises(TrainingError, match="stopped before"):
        gather_examples(codec, sorted(folder.iterdir()), 1, 4, stopped=lambda: True)


def test_few_samples_end_it_before_the_time_does(data: Examples) -> None:
    _, taken = fit_prior(data, seconds=1e6)
    assert taken == PASSES * SHARE * len(data.quality) // BATCH


def test_stopping_at_once_writes_no_prior(data: Examples) -> None:
    with pytest.raises(TrainingError, match="before the first step"):
        fit_prior(data, steps=5, stopped=lambda: True)
