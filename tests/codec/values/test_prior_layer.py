"""A prior's layers in PyTorch: the integers of docs/model.md, in float32 and in int64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latentcodec.codec.values.prior_layer import RunnableLayer
from latentcodec.nn.exact.layer import ACCUMULATOR_LIMIT, ACTIVATION_LIMIT, IntegerLayer
from latentcodec.nn.knots import LEVELS_PER_KNOT, MAX_LEVEL
from tests.nn.exact.engine_cases import random_layer
from tests.nn.exact.reference_engine import ReferenceEngine

CPU = torch.device("cpu")


def specified(layer: IntegerLayer, x: Tensor, level: int) -> Tensor:
    """docs/model.md, "Layers": x (1, I, H, W) -> (1, O, H, W)."""
    found = ReferenceEngine().layer(layer)(x[0].permute(1, 2, 0).long().numpy(), level)
    return torch.from_numpy(found).permute(2, 0, 1)[None]


def check(layer: IntegerLayer, x: Tensor, level: int) -> None:
    out = RunnableLayer.prepare(layer, CPU, torch.float32)(x, level)
    assert out.dtype == torch.float32
    assert torch.equal(out, out.round())
    # A prior's outputs are not limited to the range of wide activations.
    assert torch.equal(out.long().clamp(-32767, 32767), specified(layer, x, level))
    assert torch.equal(RunnableLayer.prepare(layer, CPU, torch.int64)(x.long(), level), out.long())


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([0, 2]),
    st.tuples(st.integers(1, 9), st.integers(1, 40)),
    st.integers(0, MAX_LEVEL),
)
def test_any_valid_layer_is_exact(
    seed: int, inputs: int, kernel: int, gain: int, size: tuple[int, int], level: int
) -> None:
    layer = random_layer(seed, inputs, 8, kernel, gain)
    layer.validate("layer")
    noise = torch.randint(
        -127, 128, (1, inputs, *size), generator=torch.Generator().manual_seed(seed)
    ).float()
    for x in (noise, 127 * noise.sign(), torch.full_like(noise, 127), torch.full_like(noise, -127)):
        check(layer, x, level)


@pytest.mark.parametrize("kernel", [1, 3])
def test_worst_inputs_attain_the_bound_and_are_exact(kernel: int) -> None:
    good = random_layer(5, 16, 8, kernel)
    room = ACCUMULATOR_LIMIT - 1 - good.bound()
    away = np.where(good.bias >= 0, 1, -1)
    layer = replace(good, bias=good.bias + away * room)
    layer.validate("layer")
    runnable = RunnableLayer.prepare(layer, CPU, torch.float32)
    # What it sums up before it scales: floor(a + 1/2) is a for integers a.
    unscaled = replace(runnable, scale=torch.ones_like(runnable.scale))
    for row in range(8):
        knot = int(np.abs(layer.bias[:, row]).argmax())
        sign = 1 if layer.bias[knot, row] >= 0 else -1
        # Cross-correlation: the patch lies as the weights do.
        x = torch.from_numpy(np.sign(layer.weight[row]).astype("f4"))[None] * sign * ACTIVATION_LIMIT
        level, middle = knot * LEVELS_PER_KNOT, kernel // 2
        reached = int(unscaled(x, level)[0, row, middle, middle])
        assert abs(reached) + (1 << int(layer.shift[row]) - 1) == ACCUMULATOR_LIMIT - 1
        check(layer, x, level)


def test_wide_and_tall_planes_are_cut_into_strips_without_seams() -> None:
    layer = random_layer(3, 4, 5)
    for size in ((3, 1500), (700, 3), (33, 65)):
        x = torch.randint(-127, 128, (1, 4, *size), generator=torch.Generator().manual_seed(1)).float()
        check(layer, x, 77)
