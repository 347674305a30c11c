"""Training that begins with the weights of another run, or of an exported file.

RUN/checkpoint.pt ─► moving average ───────────────────────────────────────────────┐
native-1.safetensors ─► analysis as it is ─────────────────────────────────────────┼─► model parameters
                     ─► integer layers, rows ─► dequantised, so that an export at ─┘
                        once gives the same integers

An integer of a row with shift s is worth 2^-s, but a trainable layer chooses its shifts from the weights
themselves (TrainableIntegerConv.exponents), and near a limit the rounded weights can choose otherwise than
those that were exported. The parameters are therefore moved within their rounding intervals until the shift
is the file's. Where no such move helps (layers that this package did not export), they stay at the rounded
values: the shift then differs, the values at every knot do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.layer import ACTIVATION_BITS, WEIGHT_LIMIT, IntegerLayer
from latentcodec.nn.integer import TrainableIntegerConv
from latentcodec.nn.native.config import FRACTION, NativeConfig
from latentcodec.nn.native.entropy_model import ROW_UNIT
from latentcodec.nn.native.model import NativeModel
from latentcodec.training.native.export import MIXTURE
from latentcodec.training.native.run_folder import averaged_model
from latentcodec.weights.native import NativeWeights, read_weights
from latentcodec.weights.native_modules import synthesis

_MODULES = {"analysis.": "analysis.", "hyper_analysis.": "entropy.analysis."}
# Parts of a quantisation step, all under the half at which an integer would change; towards zero first.
_MOVES = tuple(sign * part / 64 for part in (4, 8, 12, 16, 20, 24, 28, 30, 31) for sign in (-1, 1))


@dataclass(frozen=True)
class WarmStart:
    """Sizes and parameters (NativeModel's state) to begin with; `origin` names them for the model card."""

    config: NativeConfig
    state: dict[str, Tensor]
    origin: str


def warm_start(path: Path) -> WarmStart:
    """The parameters in another run's folder, or in an exported .safetensors file.

    Raises TrainingError (a folder without a run, or with a damaged one), InvalidWeights (a damaged file, or
    one without what a warm start needs).
    """
    if path.is_dir():
        model, step = averaged_model(path, torch.device("cpu"))
        return WarmStart(model.config, model.state_dict(), f"run {path.resolve().name}, step {step}")
    weights = read_weights(path)
    hashes = f"networks {weights.networks_hash.hex()}, synthesis {weights.synthesis_hash.hex()}"
    return WarmStart(weights.config, _parameters(weights, path), f"{path.name}, {hashes}")


def _parameters(weights: NativeWeights, path: Path) -> dict[str, Tensor]:
    state = {
        module + name.removeprefix(prefix): torch.from_numpy(value.astype(np.float32))
        for prefix, module in _MODULES.items()
        for name, value in weights.tensors.items()
        if name.startswith(prefix)
    }
    try:
        rest = synthesis(weights, torch.device("cpu")).state_dict()
        state |= {f"synthesis.{name}": value for name, value in rest.items()}
        for prefix, layers in (("entropy", weights.layers()), ("synthesis", weights.synthesis_layers())):
            for name, layer in layers.items():
                if isinstance(layer, IntegerLayer):
                    layer.validate(name)
                    weight, bias = dequantise(layer)
                    key = f"{prefix}.layers.{name.replace('.', '/')}"
                    state |= {f"{key}.conv.weight": weight, f"{key}.bias": bias}
        for name in ("row_offset", "hyper_row"):
            rows = torch.from_numpy(weights.tensor(f"integer.{name}").astype(np.float32))
            state[f"entropy.{name}"] = rows / (ROW_UNIT * FRACTION)
        state |= {f"entropy.{name}": torch.from_numpy(weights.tensor(key)) for name, key in MIXTURE.items()}
        NativeModel(weights.config).load_state_dict(state)
    except (InvalidWeights, RuntimeError) as error:
        raise InvalidWeights(f"{path}: no weights to start from: {error}") from error
    return state


@torch.no_grad()
def dequantise(layer: IntegerLayer) -> tuple[Tensor, Tensor]:
    """Float weight (O, I, k, k) and bias (KNOTS, O) whose export is this layer."""
    outputs, inputs, kernel, _ = layer.weight.shape
    trainable = TrainableIntegerConv(inputs, outputs, kernel, gain=layer.gain)
    weight, bias = _moved(layer, 0.0)
    shift = torch.from_numpy(layer.shift.astype(np.float32))
    settled = _chosen_shift(trainable, weight, bias) == shift
    for move in _MOVES:
        if bool(settled.all()):
            break
        moved_weight, moved_bias = _moved(layer, move)
        helps = ~settled & (_chosen_shift(trainable, moved_weight, moved_bias) == shift)
        weight[helps], bias[:, helps] = moved_weight[helps], moved_bias[:, helps]
        settled |= helps
    return weight, bias


def _moved(layer: IntegerLayer, move: float) -> tuple[Tensor, Tensor]:
    """The layer in floats, every magnitude moved by `move` quantisation steps (zeros only upwards)."""

    def magnitudes(integers: Tensor) -> Tensor:
        return (
            torch.where(integers == 0, max(move, 0.0), integers.abs() + move)
            * integers.sign().add(0.5).sign()
        )

    scale = torch.exp2(-torch.from_numpy(layer.shift.astype(np.float32)))
    weight = magnitudes(torch.from_numpy(layer.weight.astype(np.float32))).clamp(-WEIGHT_LIMIT, WEIGHT_LIMIT)
    bias = magnitudes(torch.from_numpy(layer.bias.astype(np.float32)))
    return weight * scale[:, None, None, None], bias * (scale * 2**-ACTIVATION_BITS)


def _chosen_shift(trainable: TrainableIntegerConv, weight: Tensor, bias: Tensor) -> Tensor:
    """(O,) the shifts that a trainable layer with these parameters exports."""
    trainable.conv.weight.copy_(weight)
    trainable.bias.copy_(bias)
    return trainable.exponents()
