"""Muon for matrices and convolutions, Adam for the rest, as one step function over plain tensors.

Muon: Keller Jordan et al. (2024); the update is the momentum with its singular values set to about one,
scaled to the size of an Adam update as in Liu et al., "Muon is scalable for LLM training" (2025), so that
both share one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients
NEWTON_SCHULZ_STEPS = 4
SMALLEST_SIDE = 16  # matrices with a shorter side go to Adam


def orthogonalise(matrix: Tensor) -> Tensor:
    """Replace the singular values of (m, n) by values near one (Newton-Schulz iteration in bfloat16)."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.t()
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.t()
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.t() if tall else x).to(matrix.dtype)


class Optimiser:
    """Parameters with their moments; state_dict and load_state_dict are exact."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], *, muon: bool = True) -> None:
        parameters = dict(named)
        self.matrices = [p for name, p in parameters.items() if muon and self.suits_muon(name, p)]
        chosen = {id(p) for p in self.matrices}
        rest = [p for p in parameters.values() if id(p) not in chosen]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.adam = torch.optim.Adam(rest, lr=1e-3, betas=(0.9, 0.98), fused=True)

    @staticmethod
    def suits_muon(name: str, parameter: nn.Parameter) -> bool:
        """Hidden weights: no biases, knot tables or block transforms, whose rows have their own scales."""
        return (
            name.endswith("weight")
            and parameter.ndim >= 2
            and min(parameter.shape[0], parameter[0].numel()) >= SMALLEST_SIDE
        )

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Apply the gradients and clear them."""
        for group in self.adam.param_groups:
            group["lr"] = learning_rate
        self.adam.step()
        for parameter, momentum in zip(self.matrices, self.momentum, strict=True):
            if parameter.grad is None:
                continue
            momentum.lerp_(parameter.grad, 1 - MOMENTUM)
            update = parameter.grad.lerp(momentum, MOMENTUM).flatten(1)
            scale = 0.2 * max(update.shape) ** 0.5
            parameter.add_(orthogonalise(update).view_as(parameter), alpha=-learning_rate * scale)
            parameter.grad = None
        self.adam.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters."""
        return {"adam": self.adam.state_dict(), "momentum": self.momentum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.adam.load_state_dict(state["adam"])
        for own, saved in zip(self.momentum, state["momentum"], strict=True):
            own.copy_(saved)
