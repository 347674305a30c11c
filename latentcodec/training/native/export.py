"""Export: a trained model's moving average becomes the shipped weights file.

    float parameters ─► integer layers (bounds proved) ─┐
    mixture parameters ─► 16-bit tables ────────────────┼─► native-1.safetensors (+ model card as metadata)
    synthesis ─► integer layers, fixed-point tables ────┤
    analysis ─► float16 ────────────────────────────────┘

What only a warm start needs (the mixture parameters as they are) goes under "training.", outside both hashes.
"""

from __future__ import annotations

import json
import math
import operator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor

from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.layer import WIDE_BITS
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.integer import layer_tensors
from latentcodec.nn.knots import OCTAVE
from latentcodec.nn.layers import signed_log
from latentcodec.nn.native.config import FRACTION, LAPPING_UNIT, MEAN_LIMIT, ROWS
from latentcodec.nn.native.entropy_model import (
    ROW_UNIT,
    ROWS_PER_OCTAVE,
    SMALLEST_SCALE,
    TrainableEntropyModel,
    log_context,
)
from latentcodec.nn.native.integer_synthesis import LAPPING_BITS, SKIP_BITS
from latentcodec.nn.native.model import NativeModel
from latentcodec.nn.native.synthesis import LOG_BITS
from latentcodec.nn.native.transform import Synthesis, wide_logs
from latentcodec.weights.native import NATIVE_MODEL, NativeWeights
from latentcodec.weights.native_modules import GAIN_BITS, SCALE_BITS

Array = NDArray[Any]

TOTAL = 1 << 16
MIXTURE = {name: f"training.mixture.{name}" for name in ("tail_logit", "tail_log_ratio")}
WIDEST = 400  # residuals past this are escapes in every row


def build_tables(weight: float, core: float, tail: float) -> list[list[int]]:
    """The frequencies of the ROWS distributions, each summing to 65536; a row's last entry is its escape.

    Row r is a mixture of two Gaussians, (1 - weight) N(0, core s) + weight N(0, tail s), s = 0.09 * 2^(r/6),
    integrated over unit intervals, with entries for the residuals -n..n. Row 0 codes nothing.
    """

    def probability(n: int, deviation: float) -> float:
        total = 0.0
        for share, width in ((1 - weight, core), (weight, tail)):
            scale = 1 / (deviation * width * math.sqrt(2))
            # erfc keeps its precision far out, where a difference of erf would vanish.
            total += share * 0.5 * (math.erfc((abs(n) - 0.5) * scale) - math.erfc((abs(n) + 0.5) * scale))
        return total

    rows: list[list[int]] = [[TOTAL]]
    for row in range(1, ROWS):
        deviation = SMALLEST_SCALE * 2 ** (row / ROWS_PER_OCTAVE)
        reach = 1
        while reach < WIDEST and probability(reach + 1, deviation) * TOTAL > 0.3:
            reach += 1
        side = [probability(n, deviation) for n in range(reach + 1)]
        rows.append(_quantise(side, max(1 - 2 * sum(side) + side[0], 0.0)))
    return rows


def _quantise(side: list[float], escape: float) -> list[int]:
    """Frequencies of at least 1 that sum to TOTAL, for the values -n..n and the escape; as symmetric as they.

    side: the probabilities of 0..n. The excess or lack that rounding leaves is taken where it costs least.
    """
    counts = [1, *[2] * (len(side) - 1), 1]
    frequencies = [max(1, round(p * TOTAL)) for p in (*side, escape)]
    while (excess := sum(map(operator.mul, counts, frequencies)) - TOTAL) != 0:
        fitting = (i for i, count in enumerate(counts) if count <= abs(excess))
        frequencies[max(fitting, key=frequencies.__getitem__)] -= 1 if excess > 0 else -1
    *half, last = frequencies
    return [*half[:0:-1], *half, last]


@torch.no_grad()
def integer_tensors(entropy: TrainableEntropyModel) -> dict[str, Array]:
    """Everything that determines the symbols, under its name in the weights file."""
    tensors = layer_tensors(entropy.layers, "integer.")
    limit = FRACTION * 4 * ROWS
    for name, parameter in (("row_offset", entropy.row_offset), ("hyper_row", entropy.hyper_row)):
        rounded = (parameter * (ROW_UNIT * FRACTION)).round().clamp(-limit, limit)
        tensors[f"integer.{name}"] = rounded.to(torch.int32).cpu().numpy()
    tensors["integer.log_table"] = log_context(torch.arange(MEAN_LIMIT + 1).float()).to(torch.int8).numpy()
    weight, core, tail = (float(v) for v in entropy.mixture())
    rows = build_tables(weight, core, tail)
    tensors["integer.row_sizes"] = np.array([len(row) for row in rows], np.int32)
    # One less than the frequency fits 16 bits.
    tensors["integer.frequencies"] = np.array([f - 1 for row in rows for f in row], np.uint16)
    return tensors


@torch.no_grad()
def synthesis_tensors(synthesis: Synthesis) -> dict[str, Array]:
    """Everything that determines the samples, under its name in the weights file."""
    tensors = layer_tensors(synthesis.layers, "synthesis.")
    octaves = OCTAVE / math.log(2)
    for name, values in (
        ("log_gain", GAIN_BITS * OCTAVE - synthesis.log_gain.double() * octaves),
        ("log_scale", SCALE_BITS * OCTAVE + synthesis.log_scale.double() * octaves),
        ("input_log_gain", (synthesis.input_log_gain.double() + WIDE_BITS - LOG_BITS) * OCTAVE),
        ("stream_log_gain", synthesis.stream_log_gain.double() * OCTAVE),
    ):
        tensors[f"synthesis.{name}"] = values.round().to(torch.int32).cpu().numpy()
    for index, plane in enumerate(synthesis.lapping.planes):
        tensors[f"synthesis.lapping.planes.{index}"] = _fixed_point(
            f"lapping.planes.{index}", plane * LAPPING_UNIT, LAPPING_BITS
        )
    tensors["synthesis.skip"] = _fixed_point("skip", synthesis.skip, SKIP_BITS)
    latents = torch.arange(MEAN_LIMIT + 1).double() / FRACTION
    tensors["synthesis.log_table"] = wide_logs(signed_log(latents)).to(torch.int16).numpy()
    return tensors


def _fixed_point(name: str, values: Tensor, bits: int) -> Array:
    rounded = (values.double() * (1 << bits)).round()
    largest, limit = int(rounded.abs().max()), np.iinfo(np.int16).max
    if largest > limit:
        raise InvalidWeights(f"synthesis.{name}: {largest} in 2^-{bits} is past the limit of {limit}")
    array: Array = rounded.to(torch.int16).cpu().numpy()
    return array


def export(model: NativeModel, card: dict[str, Any], path: Path) -> None:
    """Write a model as a weights file, replacing it atomically. Raises InvalidWeights past a bound."""
    tensors = integer_tensors(model.entropy) | synthesis_tensors(model.synthesis)
    for prefix, module in (("analysis", model.analysis), ("hyper_analysis", model.entropy.analysis)):
        for name, value in module.state_dict().items():
            kept = value.float() if name.startswith("log_") else value.half()
            tensors[f"{prefix}.{name}"] = kept.cpu().numpy()
    for name, stored in MIXTURE.items():
        tensors[stored] = getattr(model.entropy, name).detach().float().cpu().numpy()
    made = NativeWeights(NATIVE_MODEL, model.config, card, tensors)
    for check in (made.integer_model, made.integer_synthesis):  # what a decoder would refuse is not written
        check(NumpyEngine())
    metadata = {
        "model_number": str(NATIVE_MODEL),
        "config": json.dumps(model.config.to_dict()),
        "card": json.dumps(card, sort_keys=True),
    }
    write_atomically(path, save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, metadata))
