"""Muon for matrices and convolutions, Adam for the rest, as one step function over plain tensors.

gradients ─► step(rate)                                          one matrix after the other
          ─► device_step(rate on the device)                     those of a shape together, all on the device
state_dict ─► on the host, the same whichever of them was used ─► load_state_dict on any device

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


def orthogonalise_batch(matrices: Tensor) -> Tensor:
    """orthogonalise for (B, m, n), of which each is an operand of its own."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.transpose(1, 2) if tall else x).to(matrices.dtype)


def in_layout_of(like: Tensor, value: Tensor) -> Tensor:
    """`value` with the strides of `like`, which has its shape; itself where it has them already."""
    return (
        value if value.stride() == like.stride() else torch.empty_like(like, dtype=value.dtype).copy_(value)
    )


class Optimiser:
    """Parameters with their moments; state_dict and load_state_dict are exact."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], *, muon: bool = True) -> None:
        parameters = dict(named)
        self.matrices = [p for name, p in parameters.items() if muon and self.suits_muon(name, p)]
        chosen = {id(p) for p in self.matrices}
        rest = [p for p in parameters.values() if id(p) not in chosen]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self._alike: list[tuple[tuple[int, ...], list[int]]] = []  # shape, and which matrices have it
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

    def prepare_device_step(self, rate: Tensor) -> None:
        """Let device_step read its learning rate from `rate` (), a tensor on the parameters' device."""
        for group in self.adam.param_groups:
            group["lr"], group["capturable"] = rate, rate.is_cuda
        shapes: dict[tuple[int, ...], list[int]] = {}
        for index, parameter in enumerate(self.matrices):
            shapes.setdefault((len(parameter), parameter[0].numel()), []).append(index)
        self._alike = list(shapes.items())

    @torch.no_grad()
    def device_step(self, rate: Tensor) -> None:
        """As `step`, with nothing that waits for the host, so that a CUDA graph can hold it.

        rate: what prepare_device_step was given. Every matrix has its gradient.
        """
        self.adam.step()
        for shape, members in self._alike:
            parameters = [self.matrices[index] for index in members]
            momenta = [self.momentum[index] for index in members]
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            updates = torch._foreach_lerp(gradients, momenta, MOMENTUM)
            stacked = torch.stack([update.flatten(1) for update in updates])
            scaled = orthogonalise_batch(stacked) * (-rate * (0.2 * max(shape) ** 0.5))
            for parameter, change in zip(parameters, scaled, strict=True):
                parameter.add_(change.reshape(parameter.shape))
        for parameter in self.parameters():
            parameter.grad = None

    def parameters(self) -> list[nn.Parameter]:
        """All that it moves."""
        rest = [parameter for group in self.adam.param_groups for parameter in group["params"]]
        return self.matrices + rest

    def moments(self) -> list[Tensor]:
        """All tensors of its state, Adam's once there was a step."""
        states = self.adam.state.values()
        return self.momentum + [value for state in states for value in state.values()]

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters. What a GPU wrote can be loaded on a CPU."""
        adam = self.adam.state_dict()
        adam["param_groups"] = [
            group | {"lr": float(group["lr"]), "capturable": False} for group in adam["param_groups"]
        ]
        return {"adam": adam, "momentum": self.momentum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of state_dict."""
        self.adam.load_state_dict(state["adam"])
        for parameter, moments in self.adam.state.items():
            for name, value in moments.items():
                if value.shape == parameter.shape:  # fused kernels walk through them side by side
                    moments[name] = in_layout_of(parameter, value)
        for own, saved in zip(self.momentum, state["momentum"], strict=True):
            own.copy_(saved)
