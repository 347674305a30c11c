"""What a prior's network gets to know of a latent, and what becomes of the context model's expectation.

    context model ─► mean, level ──────────────────────────────┐
    values and residuals so far ─► Surroundings ─► network ────┴─► mean, level ─► centre, sign, row

Everything is an integer. Network inputs are within -127..127: magnitudes as logarithms, eight an octave;
values and residuals in sixteenths of the channel's average magnitude, or of the expected one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from latentcodec.codec.values.adaptive import PHASES, SATURATION, UNIT, Ints, aim, average_magnitude
from latentcodec.codec.values.adaptive_order import Kind, Part, parts
from latentcodec.codec.values.prior_layer import RunnableLayer
from latentcodec.codec.values.prior_network import OUTPUT_GAIN, SURROUNDINGS, PriorConfig, begin, go_on, judge
from latentcodec.nn.device import full_precision
from latentcodec.nn.exact.layer import ACTIVATION_LIMIT

_STEPS_AN_OCTAVE = 8  # of a logarithm
# logarithm(x) is the number of these that are not above x: round(8 log2(1 + x)).
LOG_STARTS: Ints = np.ceil(2 ** ((np.arange(1, ACTIVATION_LIMIT + 1) - 0.5) / _STEPS_AN_OCTAVE) - 1).astype(
    np.int64
)
_OUTPUT_UNIT = UNIT << OUTPUT_GAIN  # 64
Bytes = npt.NDArray[np.int8]


def logarithm(x: Ints) -> Ints:
    """8 log2(1 + x) of x >= 0, rounded, at most 127."""
    return np.searchsorted(LOG_STARTS, x, side="right")


def scales(thresholds: Ints) -> Ints:
    """(levels,) the expected magnitude that stands for each level, in 1/256: its least."""
    return np.append(thresholds[:1], thresholds)


def corrected(level: Ints, mean: Ints, wider: Ints, higher: Ints, thresholds: Ints) -> tuple[Ints, Ints]:
    """Level and mean with the network's changes."""
    unit = scales(thresholds)[level]
    mean = mean + (higher * unit + 512 >> 10)
    level = level * _OUTPUT_UNIT + wider + _OUTPUT_UNIT // 2 >> 6
    return level.clip(0, thresholds.size), mean.clip(-SATURATION * UNIT, SATURATION * UNIT)


class Surroundings:
    """The network's inputs, from a tile's values as they become known."""

    def __init__(self, channels: int, height: int, width: int, thresholds: Ints) -> None:
        self._parts = parts(height, width)
        self._values = np.zeros((height * width + 1, channels), np.int64)
        self._residuals = np.zeros_like(self._values)
        self._total, self._count = np.zeros(channels, np.int64), 0
        self._scales = scales(thresholds)
        self._part: Part | None = None

    def enter(self) -> tuple[Kind, Bytes]:
        """Begin the next part: its kind, and the inputs (n, SURROUNDINGS * channels) of its positions."""
        if self._part is not None:
            places = self._part.positions
            self._total += np.abs(self._residuals[places]).sum(0)
            self._count += places.size
        self._part = part = next(self._parts)
        self._average = average_magnitude(self._total, self._count)
        size, channels = part.positions.size, self._average.size
        self._near = np.zeros((size, channels), np.int64)
        self._far, self._high = self._near, self._near
        if part.kind is Kind.FIRST:
            return part.kind, np.zeros((size, SURROUNDINGS * channels), np.int8)
        values, residuals = self._values[part.inner], self._residuals[part.inner]
        self._near = logarithm(np.abs(residuals).sum(0))
        self._far = logarithm(np.abs(self._residuals[part.outer]).sum(0) * 4 // len(part.outer))
        self._high = logarithm(UNIT * np.abs(values).sum(0))
        signed = (*_in_units(UNIT * values, self._average), *_in_units(residuals, self._average))
        return part.kind, np.concatenate([self._near, self._far, self._high, *signed], 1).astype(np.int8)

    def expected(self, members: slice, level: Ints) -> Bytes:
        """(n, EXPECTED * channels) of a group whose latents are expected at these levels (n, channels)."""
        least = 2 * level
        usual = np.broadcast_to(logarithm(self._average[members]), level.shape)
        sizes = (self._near[:, members], self._far[:, members], self._high[:, members], usual)
        parts = [2 * (size - least) for size in sizes]
        return _limited([4 * level - 88, *parts])

    def seen(self, members: slice, places: Ints, values: Ints, mean: Ints, level: Ints) -> Bytes:
        """(n, SEEN * channels) of a group that is known now; mean: the adaptive coder's."""
        known = np.clip(values, -SATURATION, SATURATION)
        residual = UNIT * known - mean
        self._values[places, members], self._residuals[places, members] = known, residual
        size = 2 * (logarithm(4 * np.abs(residual)) - 2 * level)
        return _limited([_in_units(residual, self._scales[level]), size, 4 * level - 88])


def _in_units(sixteenths: Ints, unit: Ints) -> Ints:
    """Sixteenths of a step in sixteenths of a unit, which counts 1/256 of a step; limited."""
    return ((256 * sixteenths + unit // 2) // unit).clip(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)


def _limited(planes: list[Ints]) -> Bytes:
    return np.concatenate(planes, 1).clip(-ACTIVATION_LIMIT, ACTIVATION_LIMIT).astype(np.int8)


class PriorContext:
    """Corrects what the context model expects of one tile, group after group: a Correction."""

    def __init__(
        self,
        layers: Mapping[str, RunnableLayer],
        config: PriorConfig,
        thresholds: Ints,
        quality: int,
        shape: tuple[int, int],
        device: torch.device,
    ) -> None:
        """quality: the file's level. shape: rows and columns of the tile's latents."""
        self._layers, self._thresholds, self._quality, self._device = layers, thresholds, quality, device
        self._dtype = layers["mid"].weight.dtype
        self._surroundings = Surroundings(config.latents, *shape, thresholds)
        self._groups = {members.start: number for number, members in enumerate(config.groups)}
        self._last = len(self._groups) - 1

    def expect(self, members: slice, centre: Ints, sign: Ints, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Centre, sign and rows (n, channels) in place of the context model's."""
        group = self._groups[members.start]
        if group == 0:
            kind, surroundings = self._surroundings.enter()
            with full_precision(self._device):
                self._state = begin(self._layers, kind, self._tensor(surroundings), self._quality)  # type: ignore[arg-type]
        self._level, phase = np.divmod(rows, PHASES)
        self._mean = UNIT * centre + sign * phase
        own = self._tensor(self._surroundings.expected(members, self._level))
        with full_precision(self._device):
            changes = judge(self._layers, group, self._state, own, self._quality)  # type: ignore[arg-type]
        wider, higher = (change[0, :, 0].T.long().cpu().numpy() for change in changes)
        level, mean = corrected(self._level, self._mean, wider, higher, self._thresholds)
        return aim(mean, level)

    def learn(self, members: slice, places: Ints, values: Ints) -> None:
        """The values (n, channels) of the group that `expect` was called for."""
        seen = self._surroundings.seen(members, places, values, self._mean, self._level)
        group = self._groups[members.start]
        if group < self._last:
            inputs = self._tensor(seen)
            with full_precision(self._device):
                self._state = go_on(self._layers, group, self._state, inputs, self._quality)  # type: ignore[arg-type]

    def _tensor(self, inputs: Bytes) -> torch.Tensor:
        """(n, inputs) -> (1, inputs, 1, n)."""
        return torch.from_numpy(inputs).to(self._device).to(self._dtype).T[None, :, None]
