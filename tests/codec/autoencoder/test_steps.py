"""Steps from a quality and from how much each channel shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.autoencoder.steps import COARSEST, FINEST, choose_steps, sensitivities, visible_step
from latentcodec.codec.values.scalar import steps
from latentcodec.weights.checkpoints.detected import AUTOENCODER, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder


def test_the_quality_scale_is_geometric() -> None:
    assert visible_step(0) == COARSEST
    assert visible_step(4000) == pytest.approx(FINEST)
    assert visible_step(2000) == pytest.approx((COARSEST * FINEST) ** 0.5)


def test_channels_that_show_more_have_finer_steps() -> None:
    shows = np.array([0.2, 0.4, 1.6])
    for level in (0, 1234, 4000):
        chosen = steps(choose_steps(level, shows, np.zeros(3)))[:, 0, 0]
        assert chosen * shows == pytest.approx(visible_step(level), rel=0.1)


def test_offsets_bring_a_zero_near_the_mean() -> None:
    means = np.array([0.3, -2.0, 40.0])
    quantiser = choose_steps(1000, np.ones(3), means)
    own = steps(quantiser)[:, 0, 0]
    rest = means / own - np.array(quantiser.offsets) / 8
    assert np.abs(rest - np.rint(rest)).max() <= 1 / 16 + 1e-9


@pytest.mark.parametrize("shows", [1e-9, 1e9])
def test_absurd_sensitivities_give_valid_steps(shows: float) -> None:
    quantiser = choose_steps(2000, np.array([shows, 1.0]), np.zeros(2))
    assert 0 <= quantiser.base <= 159
    assert all(0 <= delta <= 15 for delta in quantiser.deltas)


class _Linear(nn.Module):
    """A decoder whose sensitivities are known: each latent shows in one sample of its 8x8 patch."""

    def __init__(self) -> None:
        super().__init__()
        self.config = _Config()

    def decode(self, latent: Tensor) -> Tensor:
        picture = torch.zeros(1, 3, 8 * latent.shape[2], 8 * latent.shape[3])
        for channel, gain in enumerate((0.5, 2.0)):
            picture[:, channel, ::8, ::8] = gain * latent[:, channel]
        return picture


class _Config:
    latents, downscale = 2, 8


def test_sensitivities_of_a_known_decoder() -> None:
    detected = Detected(family="other", layout="diffusers", components=(AUTOENCODER,))
    loaded = LoadedAutoencoder(_Linear(), detected, Identity("known", "other", "00" * 32))  # type: ignore[arg-type]
    codec = LatentCodec(loaded, torch.device("cpu"))
    assert sensitivities(codec, np.zeros((2, 40, 50))) == pytest.approx([0.5, 2.0])
