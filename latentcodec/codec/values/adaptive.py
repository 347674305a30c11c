"""The adaptive context model: tables rows and means for latents of any autoencoder, learned while coding.

                    neighbours ─► least squares per channel ───────────┐
    parts (adaptive_order.py)                                          + ─► mean ─► centre, phase ─┐
        earlier channels' residuals, same position ─► least squares ───┘                           ├─► row
        magnitudes of residuals: neighbours', earlier channels' ─► least squares ─► expected magnitude ─┘

    code(channels, positions, centre, sign, rows) ─► values ─► sums of the least squares ─► next part

A value v is coded as sign * (v - centre). All of it is integer arithmetic: a decoder that has the values of
the parts before has the same sums, weights and rows as the encoder, on every machine. Nothing is trained;
what is assumed before anything is known are the constants below.

Units: means and residuals are in sixteenths (of a quantiser step), expected magnitudes in 1/256, weights in
1/4096. Sums of products go through float64 matrix products; they are integers below 2^53, hence exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from latentcodec.codec.values.adaptive_order import Kind, Part, parts

SATURATION = 1023  # of a value, as far as contexts see it
UNIT = 16
WEIGHT_BITS = 12
PHASES = 9  # a mean lies -8..8 sixteenths from its centre; the sign is the symbol's
MAX_GROUPS = 8  # of channels
FLOOR = 5  # of an expected magnitude

_ONE = 1 << WEIGHT_BITS
_MEAN_WEIGHTS = (1229, 1229)  # inner, outer: 0.3 each
_MEAN_RIDGE = 10 * UNIT * UNIT
_CROSS_RIDGE = 30 * UNIT * UNIT
_CROSS_LIMIT = _ONE
_MEAN_LIMIT = 2 * _ONE
_LEVEL_DECAY = 2  # bits: a level is worth a quarter of the next
# Weights of the expected magnitude: channel's average, neighbours', all channels' neighbours', here.
_MAGNITUDE_WEIGHTS = {  # (is it a first part, are there earlier channels)
    (True, False): (4096, 0, 0, 0),
    (True, True): (2048, 0, 0, 2048),
    (False, False): (1638, 1229, 1229, 0),
    (False, True): (1229, 819, 819, 1229),
}
_MAGNITUDE_RIDGE = 20 << 16
_RELATIVE_LIMIT = 4095  # of a feature over the expected magnitude, in 1/256
_AVERAGE_START = (205, 4)  # an average magnitude of 0.8, seen 4 times
_HIGHEST = (SATURATION + 1) * 512

Ints = npt.NDArray[np.int64]
Code = Callable[[slice, Ints, Ints, Ints, Ints], Ints]


def code_values(channels: int, height: int, width: int, thresholds: Ints, code: Code) -> Ints:
    """Go through a tile's values, each part as `code` gives it; the values (channels, height, width).

    thresholds: ascending expected magnitudes; a row's level is the number of those that are not above it.
    code(channels, positions (n,), centre, sign, rows) -> values: the last four (n, channels of the slice);
    sign is 1 or -1, and rows are level * PHASES + phase.
    """
    context = _Context(channels, height * width, thresholds)
    for part in parts(height, width):
        context.take(part, code)
    values: Ints = context.values[:-1].T.reshape(channels, height, width)
    return values


def average_magnitude(total: Ints, count: int) -> Ints:
    """Each channel's, in 1/256, where its residuals' magnitudes at `count` positions add up to `total`."""
    start, weight = _AVERAGE_START
    return np.maximum((UNIT * total + start * weight) // (count + weight), FLOOR)


def aim(mean: Ints, level: Ints) -> tuple[Ints, Ints, Ints]:
    """Centre, sign and row of values that are expected at a mean (sixteenths) with a level of magnitude."""
    centre = (mean + UNIT // 2) >> 4
    phase = mean - UNIT * centre
    return centre, np.where(phase < 0, -1, 1), level * PHASES + np.abs(phase)


class _Context:
    """Everything that is known of a tile: arrays of (positions + 1, channels), the last row being 0."""

    def __init__(self, channels: int, positions: int, thresholds: Ints) -> None:
        self.channels, self.thresholds = channels, thresholds
        self.group = -(-channels // MAX_GROUPS)
        self.values = np.zeros((positions + 1, channels), np.int64)
        self.seen = np.zeros_like(self.values)  # values, saturated
        self.residuals = np.zeros_like(self.values)
        self.total, self.count = np.zeros(channels, np.int64), 0
        self.average = average_magnitude(self.total, self.count)
        self.means: dict[Kind, _MeanFit] = {}
        self.crosses = [
            _Fit(np.zeros((self._members(first), first), np.int64), _CROSS_RIDGE, _CROSS_LIMIT, shared=True)
            for first in range(0, channels, self.group)
        ]
        starts = [_MAGNITUDE_WEIGHTS[False, channel >= self.group] for channel in range(channels)]
        self.magnitude = _Fit(np.array(starts, np.int64), _MAGNITUDE_RIDGE, _MEAN_LIMIT)

    def _members(self, first: int) -> int:
        return min(self.group, self.channels - first)

    def take(self, part: Part, code: Code) -> None:
        """Code one part and learn from it."""
        size = part.positions.size
        near = np.zeros((size, self.channels), np.int64)
        mean = near
        if part.kind is not Kind.FIRST:
            fit = self.means.setdefault(part.kind, _MeanFit(self.channels))
            inner, outer = (_mean_of(self.seen, places) for places in (part.inner, part.outer))
            mean = fit.predict(part.level, inner, outer)
            near = _mean_of(np.abs(self.residuals), part.inner)  # sixteenths of sixteenths: 1/256
        around = (near * 256 // self.average).sum(1) // self.channels
        for first in range(0, self.channels, self.group):
            self._take_group(part, code, first, mean, near, around)
        if part.kind is not Kind.FIRST:
            fit.learn(inner, outer, UNIT * self.seen[part.positions])
            self.magnitude.solve()
        for cross in self.crosses[1:]:
            cross.solve()
        self.total += np.abs(self.residuals[part.positions]).sum(0)
        self.count += size
        self.average = average_magnitude(self.total, self.count)

    def _take_group(self, part: Part, code: Code, first: int, mean: Ints, near: Ints, around: Ints) -> None:
        """Code the channels of the group that begins with `first`; the planes are (n, all channels)."""
        members = slice(first, first + self._members(first))
        places, starts = part.positions, part.kind is Kind.FIRST
        before, cross = self.residuals[places, :first], self.crosses[first // self.group]
        spatial = mean[:, members]
        shift = _shifted(before @ cross.weights.T) if first else 0
        expectation = np.clip(spatial + shift, -SATURATION * UNIT, SATURATION * UNIT)
        features = self._features(members, near, around, before)
        weights = np.array(_MAGNITUDE_WEIGHTS[True, first > 0]) if starts else self.magnitude.weights[members]
        least = np.maximum(FLOOR, self.average[members] // 10)
        expected = np.clip((features * weights).sum(2) >> WEIGHT_BITS, least, _HIGHEST)
        level = np.searchsorted(self.thresholds, expected, side="right")
        values = code(members, places, *aim(expectation, level))
        saturated = np.clip(values, -SATURATION, SATURATION)
        residual = UNIT * saturated - expectation
        self.values[places, members], self.seen[places, members] = values, saturated
        self.residuals[places, members] = residual
        if not starts:
            relative = np.minimum(features * 256 // expected[..., None], _RELATIVE_LIMIT)
            target = np.minimum(np.abs(residual) * (UNIT * 256) // expected, _RELATIVE_LIMIT)
            self.magnitude.learn(relative.transpose(1, 0, 2), target.T, members)
        if first:
            cross.learn(before[None], (UNIT * saturated - spatial).T)

    def _features(self, members: slice, near: Ints, around: Ints, before: Ints) -> Ints:
        """(n, channels, 4), in 1/256: what the expected magnitude is a weighted sum of."""
        average = self.average[members]
        shape = near[:, members].shape
        here = np.zeros(len(near), np.int64)
        if before.shape[1]:
            relative = np.abs(before) * (UNIT * 256) // self.average[: before.shape[1]]
            here = relative.sum(1) // before.shape[1]
        return np.stack(
            [
                np.broadcast_to(average, shape),
                near[:, members],
                around[:, None] * average >> 8,
                here[:, None] * average >> 8,
            ],
            axis=2,
        )


def _mean_of(plane: Ints, places: Ints) -> Ints:
    """16 times the mean over the neighbours (4 or 8, n): (n, channels)."""
    total: Ints = plane[places[0]]
    for place in places[1:]:
        total = total + plane[place]
    return total * (UNIT // len(places))


def _shifted(products: Ints) -> Ints:
    return products + _ONE // 2 >> WEIGHT_BITS


class _MeanFit:
    """Per channel, the weights of the inner and the outer neighbours: two unknowns, solved exactly."""

    def __init__(self, channels: int) -> None:
        self.sums = np.zeros((5, channels), np.int64)  # ii, io, oo, it, ot
        self.level = 0

    def predict(self, level: int, inner: Ints, outer: Ints) -> Ints:
        """Means (n, channels) in sixteenths."""
        if level != self.level:
            self.sums >>= _LEVEL_DECAY
            self.level = level
        first, second = self._weights()
        return _shifted(first * inner + second * outer)

    def _weights(self) -> tuple[Ints, Ints]:
        # Python's integers: the products have up to 100 bits.
        ii, io, oo, it, ot = self.sums.astype(object)
        ii, oo = ii + _MEAN_RIDGE, oo + _MEAN_RIDGE
        it, ot = (
            _ONE * total + _MEAN_RIDGE * weight for total, weight in zip((it, ot), _MEAN_WEIGHTS, strict=True)
        )
        determinant = ii * oo - io * io
        first, second = (it * oo - ot * io) // determinant, (ot * ii - it * io) // determinant
        return tuple(
            np.array([min(max(w, -_MEAN_LIMIT), _MEAN_LIMIT) for w in row], np.int64)
            for row in (first, second)
        )  # type: ignore[return-value]

    def learn(self, inner: Ints, outer: Ints, target: Ints) -> None:
        """Add a part's sums."""
        pairs = (inner, inner), (inner, outer), (outer, outer), (inner, target), (outer, target)
        self.sums += np.stack([(a * b).sum(0) for a, b in pairs])


class _Fit:
    """Least squares for several targets by one integer Gauss-Seidel sweep a part, from the last weights on.

    weights: (targets, features). shared: the targets have the same features.
    """

    def __init__(self, weights: Ints, ridge: int, limit: int, shared: bool = False) -> None:
        targets, features = weights.shape
        self.weights, self._start = weights, weights.copy()
        self._ridge, self._limit = ridge, limit
        self._products = np.zeros((1 if shared else targets, features, features), np.int64)
        self._targets = np.zeros((targets, features), np.int64)

    def learn(self, features: Ints, target: Ints, members: slice = slice(None)) -> None:
        """Add a part: features (targets or 1, n, features), target (targets, n)."""
        exact = features.astype(np.float64)
        self._products[members] += (exact.transpose(0, 2, 1) @ exact).astype(np.int64)
        self._targets[members] += (target[:, None].astype(np.float64) @ exact)[:, 0].astype(np.int64)

    def solve(self) -> None:
        """Move the weights towards the solution."""
        count = self.weights.shape[1]
        if not count:
            return
        diagonal = np.arange(count)
        products = self._products.copy()
        products[:, diagonal, diagonal] += self._ridge
        targets = _ONE * self._targets + self._ridge * self._start
        # Shifted below 2^31, so that the sums of products with weights stay far below 2^63.
        shift = max(int(products[:, diagonal, diagonal].max()).bit_length() - 31, 0)
        products >>= shift
        targets >>= shift
        for j in range(count):
            error = targets[:, j] - (self.weights * products[:, j]).sum(1)
            change = error // np.maximum(products[:, j, j], 1)
            np.clip(self.weights[:, j] + change, -self._limit, self._limit, out=self.weights[:, j])
