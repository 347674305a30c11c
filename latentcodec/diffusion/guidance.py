"""Classifier-free guidance: prediction = unconditional + scale (conditional - unconditional).

    x, t ─┬─► network under the prompt ─────────────► conditional ──┐
          └─► network under the negative prompt ────► unconditional ┴─► guided ─► [rescaled] ─► prediction

A denoiser is linear in its network's output, so guiding epsilon or v equals guiding x0. Ho and Salimans,
"Classifier-free diffusion guidance" (2022); scale 1 is the conditional one alone. `rescale` brings the spread
of the guided prediction back towards the conditional one's: Lin et al., "Common diffusion noise schedules and
sample steps are flawed" (2023), section 3.4; it goes from 0, nothing, to 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from latentcodec.diffusion.prediction import Network


def guide(conditional: Network, unconditional: Network, scale: float, rescale: float = 0.0) -> Network:
    """Guidance by two networks, run one after the other: slower than a batch, in half its memory."""
    if scale == 1:
        return conditional

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        return _mix(unconditional(x, timestep), conditional(x, timestep), scale, rescale)

    return network


def guide_batch(pair: Network, scale: float, rescale: float = 0.0) -> Network:
    """Guidance by one network of a batch of 2B: the first half unconditional, the second conditional."""

    def network(x: Tensor, timestep: Tensor) -> Tensor:
        without, with_condition = pair(torch.cat([x, x]), torch.cat([timestep, timestep])).chunk(2)
        return _mix(without, with_condition, scale, rescale)

    return network


def _mix(without: Tensor, with_condition: Tensor, scale: float, rescale: float) -> Tensor:
    guided = without + scale * (with_condition - without)
    if not rescale:
        return guided
    axes = tuple(range(1, guided.ndim))
    wanted, found = (each.std(axes, keepdim=True) for each in (with_condition, guided))
    return guided * (rescale * (wanted / found) + (1 - rescale))
