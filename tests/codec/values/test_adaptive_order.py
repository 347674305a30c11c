"""The coding order: every position once, and predicted by earlier ones only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latentcodec.codec.values.adaptive_order import LAST_PARTS, Kind, parts

sides = st.integers(1, 40)


@settings(deadline=None, max_examples=60)
@given(sides, sides)
def test_every_position_comes_once_after_its_neighbours(height: int, width: int) -> None:
    known = np.zeros(height * width + 1, int)
    known[-1] = 1  # what is nowhere
    for part in parts(height, width):
        assert part.positions.size
        for places in (part.inner, part.outer):
            assert places.shape[1] == part.positions.size
            assert known[places].all()
        known[part.positions] += 1
    assert (known == 1).all()


def test_half_of_the_positions_have_all_neighbours() -> None:
    last = [part for part in parts(16, 16) if part.level == 3 and part.kind is not Kind.CENTRE]
    assert sum(part.positions.size for part in last) == 128
    assert len(last) == 2 * LAST_PARTS
    assert all(part.inner.shape[0] == 4 for part in last)


def test_neighbours_are_mirrored_at_the_border() -> None:
    part = next(part for part in parts(8, 8) if part.kind is Kind.ROW and part.level == 1)
    assert part.positions.tolist() == [4]  # row 0, column 4: nothing above, nothing to the right
    assert sorted(part.inner[:, 0].tolist()) == [0, 0, 36, 36]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (9, 1), (2, 3)])
def test_tiny_tiles(height: int, width: int) -> None:
    assert sum(part.positions.size for part in parts(height, width)) == height * width
