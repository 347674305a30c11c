"""The trainable networks of a native model, filled from its weights file: what an encoder's search needs.

NativeWeights ─► tensors below a prefix ─► Analysis, HyperAnalysis (float)
              ─► integer layers, tables ─► Synthesis, which computes with gradients what a decoder does
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import torch

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.layer import WIDE_BITS
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.knots import OCTAVE
from latentcodec.nn.native.config import FRACTION, LAPPING_UNIT
from latentcodec.nn.native.entropy_model import HyperAnalysis
from latentcodec.nn.native.integer_synthesis import COEFFICIENT_BITS, LAPPING_BITS, SAMPLE_BITS, SKIP_BITS
from latentcodec.nn.native.synthesis import LOG_BITS
from latentcodec.nn.native.transform import MOST, Analysis, Synthesis
from latentcodec.weights.native import NativeWeights

Network = TypeVar("Network", bound=torch.nn.Module)

GAIN_BITS = math.log2(MOST * (1 << COEFFICIENT_BITS) / FRACTION)
"""Octaves that a stored log_gain has more than that of a latent's unit to samples in 0..1."""
SCALE_BITS = math.log2(MOST * (1 << SAMPLE_BITS) / (1 << WIDE_BITS))
"""The same of a stored log_scale."""


def load_into(weights: NativeWeights, module: torch.nn.Module, prefix: str) -> None:
    """Copy the tensors below `prefix` into a module, strictly, and make it float32, not the default."""
    state = {
        name.removeprefix(prefix): torch.from_numpy(value.astype(np.float32))
        for name, value in weights.tensors.items()
        if name.startswith(prefix)
    }
    try:
        module.float().load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise InvalidWeights(f"{prefix[:-1]}: {error}") from error


def analysis(weights: NativeWeights, device: torch.device) -> Analysis:
    """The analysis transform, ready to run."""
    module = Analysis(weights.config.transform)
    load_into(weights, module, "analysis.")
    return _ready(module, device)


def hyper_analysis(weights: NativeWeights, device: torch.device) -> HyperAnalysis:
    """What makes hyperlatents, ready to run."""
    module = HyperAnalysis(weights.config.entropy)
    load_into(weights, module, "hyper_analysis.")
    return _ready(module, device)


def synthesis(weights: NativeWeights, device: torch.device) -> Synthesis:
    """The synthesis with gradients; its samples are a decoder's but for the rounding of the block transform.

    Raises InvalidWeights.
    """
    weights.integer_synthesis(NumpyEngine())  # raises where sizes or bounds do not hold
    module = Synthesis(weights.config.transform).float()  # whatever the default type is
    with torch.no_grad():
        for name, layer in weights.synthesis_layers().items():
            module.layers[name.replace(".", "/")].hold(layer)  # type: ignore[operator]
        for parameter, stored, unit, bits in (
            (module.skip, "skip", 2.0**-SKIP_BITS, 0.0),
            *(
                (plane, f"lapping.planes.{i}", 2.0**-LAPPING_BITS / LAPPING_UNIT, 0.0)
                for i, plane in enumerate(module.lapping.planes)
            ),
            (module.log_gain, "log_gain", -math.log(2) / OCTAVE, GAIN_BITS),
            (module.log_scale, "log_scale", math.log(2) / OCTAVE, SCALE_BITS),
            (module.input_log_gain, "input_log_gain", 1 / OCTAVE, WIDE_BITS - LOG_BITS),
            (module.stream_log_gain, "stream_log_gain", 1 / OCTAVE, 0.0),
        ):
            values = weights.tensor(f"synthesis.{stored}").astype(np.float64) - bits * OCTAVE
            parameter.copy_(torch.from_numpy(values * unit))
    return _ready(module, device)


def _ready(module: Network, device: torch.device) -> Network:
    module.eval().requires_grad_(False)
    module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module
