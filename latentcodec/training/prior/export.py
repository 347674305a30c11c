"""A fitted prior as a prior's file.

TrainablePrior ─► integer layers, tables ─┐
Examples ─► centres ──────────────────────┼─► PriorWeights ─► file
autoencoder ─► fingerprint ───────────────┘
"""

from __future__ import annotations

from typing import Any

import torch

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.values.prior_file import PriorWeights
from latentcodec.nn.integer import layer_tensors
from latentcodec.training.prior.data import Examples
from latentcodec.training.prior.model import TrainablePrior


def prior_weights(
    codec: LatentCodec, model: TrainablePrior, data: Examples, card: dict[str, Any]
) -> PriorWeights:
    """The weights of a prior. Raises InvalidWeights where a bound does not hold."""
    tensors = {f"integer.{name}": torch.from_numpy(array) for name, array in model.tables.arrays().items()}
    tensors |= {name: torch.from_numpy(array) for name, array in layer_tensors(model.layers).items()}
    tensors["integer.centres"] = torch.from_numpy(data.centres.clip(-(2**31), 2**31 - 1)).to(torch.int32)
    return PriorWeights(codec.fingerprint, model.config, card, tensors)
