"""A fitted prior as a prior's file.

TrainablePrior ─► integer layers, tables ─┐
Examples ─► centres ──────────────────────┼─► PriorWeights ─► file
autoencoder ─► fingerprint ───────────────┘
"""

from __future__ import annotations

from typing import Any, cast

import torch

from latentcodec.codec.latent import LatentCodec
from latentcodec.codec.prior_file import PriorWeights
from latentcodec.nn.integer import TrainableIntegerConv
from latentcodec.training.prior_data import Examples
from latentcodec.training.prior_model import TrainablePrior


def prior_weights(
    codec: LatentCodec, model: TrainablePrior, data: Examples, card: dict[str, Any]
) -> PriorWeights:
    """The weights of a prior. Raises InvalidWeights where a bound does not hold."""
    tensors = {f"integer.{name}": torch.from_numpy(array) for name, array in model.tables.arrays().items()}
    for name, layer in model.layers.items():
        integers = cast(TrainableIntegerConv, layer).export()
        integers.validate(name)
        tensors |= {
            f"integer.{name}.weight": integers.weight,
            f"integer.{name}.bias": integers.bias,
            f"integer.{name}.shift": integers.shift,
        }
    tensors["integer.centres"] = torch.from_numpy(data.centres.clip(-(2**31), 2**31 - 1)).to(torch.int32)
    return PriorWeights(codec.fingerprint, model.config, card, tensors)
