"""From latents to samples in integers: the block transform in fixed point, and the residual branch.

    v ─┬─► x 2^log_gain(level) ─► coefficients, 2^-6 ─► + lapping ─► block transform ─► patches, 2^-8 ─┐
       └─► log table ─► residual branch (synthesis.correction) ─► x 2^log_scale(level) ─► 2^-8 ───────┴─► sum

Units are of an 8-bit step. docs/model.md, "Synthesis", specifies it; every engine gives the same samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.layer import MAX_SHIFT, WIDE_LIMIT, IntegerLayer, NarrowLayer, check_layers
from latentcodec.nn.knots import (
    KNOTS,
    LEVELS_PER_KNOT,
    MAX_LEVEL,
    POWER_BITS,
    Integers,
    Longs,
    interpolate_integers,
    powers_of_two,
)
from latentcodec.nn.native.config import PATCH, TransformConfig
from latentcodec.nn.native.integer_model import check_log_table, signed_logs, signed_table
from latentcodec.nn.native.synthesis import COLOURS, FINE_PATCH, correction, synthesis_layers

Map = TypeVar("Map")

COEFFICIENT_BITS = 6  # fractional bits of a coefficient, in 8-bit steps
COEFFICIENT_LIMIT = 1 << 18
LAPPING_BITS = 14  # of a lapping kernel's numbers
SKIP_BITS = 15  # of the block transform's
SAMPLE_BITS = 8  # of what samples are summed up from
PATCH_LIMIT = (1 << 22) - 1
_MANTISSA_BITS = 8  # of a multiplier of wide maps
_MOST_SHIFT = 40  # of a coefficient


class IntegerSynthesis(Generic[Map]):
    """The synthesis of a native model on one engine.

    layers: those of synthesis_layers. tables: log_gain and input_log_gain (KNOTS, C), stream_log_gain
    (KNOTS, 1) and log_scale (KNOTS, 48) in 2^-16 octaves; lapping.planes.0 to 2 (n, n, 3, 3), skip (C, 192),
    log_table. Raises InvalidWeights.
    """

    def __init__(
        self,
        config: TransformConfig,
        layers: Mapping[str, IntegerLayer | NarrowLayer],
        tables: Mapping[str, Integers],
        engine: Engine[Map],
    ) -> None:
        check_layers("synthesis.", layers, synthesis_layers(config))
        for name, shape in table_shapes(config).items():
            if tables[name].shape != shape or tables[name].dtype.kind != "i":
                raise InvalidWeights(
                    f"synthesis.{name}: {tables[name].dtype} {tables[name].shape}, not integers {shape}"
                )
        check_log_table(tables["log_table"], WIDE_LIMIT)
        self.config, self.engine = config, engine
        self._tables = tables
        self._logs = signed_table(tables["log_table"])
        self._layers: dict[str, Any] = {name: engine.layer(layer) for name, layer in layers.items()}
        planes = [tables[f"lapping.planes.{index}"] for index in range(COLOURS)]
        for name, plane in (
            *((f"lapping.planes.{i}", p) for i, p in enumerate(planes)),
            ("skip", tables["skip"]),
        ):
            _check_sums(name, plane)
        self._lapping = engine.exact_convolution(planes)
        self._block_transform = engine.exact_convolution([tables["skip"].T[:, :, None, None]])
        self._multipliers = lru_cache(maxsize=16)(self._compute_multipliers)
        for level in range(0, MAX_LEVEL + 1, LEVELS_PER_KNOT):  # between knots nothing lies further out
            self._multipliers(level)

    def _compute_multipliers(self, level: int) -> tuple[tuple[Longs, Longs], ...]:
        """Multiplier and shift of coefficients, logarithms, stream and correction at a level."""
        mantissa, exponent = powers_of_two(interpolate_integers(self._tables["log_gain"], level))
        coefficients = mantissa, _checked("log_gain", POWER_BITS - exponent, _MOST_SHIFT)
        narrow = []
        for name in ("input_log_gain", "stream_log_gain", "log_scale"):
            mantissa, exponent = powers_of_two(interpolate_integers(self._tables[name], level))
            rounded = (mantissa + (1 << POWER_BITS - _MANTISSA_BITS)) >> POWER_BITS - _MANTISSA_BITS + 1
            narrow.append((rounded, _checked(name, _MANTISSA_BITS - 1 - exponent, MAX_SHIFT)))
        return coefficients, *narrow

    def __call__(self, latents: Integers, level: int, bits: int = 8) -> NDArray[np.uint16]:
        """v (C, h, w) in sixteenths -> samples (8h, 8w, 3) of `bits` bits, 8 to 16."""
        with self.engine.settings():
            return self._samples(latents, level, bits)

    def _samples(self, latents: Integers, level: int, bits: int) -> NDArray[np.uint16]:
        engine = self.engine
        coefficient_gain, input_gain, stream_gain, scale = self._multipliers(level)
        v = np.ascontiguousarray(latents.transpose(1, 2, 0), np.int32)
        wide = correction(
            engine,
            self._layers,
            lambda logs: engine.multiply_wide(logs, *input_gain),
            lambda stream: engine.multiply_wide(stream, *stream_gain),
            self.config.synthesis_blocks,
            engine.to_map(signed_logs(self._logs, v)),
            level,
        )
        change = engine.multiply_wide(wide, *scale)
        del wide  # the correction first: its maps are small, those of patches the largest of all
        return engine.samples(self._patches(v, coefficient_gain), change, bits)

    def _patches(self, v: Integers, gain: tuple[Longs, Longs]) -> Map:
        """The block transform of latents (h, w, C) in sixteenths: an exact map of 192 channels."""
        engine = self.engine
        coefficients = engine.multiply_exact(engine.exact_map(v), *gain, COEFFICIENT_LIMIT)
        lapping = engine.multiply_exact(self._lapping(coefficients), *_power(LAPPING_BITS), COEFFICIENT_LIMIT)
        lapped = engine.add_exact(coefficients, lapping)
        del coefficients, lapping
        return engine.multiply_exact(
            self._block_transform(lapped), *_power(COEFFICIENT_BITS + SKIP_BITS - SAMPLE_BITS), PATCH_LIMIT
        )


def table_shapes(config: TransformConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the synthesis' tables, that of logarithms aside."""
    shapes: dict[str, tuple[int, ...]] = {
        "log_gain": (KNOTS, config.latents),
        "input_log_gain": (KNOTS, config.latents),
        "stream_log_gain": (KNOTS, 1),
        "log_scale": (KNOTS, COLOURS * FINE_PATCH**2),
        "skip": (config.latents, COLOURS * PATCH**2),
    }
    return shapes | {f"lapping.planes.{i}": (n, n, 3, 3) for i, n in enumerate(config.planes)}


def _power(shift: int) -> tuple[Longs, Longs]:
    return np.ones(1, np.int64), np.array([shift])


def _checked(name: str, shift: Longs, most: int) -> Longs:
    if shift.min() < 1 or shift.max() > most:
        raise InvalidWeights(
            f"synthesis.{name}: shifts {shift.min()} to {shift.max()} are outside 1 to {most}"
        )
    return shift


def _check_sums(name: str, kernel: Integers) -> None:
    """Raise InvalidWeights unless sums of products with two coefficients' limits stay exact in float64."""
    largest = int(np.abs(kernel.astype(np.float64)).sum()) * 2 * COEFFICIENT_LIMIT
    if largest >= 1 << 52:
        raise InvalidWeights(f"synthesis.{name}: a sum can reach {largest}, past the bound of {1 << 52}")
