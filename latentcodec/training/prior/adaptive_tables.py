"""Fits the probability tables of the adaptive coder: smooth shapes for what symbols were seen.

    pictures ─► latents ─► values at several steps ─► context model ─► counts
    counts (levels, phases, symbols) ─► per level two logistic distributions at the phase ─► integer tables

The shapes are smooth in the level, and zero and its neighbours get what the mean's phase says. A fit on the
latents of one autoencoder serves for others: only the shape is learned, scale and mean come from the context.

The shipped tables: fit_pictures on taef2's latents of the upper left 256x256 of 20 training pictures, none of
them held out.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.autoencoder.steps import sensitivities
from latentcodec.codec.values.adaptive import PHASES, UNIT, Ints, code_values
from latentcodec.codec.values.adaptive_tables import AdaptiveTables
from latentcodec.picture.picture import Pixels
from latentcodec.rans.tables import TOTAL, Tables

LEVELS = np.unique(np.rint(5 * 2 ** ((np.arange(44) + 0.5) / 4)).astype(np.int64))  # four an octave, in 1/256
VISIBLE_STEPS = (1.44, 0.72, 0.36, 0.18, 0.09, 0.045, 0.018)  # see codec/autoencoder/steps.py
REACH = 160  # symbols to each side that a table may hold
_STEPS = 1500
_RARE = 1.5  # slots: symbols beyond the last of so many are left to the escape


def fit_pictures(codec: LatentCodec, pictures: Iterable[Pixels]) -> AdaptiveTables:
    """Tables for the latents of pictures (H, W, 3), sides multiples of the autoencoder's downscale."""
    counts = np.zeros(((len(LEVELS) + 1) * PHASES, 2 * REACH + 1))
    for pixels in pictures:
        latents = codec.analyse(pixels)
        steps = (1 / sensitivities(codec, latents))[:, None, None]
        for visible in VISIBLE_STEPS:
            count_symbols(np.rint(latents / (visible * steps)).astype(np.int64), LEVELS, counts)
    return AdaptiveTables(LEVELS, fit_tables(counts.reshape(len(LEVELS) + 1, PHASES, -1), LEVELS))


def count_symbols(values: Ints, thresholds: Ints, counts: npt.NDArray[np.float64]) -> None:
    """Add to counts (rows, 2 * REACH + 1) the symbols that code values (channels, h, w)."""
    channels, height, width = values.shape
    flat = values.reshape(channels, -1).T

    def code(members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
        own: Ints = flat[places, members]
        np.add.at(counts, (rows, ((own - centre) * sign + REACH).clip(0, 2 * REACH)), 1)
        return own

    code_values(channels, height, width, thresholds, code)


def fit_tables(counts: npt.NDArray[np.float64], thresholds: npt.NDArray[np.int64]) -> Tables:
    """Tables of levels * PHASES rows.

    counts: (levels, PHASES, 2 * REACH + 1), how often each symbol from -REACH to REACH was seen.
    thresholds: (levels - 1,), the expected magnitudes in 1/256 at which the levels change.
    """
    middles = np.concatenate(
        [thresholds[:1] * 0.85, np.sqrt(thresholds[1:] * thresholds[:-1]), thresholds[-1:] * 1.2]
    )
    seen = torch.from_numpy(counts / counts.sum((1, 2), keepdims=True).clip(1))
    weight = torch.from_numpy(np.log1p(counts.sum((1, 2))))
    shape = torch.zeros((3, len(middles)), dtype=torch.float64)
    shape[0] = torch.from_numpy(np.log(middles / 256 / 1.6))
    shape[1], shape[2] = shape[0] + 0.8, -1.5
    start = shape.clone()
    shape.requires_grad_()
    optimiser = torch.optim.Adam([shape], lr=0.02)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        bits = -(seen * _probabilities(shape).log()).sum((1, 2))
        bend = (shape - start).diff(n=2, dim=1).square().sum()
        loss = (weight * bits).sum() + 20 * bend
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return _to_tables(_probabilities(shape.detach()).reshape(-1, 2 * REACH + 1).numpy())


def _probabilities(shape: Tensor) -> Tensor:
    """(levels, PHASES, symbols): two logistic distributions, each integrated over the symbols' cells."""
    edges = torch.arange(-REACH - 0.5, REACH + 1, dtype=torch.float64)
    offsets = torch.arange(PHASES, dtype=torch.float64) / UNIT
    x = (edges - offsets[:, None])[None]
    wide = torch.sigmoid(shape[2])[:, None, None]
    below = (1 - wide) * torch.sigmoid(x / shape[0].exp()[:, None, None])
    below = below + wide * torch.sigmoid(x / shape[1].exp()[:, None, None])
    return below.diff(dim=2).clamp(min=1e-12)


def _to_tables(probabilities: npt.NDArray[np.float64]) -> Tables:
    offsets, rows = [], []
    for p in probabilities:
        kept = np.flatnonzero(p * TOTAL > _RARE)
        low, high = min(kept[0], REACH - 1), max(kept[-1], REACH + 1)
        own = p[low : high + 1]
        own = np.append(own, max(1 - own.sum(), 1 / TOTAL))
        slots = np.maximum(np.floor(own / own.sum() * TOTAL), 1).astype(np.int64)
        slots[slots.argmax()] += TOTAL - slots.sum()
        rows.append(slots)
        offsets.append(REACH - low)
    return Tables.from_frequencies(np.concatenate(rows), np.array([len(row) for row in rows]), offsets)
