"""A prior for a toy autoencoder, hardly trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.values.prior_file import PriorWeights
from latentcodec.training.prior.data import CROP, Examples, examples_of
from latentcodec.training.prior.export import prior_weights
from latentcodec.training.prior.fit import fit_prior
from tests.conftest import photograph


def toy_examples(codec: LatentCodec, names: Sequence[str] = ("astronaut", "coffee")) -> Examples:
    """Examples of the latents of a crop of each photograph."""
    side = CROP * codec.downscale
    crops = [codec.analyse(photograph(name, side, side)) for name in names]
    return examples_of(codec, crops, np.random.default_rng(1))


def toy_prior(codec: LatentCodec, steps: int = 2) -> PriorWeights:
    """A prior of so many steps of training."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        data = toy_examples(codec, ["astronaut"])
        model, taken = fit_prior(data, steps=steps)
    finally:
        torch.set_num_threads(threads)
    return prior_weights(codec, model, data, {"steps": taken})
