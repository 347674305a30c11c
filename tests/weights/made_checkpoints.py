"""What the tests of loading share: networks of random weights, and their checkpoints in other layouts.

The layouts are made with the library's own tables, backwards; that those are right is what tests/parity/
test_loading.py shows with diffusers' converters, which map the same names the other way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from latentcodec.weights.checkpoints.key_rules import KEY, MATRIX, QUERY, TRANSPOSE, VALUE, KeyRules

Network = TypeVar("Network", bound=nn.Module)
State = dict[str, Tensor]


def random_network(
    build: Callable[[], Network], seed: int = 0, dtype: torch.dtype = torch.float32
) -> Network:
    """A network of small random weights, made without its constructor's (slow) initialisation."""
    with torch.device("meta"):
        network = build()
    network = network.to(dtype).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).mul_(0.05))
    return network.eval().requires_grad_(False)


def in_layout(state: State, rules: KeyRules, prefix: str = "", *, convolutions: bool = False) -> State:
    """A network's tensors as a layout has them. convolutions: matrices that may be 1x1 convolutions are."""
    stored: State = {}
    thirds: dict[str, list[Tensor | None]] = {}
    for ours, tensor in state.items():
        name, change = prefix + rules.name(ours), rules.change(ours)
        if change in (QUERY, KEY, VALUE):
            thirds.setdefault(name, [None] * 3)[(QUERY, KEY, VALUE).index(change)] = tensor
        elif change is TRANSPOSE:
            stored[name] = tensor.t().contiguous()
        elif change is MATRIX and convolutions and tensor.ndim == 2:
            stored[name] = tensor[:, :, None, None]
        else:
            stored[name] = tensor
    return stored | {name: torch.cat([t for t in each if t is not None]) for name, each in thirds.items()}


def with_averages(state: State, averages: State) -> State:
    """An ldm checkpoint that has the averaged weights too, as LitEma names them."""
    flat = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): tensor
        for name, tensor in averages.items()
        if name.startswith("model.diffusion_model.")
    }
    return state | flat | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(5)}
