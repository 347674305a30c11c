"""What the tests of the diffusion family's networks share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

# Weights that may not be redistributed lie beside the repository, where there are any.
SHARED_WEIGHTS = Path(__file__).resolve().parents[3] / "shared" / "weights"


Network = TypeVar("Network", bound=nn.Module)


@torch.no_grad()
def perturb(network: Network, seed: int = 0) -> Network:
    """Move every parameter off its initial value, zeros and ones too."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator).mul_(0.05))
    return network.eval().requires_grad_(False)


def relative_error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, in float64."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def gradient_error(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Autograd's slope of sum(f) along a random direction less a central difference, over the steepest slope.

    x and the function's parameters are float64. Work in place that breaks a gradient shows here.
    """
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(5))
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(leaf).sum(), leaf)
    step = 1e-6
    difference = (function(x + step * direction) - function(x - step * direction)).sum() / (2 * step)
    return abs(float(((gradient * direction).sum() - difference) / (gradient.norm() * direction.norm())))


def parameters(build: Callable[[], nn.Module]) -> int:
    """How many numbers a network has; nothing is allocated."""
    with torch.device("meta"):
        return sum(each.numel() for each in build().parameters())
