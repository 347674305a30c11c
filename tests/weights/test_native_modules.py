"""Trainable networks filled from a weights file: what the file holds, strictly, and ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.layer import IntegerLayer
from latentcodec.nn.integer import TrainableIntegerConv, TrainableNarrow
from latentcodec.training.native.export import synthesis_tensors
from latentcodec.weights import native_modules
from latentcodec.weights.native import Array, NativeWeights

CPU = torch.device("cpu")
Make = Callable[[NativeWeights, torch.device], torch.nn.Module]
MAKERS: dict[str, Make] = {
    "analysis": native_modules.analysis,
    "hyper_analysis": native_modules.hyper_analysis,
    "synthesis": native_modules.synthesis,
}


@pytest.mark.parametrize("name", MAKERS)
def test_modules_are_ready_to_run_whatever_the_default_is(weights: NativeWeights, name: str) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(False):
            module = MAKERS[name](weights, CPU)
    finally:
        torch.set_default_dtype(before)
    assert not module.training
    for part, tensor in module.state_dict().items():
        assert tensor.dtype == torch.float32, part
        assert tensor.isfinite().all(), part
    assert not any(parameter.requires_grad for parameter in module.parameters())


@pytest.mark.parametrize("name", ["analysis", "hyper_analysis"])
def test_floats_are_those_of_the_file(weights: NativeWeights, name: str) -> None:
    state = MAKERS[name](weights, CPU).state_dict()
    stored = {key for key in weights.tensors if key.startswith(f"{name}.")}
    assert {f"{name}.{part}" for part in state} == stored
    for part, tensor in state.items():
        assert np.array_equal(tensor.numpy(), weights.tensors[f"{name}.{part}"].astype(np.float32))


def test_the_synthesis_is_that_of_the_file(weights: NativeWeights) -> None:
    """What comes back from it by an export: the integers, whatever shifts they have."""
    tensors = synthesis_tensors(native_modules.synthesis(weights, CPU))
    assert tensors.keys() == {name for name in weights.tensors if name.startswith("synthesis.")}
    for name, tensor in tensors.items():
        assert np.array_equal(tensor, weights.tensors[name]), name


def test_the_synthesis_keeps_its_shifts_and_has_gradients(weights: NativeWeights) -> None:
    module = native_modules.synthesis(weights, CPU)
    for name, layer in weights.synthesis_layers().items():
        trainable = module.layers[name.replace(".", "/")]
        if isinstance(layer, IntegerLayer):
            assert isinstance(trainable, TrainableIntegerConv)
            assert trainable.exponents().tolist() == layer.shift.tolist()
        else:
            assert isinstance(trainable, TrainableNarrow)
            assert trainable.shift.tolist() == layer.shift.tolist()
    y = torch.randn(1, weights.config.transform.latents, 2, 3, generator=torch.Generator().manual_seed(1))
    y.requires_grad_()
    module(y, torch.tensor([2000.0])).sum().backward()
    assert y.grad is not None
    assert y.grad.abs().sum() > 0


def changed(weights: NativeWeights, name: str, change: Callable[[Array], Array] | None) -> NativeWeights:
    rest = {key: tensor for key, tensor in weights.tensors.items() if key != name}
    if change is not None:
        rest[name] = change(weights.tensors[name].copy())
    return replace(weights, tensors=rest)


@pytest.mark.parametrize(
    ("maker", "name", "change"),
    [
        ("analysis", "analysis.skip", None),
        ("analysis", "analysis.skip", lambda t: t[:, 1:]),
        ("analysis", "analysis.log_gain", lambda t: t[:1]),
        ("hyper_analysis", "hyper_analysis.conv_in.bias", None),
        ("hyper_analysis", "hyper_analysis.bias", lambda t: t[1:]),
        ("synthesis", "synthesis.skip", None),
        ("synthesis", "synthesis.skip", lambda t: t[:1]),  # each of which could be spread over all rows
        ("synthesis", "synthesis.log_gain", lambda t: t[:1]),
        ("synthesis", "synthesis.lapping.planes.2", lambda t: t[:, :, :1]),
        ("synthesis", "synthesis.up.conv.weight", lambda t: t[:1]),
        ("synthesis", "synthesis.up.conv.shift", None),
        ("synthesis", "synthesis.out.narrow.bias", lambda t: t[:, :1]),
        ("synthesis", "synthesis.fine.conv2.bias", lambda t: t + (1 << 23)),
    ],
)
def test_what_does_not_fit_is_refused(
    weights: NativeWeights, maker: str, name: str, change: Callable[[Array], Array] | None
) -> None:
    with pytest.raises(InvalidWeights, match=maker):
        MAKERS[maker](changed(weights, name, change), CPU)


def test_what_is_too_much_is_refused(weights: NativeWeights) -> None:
    more = replace(weights, tensors={**weights.tensors, "analysis.more": np.zeros(3, np.float16)})
    with pytest.raises(InvalidWeights, match=r"(?s)analysis: .*more"):
        native_modules.analysis(more, CPU)
