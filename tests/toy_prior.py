"""A prior for a toy autoencoder: calibrated on a photograph's latents, hardly trained."""

from __future__ import annotations

import numpy as np
import torch

from latentcodec.codec.latent import LatentCodec
from latentcodec.codec.prior_file import PriorWeights
from latentcodec.codec.steps import sensitivities
from latentcodec.training.prior import fit_prior
from latentcodec.training.prior_data import CROP, LatentSet
from latentcodec.training.prior_export import prior_weights
from tests.conftest import photograph


def toy_latents(codec: LatentCodec) -> LatentSet:
    """The latents of crops of two photographs."""
    side = CROP * codec.downscale
    found = [codec.analyse(photograph(name, side, side)) for name in ("astronaut", "coffee")]
    crops = np.stack(found).astype(np.float32)
    return LatentSet(crops, np.stack([sensitivities(codec, crop[:, :8, :8]) for crop in found]))


def toy_prior(codec: LatentCodec, steps: int = 1) -> PriorWeights:
    """A prior of so many steps of training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = toy_latents(codec)
        model, taken = fit_prior(data, steps=steps)
    finally:
        torch.set_num_threads(threads)
    return prior_weights(codec, model, data, {"steps": taken})
