"""Export: a trained model's moving average becomes the shipped weights file.

    float parameters ─► integer layers (bounds proved) ─┐
    mixture parameters ─► 16-bit tables ────────────────┼─► native-1.safetensors (+ model card as metadata)
    transforms ─► float16 ──────────────────────────────┘

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
from safetensors.torch import save
from torch import Tensor

from latentcodec.atomic import write_atomically
from latentcodec.nn.integer import layer_tensors
from latentcodec.nn.native.entropy_model import (
    FRACTION,
    MEAN_LIMIT,
    ROW_UNIT,
    ROWS,
    ROWS_PER_OCTAVE,
    SMALLEST_SCALE,
    TrainableEntropyModel,
    log_context,
)
from latentcodec.nn.native.model import NativeModel
from latentcodec.weights.native import NATIVE_MODEL

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
def integer_tensors(entropy: TrainableEntropyModel) -> dict[str, Tensor]:
    """Everything that determines the symbols, under its name in the weights file."""
    tensors = layer_tensors(entropy.layers)
    limit = FRACTION * 4 * ROWS
    for name, parameter in (("row_offset", entropy.row_offset), ("hyper_row", entropy.hyper_row)):
        rounded = (parameter * (ROW_UNIT * FRACTION)).round().clamp(-limit, limit)
        tensors[f"integer.{name}"] = rounded.to(torch.int32)
    tensors["integer.log_table"] = log_context(torch.arange(MEAN_LIMIT + 1).float()).to(torch.int8)
    weight, core, tail = (float(v) for v in entropy.mixture())
    rows = build_tables(weight, core, tail)
    tensors["integer.row_sizes"] = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    # One less than the frequency fits 16 bits.
    frequencies = np.array([f - 1 for row in rows for f in row], np.uint16)
    tensors["integer.frequencies"] = torch.from_numpy(frequencies)
    return tensors


def export(model: NativeModel, card: dict[str, Any], path: Path) -> None:
    """Write a model as a weights file, replacing it atomically."""
    tensors = integer_tensors(model.entropy)
    for prefix, module in (
        ("analysis", model.analysis),
        ("synthesis", model.synthesis),
        ("hyper_analysis", model.entropy.analysis),
    ):
        for name, value in module.state_dict().items():
            wide = name.startswith("log_")
            tensors[f"{prefix}.{name}"] = value.float() if wide else value.half()
    for name, stored in MIXTURE.items():
        tensors[stored] = getattr(model.entropy, name).detach().float()
    metadata = {
        "model_number": str(NATIVE_MODEL),
        "config": json.dumps(model.config.to_dict()),
        "card": json.dumps(card, sort_keys=True),
    }
    write_atomically(path, save({k: v.contiguous() for k, v in tensors.items()}, metadata))
