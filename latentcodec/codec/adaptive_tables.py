"""The shipped tables of the adaptive coder (docs/latents.md, "Tables").

    tables/adaptive-1.safetensors ─► sizes, offsets, frequencies, thresholds ─► AdaptiveTables

A number of these tables, once released, means the same integers for ever; their hash stands in every file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from latentcodec.codec.adaptive import PHASES
from latentcodec.errors import InvalidWeights
from latentcodec.rans import Tables

FILE = "adaptive-1.safetensors"
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
        return cls._from_arrays(arrays, name)

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]], name: str) -> AdaptiveTables:
        for key, kind in _NAMES.items():
            array = arrays.get(key)
            if array is None or array.dtype != np.dtype(kind) or array.ndim != 1:
                raise InvalidWeights(f"{name}: {key} is no list of {np.dtype(kind)}")
        sizes, thresholds = arrays["sizes"].astype(np.int32), arrays["thresholds"].astype(np.int64)
        frequencies = arrays["frequencies"].astype(np.int64) + 1
        if sizes.min(initial=0) < 0 or sizes.max(initial=0) > 4096 or sizes.sum() != frequencies.size:
            raise InvalidWeights(
                f"{name}: sizes add up to {sizes.sum()}, there are {frequencies.size} frequencies"
            )
        if sizes.size != (thresholds.size + 1) * PHASES or (np.diff(thresholds) <= 0).any():
            raise InvalidWeights(
                f"{name}: {sizes.size} rows and {thresholds.size} thresholds, which must ascend; "
                f"there are {PHASES} rows for each level"
            )
        cumulative = np.full((sizes.size, sizes.max() + 1), 1 << 16, np.int32)
        for row, own in enumerate(np.split(frequencies, np.cumsum(sizes)[:-1])):
            cumulative[row, : own.size + 1] = np.append(0, np.cumsum(own)).clip(max=1 << 16)
        tables = Tables(cumulative, sizes, arrays["offsets"].astype(np.int32))
        tables.validate()
        return cls(thresholds, tables)


@lru_cache(maxsize=1)
def shipped_tables() -> AdaptiveTables:
    """The tables that this package ships."""
    return AdaptiveTables.from_bytes((resources.files("latentcodec.tables") / FILE).read_bytes(), FILE)
