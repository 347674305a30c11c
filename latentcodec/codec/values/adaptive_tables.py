"""The shipped tables of the adaptive coder (docs/latents.md, "Tables").

    adaptive-1.safetensors ─► sizes, offsets, frequencies, thresholds ─► AdaptiveTables

A number of these tables, once released, means the same integers for ever; their hash stands in every file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from latentcodec.codec.values.adaptive import PHASES
from latentcodec.errors import InvalidWeights
from latentcodec.rans.tables import Tables, row_costs

FILE = "adaptive-1.safetensors"
_MAX_SIZE = 4096  # entries of a row: bounds the memory that a prior's file can ask for
_NAMES = {"frequencies": "<u2", "offsets": "<i4", "sizes": "<i4", "thresholds": "<i8"}


@dataclass(frozen=True, eq=False)
class AdaptiveTables:
    """Probability tables and the expected magnitudes that choose among them.

    thresholds: int64 (levels - 1,), ascending, in 1/256. tables: levels * PHASES rows.
    """

    thresholds: npt.NDArray[np.int64]
    tables: Tables

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """As stored: sizes and offsets of the rows, frequencies minus 1 row by row, thresholds."""
        rows = [
            np.diff(row)[:size] for row, size in zip(self.tables.cumulative, self.tables.size, strict=True)
        ]
        return {
            "frequencies": (np.concatenate(rows) - 1).astype("<u2"),
            "offsets": self.tables.offset.astype("<i4"),
            "sizes": self.tables.size.astype("<i4"),
            "thresholds": self.thresholds.astype("<i8"),
        }

    @cached_property
    def costs(self) -> npt.NDArray[np.float64]:
        """Bits of the symbols of each row, as row_costs gives them."""
        return row_costs(self.tables)

    @cached_property
    def hash(self) -> bytes:
        """Four bytes over everything here: the first of the SHA-256 over the arrays, by ascending name."""
        digest = hashlib.sha256()
        for _, array in sorted(self.arrays().items()):
            digest.update(array.tobytes())
        return digest.digest()[:4]

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        return save(self.arrays())

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> AdaptiveTables:
        """The inverse of to_bytes. Raises InvalidWeights, with the file's `name`, for anything else."""
        try:
            arrays = load(data)
        except SafetensorError as error:
            raise InvalidWeights(f"{name}: no safetensors file ({error})") from error
        return cls.from_arrays(arrays, name)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], name: str) -> AdaptiveTables:
        """The inverse of arrays. Raises InvalidWeights, with the file's `name`, for anything else."""
        for key, kind in _NAMES.items():
            array = arrays.get(key)
            if array is None or array.dtype != np.dtype(kind) or array.ndim != 1:
                raise InvalidWeights(f"{name}: {key} is no list of {np.dtype(kind)}")
        sizes, thresholds = arrays["sizes"].astype(np.int32), arrays["thresholds"].astype(np.int64)
        if sizes.max(initial=0) > _MAX_SIZE:
            raise InvalidWeights(f"{name}: a row of {sizes.max()} entries, the limit is {_MAX_SIZE}")
        if sizes.size != (thresholds.size + 1) * PHASES or (np.diff(thresholds) <= 0).any():
            raise InvalidWeights(
                f"{name}: {sizes.size} rows and {thresholds.size} thresholds, which must ascend; "
                f"there are {PHASES} rows for each level"
            )
        frequencies = arrays["frequencies"].astype(np.int64) + 1
        try:
            return cls(thresholds, Tables.from_frequencies(frequencies, sizes, arrays["offsets"]))
        except InvalidWeights as error:
            raise InvalidWeights(f"{name}: {error}") from error


@lru_cache(maxsize=1)
def shipped_tables() -> AdaptiveTables:
    """The tables that this package ships."""
    return AdaptiveTables.from_bytes((resources.files("latentcodec.codec.values") / FILE).read_bytes(), FILE)
