"""Fitting a prior: deterministic, better with training, and its file codes what the training reckoned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latentcodec.codec.api import Codec
from latentcodec.codec.latent import LatentCodec
from latentcodec.codec.prior import LatentPrior
from latentcodec.codec.scalar import scale
from latentcodec.codec.steps import choose_steps
from latentcodec.errors import InvalidArgument, TrainingError
from latentcodec.nn.entropy_model import TrainableEntropyModel
from latentcodec.training.prior import BATCH, fit_prior, prior_config, start_model
from latentcodec.training.prior_data import CROP, WINDOW, LatentSet, gather_latents
from latentcodec.training.prior_export import prior_weights
from tests.tiny_run import make_pictures, same_parameters
from tests.toy_autoencoder import save_pair
from tests.toy_prior import toy_latents

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> LatentCodec:
    found = Codec(save_pair(tmp_path_factory.mktemp("models") / "toy", 1), "cpu")._latent
    assert found is not None
    return found


@pytest.fixture(scope="module")
def data(codec: LatentCodec) -> LatentSet:
    return toy_latents(codec)


def test_a_batch_is_a_function_of_its_step(data: LatentSet) -> None:
    y, level = data.batch(1, 7, BATCH)
    again, _ = data.batch(1, 7, BATCH)
    other, _ = data.batch(1, 8, BATCH)
    assert y.shape == (BATCH, 4, WINDOW, WINDOW)
    assert torch.equal(y, again)
    assert not torch.equal(y, other)
    assert (level.diff() > 0).all()
    assert 0 <= level[0] < level[-1] <= 4000


def test_latents_are_in_the_encoders_steps(data: LatentSet) -> None:
    scaled = data.at_level(2000, 2)
    steps = choose_steps(2000, data.shows[1], data.centres).steps()
    wanted = (data.latents[1, 2] - data.centres[2]) / (steps[2] / 2**20)
    assert np.allclose(scaled[1, 2].numpy(), wanted, atol=1e-4)


def test_training_is_repeatable_and_pays(data: LatentSet) -> None:
    rates: list[float] = []
    fit_prior(data, seed=3, steps=40, progress=lambda row: rates.append(row["bits"]))
    assert rates[-1] < 0.95 * rates[0]
    a, b = (fit_prior(data, seed=3, steps=2)[0].state_dict() for _ in range(2))
    assert same_parameters(a, b)
    assert not same_parameters(a, fit_prior(data, seed=4, steps=2)[0].state_dict())


def test_streams_are_as_long_as_training_reckons(codec: LatentCodec, data: LatentSet) -> None:
    model, _ = fit_prior(data, steps=20)
    prior = LatentPrior(prior_weights(codec, model, data, {}), torch.device("cpu"))
    level, shows, centres = 2800, data.shows[0], data.centres
    with torch.no_grad():
        _, bits_y, bits_z = model(data.at_level(level, 1), torch.tensor([float(level)]), noise=False)
    steps = replace(choose_steps(level, shows, centres), offsets=(0,) * 4)
    coded = prior.encode_tile(scale(steps, data.latents[0].astype(np.float64)), steps, level, rate_weight=0)
    assert 8 * len(coded.stream) == pytest.approx(float(bits_y + bits_z), rel=0.03)


def test_gathering(codec: LatentCodec, tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "pictures")  # of 192x192: too small
    with pytest.raises(TrainingError, match="at least 256 pixels"):
        gather_latents(codec, sorted(folder.iterdir()), 1, 4)
    with pytest.raises(TrainingError, match="stopped before"):
        gather_latents(codec, sorted(folder.iterdir()), 1, 4, stopped=lambda: True)


def test_stopping_at_once_writes_no_prior(data: LatentSet) -> None:
    with pytest.raises(TrainingError, match="before the first step"):
        fit_prior(data, steps=5, stopped=lambda: True)


def test_sizes() -> None:
    with pytest.raises(InvalidArgument, match="multiple of 4 latent channels, the autoencoder has 6"):
        prior_config(6)
    with torch.device("meta"):
        layers = TrainableEntropyModel(prior_config(32)).layers
    assert sum(parameter.numel() for parameter in layers.parameters()) < 1 << 20


def test_rows_begin_at_the_latents_spread(data: LatentSet) -> None:
    model = start_model(data, 1)
    with torch.no_grad():
        _, bits, _ = model(data.at_level(2000, 2), torch.full((2,), 2000.0), noise=False)
    assert 0 < float(bits.mean()) / (4 * CROP * CROP) < 8
