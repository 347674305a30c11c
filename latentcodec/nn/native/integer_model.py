"""The entropy model as integers: what files are encoded and decoded with. No PyTorch.

    z, level ─► features ─► step s: mean, row ─► code(rows, means) ─► residuals ─► y^ ─► context of step s + 1

`code` is the only difference between the two directions: an encoder quantises its latents around the means
and returns the residuals, a decoder reads them from the stream. An engine computes the networks; the integers
around them are numpy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import ACTIVATION_LIMIT, IntegerLayer, check_layers
from latentcodec.nn.knots import KNOTS, Integers, interpolate_integers
from latentcodec.nn.native.config import FRACTION, MEAN_LIMIT, ORDER, ROWS, STEPS, EntropyConfig
from latentcodec.nn.native.entropy import context_step, entropy_layers, hyper_synthesis

Map = TypeVar("Map")
Ints = NDArray[np.int32]
OFFSET_LIMIT = 1 << 14  # of a row offset: what a wide output adds to it cannot be told from more

# Step, means and rows of one step -> residuals, all int32 (C, cells).
Code = Callable[[int, Ints, Ints], Ints]


class IntegerModel(Generic[Map]):
    """The integer half of a native model on one engine.

    layers: name -> IntegerLayer; row_offset (KNOTS, C) and hyper_row (KNOTS, hyper): in sixteenths of a row;
    log_table (MEAN_LIMIT + 1,): the context input of each latent magnitude. Raises InvalidWeights.
    """

    def __init__(
        self,
        config: EntropyConfig,
        layers: Mapping[str, IntegerLayer],
        row_offset: Integers,
        hyper_row: Integers,
        log_table: Integers,
        engine: Engine[Map],
    ) -> None:
        check_layers("", layers, entropy_layers(config))
        for name, table, shape in (
            ("row_offset", row_offset, (KNOTS, config.latents)),
            ("hyper_row", hyper_row, (KNOTS, config.hyper)),
        ):
            if table.shape != shape or table.dtype.kind != "i":
                raise InvalidWeights(f"{name}: {table.dtype} {table.shape}, not integers {shape}")
            if max(int(table.max()), -int(table.min())) > OFFSET_LIMIT:
                raise InvalidWeights(
                    f"{name}: {table.min()}..{table.max()} reaches past {-OFFSET_LIMIT}..{OFFSET_LIMIT}"
                )
        check_log_table(log_table)
        self.config, self.engine = config, engine
        self.layers: dict[str, Any] = {name: engine.layer(layer) for name, layer in layers.items()}
        self.row_offset = row_offset[:, channel_order(config.latents)]
        self.hyper_row, self.logs = hyper_row, signed_table(log_table)

    def hyper_rows(self, level: int, height: int, width: int) -> Ints:
        """Table rows of z (hyper, height, width): they depend on channel and level alone."""
        rows = _row(interpolate_integers(self.hyper_row, level))
        return np.broadcast_to(rows[:, None, None], (len(rows), height, width))

    def latents(self, z: Ints, level: int, height: int, width: int, code: Code) -> Ints:
        """Run the four steps.

        z (hyper, ceil(height/4), ceil(width/4)). code(step, means, rows) gets arrays (C, cells), means in
        sixteenths and rows 0..ROWS-1 (row 0: residual surely zero; also where the plane has no such
        position), and returns the residuals. Returns y^ (C, height, width), in sixteenths, within
        +-MEAN_LIMIT.
        """
        with self.engine.settings():
            return self._latents(z, level, height, width, code)

    def _latents(self, z: Ints, level: int, height: int, width: int, code: Code) -> Ints:
        engine = self.engine
        narrow = np.clip(4 * z, -ACTIVATION_LIMIT, ACTIVATION_LIMIT).transpose(1, 2, 0)
        seen = [hyper_synthesis(engine, self.layers, engine.to_map(narrow), level)]
        cells = 2 * z.shape[1], 2 * z.shape[2]
        channels, group = self.config.latents, self.config.latents // 4
        # By group, whose channels lie side by side: channel 4 i + g is number i of group g.
        plane = np.zeros((2 * cells[0], 2 * cells[1], 4, group), np.int16)
        inside = np.zeros(plane.shape[:2], bool)
        inside[:height, :width] = True
        whole = bool(inside.all())
        offset = interpolate_integers(self.row_offset, level).astype(np.int32)
        for step in range(STEPS):
            out = engine.to_array(context_step(engine, self.layers, step, seen, level)).astype(np.int32)
            mean = np.clip(out[:, :, :channels], -MEAN_LIMIT, MEAN_LIMIT)
            row = _row(out[:, :, channels:] + offset)
            places = [slices(position) for position in ORDER[step]]
            coded = None if whole else _grouped([inside[place] for place in places], group)
            if coded is not None:
                row *= coded
            residual = code(step, _by_channel(mean), _by_channel(row))
            latent = np.ascontiguousarray(residual.T).reshape(mean.shape) * FRACTION
            latent += mean
            np.clip(latent, -MEAN_LIMIT, MEAN_LIMIT, latent)
            if coded is not None:
                latent *= coded
            for g, place in enumerate(places):
                plane[(*place, g)] = latent[:, :, g * group : (g + 1) * group]
            if step < STEPS - 1:
                seen.append(engine.to_map(signed_logs(self.logs, latent)))
        by_channel = plane[:height, :width].transpose(3, 2, 0, 1).astype(np.int32, order="C")
        return by_channel.reshape(channels, height, width)


def slices(position: int) -> tuple[slice, slice]:
    """Rows and columns of a position of all cells of 2x2."""
    return slice(position // 2, None, 2), slice(position % 2, None, 2)


def channel_order(channels: int) -> NDArray[np.int64]:
    """(C,) the latent channel of each of a step's channels."""
    return np.arange(channels).reshape(-1, 4).T.reshape(-1)


def signed_table(table: Integers) -> NDArray[np.int16]:
    """sign(v) table[|v|] of each latent v, -MEAN_LIMIT to MEAN_LIMIT, by v + MEAN_LIMIT."""
    positive = table[1:].astype(np.int16)
    return np.concatenate([-positive[::-1], np.zeros(1, np.int16), positive])


def signed_logs(signed: NDArray[np.int16], latents: Ints) -> NDArray[np.int16]:
    """What a signed_table has for latents within +-MEAN_LIMIT."""
    return np.take(signed, latents + MEAN_LIMIT, mode="clip")  # the quickest mode


def check_log_table(table: Integers, most: int = ACTIVATION_LIMIT) -> None:
    """Raise InvalidWeights unless it has a number of 0 to `most` for each latent's magnitude."""
    if table.shape != (MEAN_LIMIT + 1,) or table.dtype.kind != "i":
        raise InvalidWeights(f"log_table: {table.dtype} {table.shape}, not integers {(MEAN_LIMIT + 1,)}")
    if int(table.max()) > most or int(table.min()) < 0:
        raise InvalidWeights(f"log_table: {table.min()}..{table.max()} is outside 0..{most}")


def _grouped(inside: list[NDArray[np.bool_]], group: int) -> NDArray[np.bool_]:
    """(h, w) of each of four groups -> (h, w, 4 group)."""
    return np.repeat(np.stack(inside, 2), group, 2)


def _row(sixteenths: Integers) -> Ints:
    rows: Ints = np.clip((sixteenths + FRACTION // 2) >> 4, 0, ROWS - 1).astype(np.int32)
    return rows


def _by_channel(x: Ints) -> Ints:
    """(h, w, C) -> (C, cells)."""
    return np.ascontiguousarray(x.reshape(-1, x.shape[2]).T)
