"""What the parity tests share: random parameters, the measure, full-size networks without copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

LIMIT = {torch.float32: 1e-5, torch.float64: 1e-10}

Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def randomise(network: Network, seed: int = 0) -> Network:
    """Random values in every parameter, so that no zero or one that a constructor sets hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    count = 1_000_003  # of numbers, again and again: full-size networks have 10^9
    numbers = torch.randn(count, generator=generator).repeat(2)
    for parameter in network.parameters():
        first = count - int(torch.randint(count, (1,), generator=generator))
        for piece in parameter.flatten().split(count):
            piece.copy_(numbers[first : first + len(piece)])
        if parameter.ndim > 1:
            parameter.mul_(parameter[0].numel() ** -0.5)  # activations keep their size
        else:
            parameter.mul_(0.2)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.weight.add_(1)
    return network.eval().requires_grad_(False)


def random_on(build: Callable[[], Network], dtype: torch.dtype = torch.float32, seed: int = 0) -> Network:
    """A network of random parameters, built without the constructor's own (slow) initialisation."""
    with torch.device("meta"):
        network = build()
    return randomise(network.to(dtype).to_empty(device="cpu"), seed)


def sharing(build: Callable[[], Network], state: dict[str, Tensor]) -> Network:
    """A network whose parameters *are* the given tensors: two networks, one copy in memory."""
    with torch.device("meta"):
        network = build()
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, L2 norms. Shapes must be equal."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    return float((found - expected).norm() / expected.norm())
