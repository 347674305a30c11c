"""The shipped tables: what they must be, and what damage does."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from latentcodec.codec.values.adaptive import PHASES
from latentcodec.codec.values.adaptive_tables import AdaptiveTables, shipped_tables
from latentcodec.errors import InvalidWeights


def test_the_shipped_tables_are_these() -> None:
    tables = shipped_tables()
    assert tables.hash.hex() == SHIPPED
    assert tables.tables.size.min() > 1  # nothing is left uncoded: an encoder may choose any value
    assert len(tables.tables.size) == (len(tables.thresholds) + 1) * PHASES


def test_tables_survive_the_file() -> None:
    tables = shipped_tables()
    again = AdaptiveTables.from_bytes(tables.to_bytes(), "again")
    assert again.hash == tables.hash
    assert (again.tables.cumulative == tables.tables.cumulative).all()
    assert (again.thresholds == tables.thresholds).all()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sizes": None}, "sizes is no list"),
        ({"thresholds": np.zeros((2, 2), "<i8")}, "thresholds is no list"),
        ({"thresholds": np.zeros(44, "<i8")}, "must ascend"),
        ({"thresholds": np.arange(3, dtype="<i8")}, "thresholds"),
        ({"sizes": np.full(405, 4, "<i4")}, "frequencies"),
        ({"sizes": np.full(405, -4, "<i4")}, "frequencies"),
        ({"frequencies": np.zeros(0, "<u2")}, "0 frequencies"),
    ],
)
def test_damage_is_told(change: dict[str, np.ndarray | None], complaint: str) -> None:
    arrays = {k: v for k, v in (shipped_tables().arrays() | change).items() if v is not None}
    with pytest.raises(InvalidWeights, match=complaint):
        AdaptiveTables.from_bytes(save(arrays), "tables")


def test_frequencies_that_do_not_add_up() -> None:
    arrays = shipped_tables().arrays()
    arrays["frequencies"] = arrays["frequencies"].astype("<u2") + np.uint16(1)
    with pytest.raises(InvalidWeights):
        AdaptiveTables.from_bytes(save(arrays), "tables")


def test_what_is_no_file() -> None:
    with pytest.raises(InvalidWeights, match="no safetensors"):
        AdaptiveTables.from_bytes(b"junk", "tables")


SHIPPED = "1cb96ae2"
