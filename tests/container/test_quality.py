"""Qualities and levels: ends and knee, monotone, inverse of each other."""

from __future__ import annotations

from itertools import pairwise

import pytest

from latentcodec.container.header import MAX_QUALITY_LEVEL
from latentcodec.container.quality import CLEAN, CLEAN_LEVEL, level_of_quality, quality_of_level


def test_ends_and_knee() -> None:
    assert [level_of_quality(q) for q in (0, CLEAN, 100)] == [0, CLEAN_LEVEL, MAX_QUALITY_LEVEL]


def test_levels_rise_with_quality() -> None:
    levels = [level_of_quality(tenths / 10) for tenths in range(1001)]
    assert all(low < high for low, high in pairwise(levels))


@pytest.mark.parametrize("level", [0, 1, 43, CLEAN_LEVEL - 1, CLEAN_LEVEL, CLEAN_LEVEL + 1, 3999, 4000])
def test_every_level_has_its_quality(level: int) -> None:
    assert 0 <= quality_of_level(level) <= 100
    assert level_of_quality(quality_of_level(level)) == level
