"""A fitted entropy model as a prior's file.

TrainableEntropyModel ─► integer layers, tables (export.integer_tensors) ─┐
LatentSet ─► centres ─────────────────────────────────────────────────────┼─► PriorWeights ─► file
autoencoder ─► fingerprint ───────────────────────────────────────────────┘
"""

from __future__ import annotations

from typing import Any

import torch

from latentcodec.codec.latent import LatentCodec
from latentcodec.codec.prior_file import CENTRE_BITS, PriorWeights
from latentcodec.nn.entropy_model import TrainableEntropyModel
from latentcodec.training.export import integer_tensors
from latentcodec.training.prior_data import LatentSet


def prior_weights(
    codec: LatentCodec, model: TrainableEntropyModel, data: LatentSet, card: dict[str, Any]
) -> PriorWeights:
    """The weights of a prior. Raises InvalidWeights where a bound does not hold."""
    tensors = integer_tensors(model)
    centres = torch.from_numpy(data.centres) * (1 << CENTRE_BITS)
    tensors["integer.centres"] = centres.round().to(torch.int32)
    for name, value in model.analysis.state_dict().items():
        tensors[f"hyper_analysis.{name}"] = value.half()
    return PriorWeights(codec.fingerprint, model.config, card, tensors)
