"""What a prior is fitted to: what the adaptive coder meets in the latents of random crops, kept in memory.

pictures ─► random crops ─► encode ─► latents, sensitivities ─► at several qualities: the encoder's own steps
    ─► adaptive coder with rate-aware rounding ─► at some positions: network inputs, expectation, value
Examples ─► batch(step) ─► Batch
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.autoencoder.steps import choose_steps, sensitivities
from latentcodec.codec.values import scalar
from latentcodec.codec.values.adaptive import PHASES, UNIT, Ints, code_values
from latentcodec.codec.values.adaptive_order import Kind
from latentcodec.codec.values.adaptive_tables import AdaptiveTables, shipped_tables
from latentcodec.codec.values.coder import Floats
from latentcodec.codec.values.context_coding import RATE_WEIGHT, best_values, bits_of
from latentcodec.codec.values.prior import EIGHTHS, VALUE_LIMIT, shifts
from latentcodec.codec.values.prior_context import Bytes, Surroundings
from latentcodec.codec.values.prior_file import CENTRE_BITS
from latentcodec.errors import TrainingError
from latentcodec.nn.knots import MAX_LEVEL
from latentcodec.picture.guard import open_image
from latentcodec.training.data import random_crop, unreadable

CROP = 32  # side of a crop in latent positions
QUALITIES = 4  # of each crop
REPORT_EVERY = 20  # crops
# Positions of each kind that are kept of a crop, in the proportions of the coding order; multiples of SHARE.
SHARE = 4  # a batch has one in so many of them
KEPT = {Kind.FIRST: 4, Kind.CENTRE: 84, Kind.ROW: 84, Kind.COLUMN: 84}


@dataclass(frozen=True)
class Batch:
    """Samples, each a crop at a quality, float32. n positions, those of each kind together.

    surroundings: by kind (B, inputs, 1, positions of the kind); expected, seen: (B, inputs, 1, n); levels,
    means, values: (B, C, n); quality, adaptive: (B,), the latter the adaptive coder's bits a latent.
    """

    surroundings: dict[Kind, Tensor]
    expected: Tensor
    seen: Tensor
    levels: Tensor
    means: Tensor
    values: Tensor
    quality: Tensor
    adaptive: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        fields = {name: value for name, value in vars(self).items() if name != "surroundings"}
        on_device = {name: value.to(device) for name, value in fields.items()}
        return Batch({kind: x.to(device) for kind, x in self.surroundings.items()}, **on_device)


@dataclass
class Examples:
    """Samples of one autoencoder: lists of one array each. centres: (C,) the channels' means, in 2^-20."""

    centres: Ints
    surroundings: dict[Kind, list[npt.NDArray[np.int8]]] = field(
        default_factory=lambda: {k: [] for k in Kind}
    )
    expected: list[npt.NDArray[np.int8]] = field(default_factory=list)
    seen: list[npt.NDArray[np.int8]] = field(default_factory=list)
    levels: list[npt.NDArray[np.int16]] = field(default_factory=list)
    means: list[npt.NDArray[np.int16]] = field(default_factory=list)
    values: list[npt.NDArray[np.int16]] = field(default_factory=list)
    quality: list[int] = field(default_factory=list)
    adaptive: list[float] = field(default_factory=list)

    def batch(self, seed: int, step: int, count: int) -> Batch:
        """Parts of `count` samples of step `step`: a function of these, over the whole range of qualities."""
        rng = np.random.default_rng((seed, step))
        order = np.argsort(self.quality, kind="stable")
        places = ((np.arange(count) + rng.random(count)) / count * len(order)).astype(int)
        return self.take(order[places].tolist(), int(rng.integers(SHARE)))

    def take(self, chosen: list[int], first: int = 0, share: int = SHARE) -> Batch:
        """Of these samples the positions `first`, `first + share`, ..."""

        def stack(arrays: list[npt.NDArray[np.int8]] | list[npt.NDArray[np.int16]]) -> Tensor:
            return torch.from_numpy(np.stack([arrays[i][first::share].T for i in chosen])).float()

        return Batch(
            {kind: stack(arrays)[:, :, None] for kind, arrays in self.surroundings.items()},
            stack(self.expected)[:, :, None],
            stack(self.seen)[:, :, None],
            stack(self.levels),
            stack(self.means),
            stack(self.values),
            torch.tensor([float(self.quality[i]) for i in chosen]),
            torch.tensor([self.adaptive[i] for i in chosen], dtype=torch.float32),
        )

    def add(
        self, latents: Floats, shows: Floats, quality: int, tables: AdaptiveTables, rng: np.random.Generator
    ) -> None:
        """Add a crop (C, h, w) with its sensitivities at a quality level."""
        quantiser = choose_steps(quality, shows, latents.mean((1, 2)))
        scaled = latents / scalar.steps(quantiser)
        scaled = scaled - shifts(scaled, quantiser, self.centres)[:, None, None] / EIGHTHS
        recorder, (channels, height, width) = _Recorder(scaled, tables), scaled.shape
        code_values(channels, height, width, tables.thresholds, recorder.code)
        chosen = {kind: recorder.some(kind, rng) for kind in Kind}
        for kind, arrays in chosen.items():
            self.surroundings[kind].append(arrays[0])
        targets: tuple[list[Any], ...] = (
            self.expected,
            self.seen,
            self.levels,
            self.means,
            self.values,
        )
        for place, target in enumerate(targets, 1):
            target.append(np.concatenate([arrays[place] for arrays in chosen.values()]))
        self.quality.append(quality)
        self.adaptive.append(recorder.bits / scaled.size)


class _Recorder:
    """Codes a crop (C, h, w) in steps with the adaptive coder, and keeps what a prior's network would get."""

    def __init__(self, scaled: Floats, tables: AdaptiveTables) -> None:
        channels, height, width = scaled.shape
        self.bits = 0.0
        self._wanted = scaled.reshape(channels, -1).T
        self._costs = tables.costs
        self._known = Surroundings(channels, height, width, tables.thresholds)
        # Of each part: what Examples has lists of, group after group.
        self._parts: dict[Kind, list[list[tuple[Ints | Bytes, ...]]]] = {kind: [] for kind in Kind}
        self._inputs: dict[Kind, list[Bytes]] = {kind: [] for kind in Kind}
        self._groups: list[tuple[Ints | Bytes, ...]] = []

    def code(self, members: slice, places: Ints, centre: Ints, sign: Ints, rows: Ints) -> Ints:
        """As code_values wants it."""
        if members.start == 0:
            kind, inputs = self._known.enter()
            self._groups = []
            self._inputs[kind].append(inputs)
            self._parts[kind].append(self._groups)
        level, phase = np.divmod(rows, PHASES)
        mean = UNIT * centre + sign * phase
        target = self._wanted[places, members]
        values = best_values(target, centre, sign, rows, self._costs, VALUE_LIMIT, RATE_WEIGHT)
        self.bits += float(bits_of(values, centre, sign, rows, self._costs).sum())
        expected = self._known.expected(members, level)
        seen = self._known.seen(members, places, values, mean, level)
        self._groups.append((expected, seen, level, mean, values))
        return values

    def some(self, kind: Kind, rng: np.random.Generator) -> list[npt.NDArray[Any]]:
        """Surroundings, expected, seen, levels, means, values at KEPT random positions of a kind."""
        inputs = np.concatenate(self._inputs[kind])
        places = rng.integers(len(inputs), size=KEPT[kind])
        arrays: list[npt.NDArray[Any]] = [inputs[places]]
        for number, dtype in enumerate((np.int8, np.int8, np.int16, np.int16, np.int16)):
            parts = [np.concatenate([group[number] for group in part], 1) for part in self._parts[kind]]
            arrays.append(np.concatenate(parts)[places].astype(dtype))
        return arrays


def gather_examples(
    codec: LatentCodec,
    paths: list[Path],
    seed: int,
    count: int,
    seconds: float | None = None,
    stopped: Callable[[], object] = lambda: False,
    progress: Callable[[dict[str, Any]], None] | None = None,
    centres: Ints | None = None,
) -> Examples:
    """Examples of `count` random crops of pictures; of fewer, but at least 8, where `seconds` run out.

    Ends early when stopped() is true, too. Pictures smaller than a crop are passed over. progress gets what
    is done to crops, to how many, of how many, the seconds so far and those that remain; centres are those of
    other examples, or the latents' own means. Raises TrainingError naming a file that is no picture, or where
    none is large enough.
    """
    rng = np.random.default_rng(seed)
    latents: list[Floats] = []
    begun = time.monotonic()
    crops = _crops(paths, CROP * codec.downscale, rng)
    while len(latents) < count and not stopped():
        # Coding them takes longer than this.
        if len(latents) >= 8 and seconds is not None and time.monotonic() - begun > seconds / 4:
            break
        latents.append(codec.analyse(next(crops)))
        _report(progress, "encoded", len(latents), count, begun)
    if not latents:
        raise TrainingError("stopped before there were any latents to fit a prior to")
    return examples_of(
        codec,
        latents,
        rng,
        lambda: bool(stopped()) or (seconds is not None and time.monotonic() - begun > seconds),
        progress,
        centres,
    )


def examples_of(
    codec: LatentCodec,
    latents: list[Floats],
    rng: np.random.Generator,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[dict[str, Any]], None] | None = None,
    centres: Ints | None = None,
) -> Examples:
    """Examples of the latents of crops, each at QUALITIES quality levels."""
    if centres is None:
        means = np.mean([crop.mean((1, 2)) for crop in latents], 0)
        centres = np.rint(means * (1 << CENTRE_BITS)).astype(np.int64)
    examples, begun = Examples(centres), time.monotonic()
    for number, crop in enumerate(latents):
        if number and stopped():
            break
        shows = sensitivities(codec, crop)
        for part in range(QUALITIES):
            quality = int((part + rng.random()) / QUALITIES * MAX_LEVEL)
            examples.add(crop, shows, quality, shipped_tables(), rng)
        _report(progress, "coded", number + 1, len(latents), begun)
    return examples


def _report(
    progress: Callable[[dict[str, Any]], None] | None, what: str, done: int, count: int, begun: float
) -> None:
    if progress and (done % REPORT_EVERY == 0 or done == count):
        seconds = time.monotonic() - begun
        row = {"crops": done, "what": what, "count": count, "seconds": seconds}
        progress(row | {"remaining": seconds * (count - done) / done})


def _crops(paths: list[Path], side: int, rng: np.random.Generator) -> Iterator[npt.NDArray[np.uint8]]:
    """Crops of the pictures in a random order, again and again."""
    order, any_large = rng.permutation(len(paths)).tolist(), False
    while True:
        for place in order:
            try:
                with paths[place].open("rb") as file, open_image(file, str(paths[place])) as image:
                    small = min(image.size) < side
                    pixels = np.array(image.convert("RGB")) if not small else None
            except Exception as error:  # Pillow's decoders raise almost anything on damaged data
                raise unreadable(paths[place], error) from error
            if pixels is not None:
                any_large = True
                yield np.array(random_crop(pixels, side, rng), order="C")
        if not any_large:
            raise TrainingError(f"no picture of {len(paths)} has both sides of at least {side} pixels")
