"""A network with its group norms fixed to the statistics of one run.

    network, x ─► run(x), of each group norm mean and variance ─► the network with x * gain + offset there

A piece of a plane then goes through as it does within the whole, but for attention; and a gradient keeps
nothing for these layers. The weights are shared, not copied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class FixedNorm(nn.Module):
    """A group norm with the statistics of x (B, C, H, W), as an affine function of each channel."""

    gain: Tensor
    offset: Tensor

    def __init__(self, norm: nn.GroupNorm, x: Tensor) -> None:
        super().__init__()
        groups = x.float().reshape(len(x), norm.num_groups, -1, *x.shape[2:])
        variance, mean = torch.var_mean(groups, dim=(0, 2, 3, 4), correction=0)
        members = norm.num_channels // norm.num_groups
        gain = (variance + norm.eps).rsqrt().repeat_interleave(members)
        offset = -mean.repeat_interleave(members) * gain
        if norm.affine:
            gain, offset = gain * norm.weight, offset * norm.weight + norm.bias
        self.register_buffer("gain", gain.to(x.dtype)[:, None, None])
        self.register_buffer("offset", offset.to(x.dtype)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.offset, x, self.gain)


def fix_norms(network: Network, run: Callable[[Network], object]) -> Network:
    """A network of the same weights whose group norms have the statistics that they meet in run(network)."""
    shared = {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())}
    fixed = copy.deepcopy(network, shared)
    met: dict[nn.Module, FixedNorm] = {}

    def meet(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(norm, nn.GroupNorm):
            met[norm] = FixedNorm(norm, inputs[0])

    hooks = [
        module.register_forward_pre_hook(meet)
        for module in fixed.modules()
        if isinstance(module, nn.GroupNorm)
    ]
    with torch.no_grad():
        run(fixed)
    for hook in hooks:
        hook.remove()
    for parent in list(fixed.modules()):
        for name, child in list(parent.named_children()):
            if child in met:
                setattr(parent, name, met[child])
    return fixed
