"""pictures.regions: where a picture has the most detail."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.pictures.regions import DETAIL, busiest
from tests.benchmarks.conftest import make_picture


def test_busiest_finds_the_noise() -> None:
    picture = np.full((300, 400, 3), 128, np.uint8)
    picture[150:246, 210:306] = np.random.default_rng(0).integers(0, 256, (DETAIL, DETAIL, 3))
    left, top, right, bottom = busiest(picture)
    assert abs(left - 210) <= 1
    assert abs(top - 150) <= 1
    assert (right - left, bottom - top) == (DETAIL, DETAIL)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (40, 200), (96, 96), (200, 30)])
def test_busiest_fits_small_pictures(height: int, width: int) -> None:
    left, top, right, bottom = busiest(make_picture(height, width))
    assert (right - left, bottom - top) == (min(width, DETAIL), min(height, DETAIL))
    assert (left, top) >= (0, 0)
    assert right <= width
    assert bottom <= height
