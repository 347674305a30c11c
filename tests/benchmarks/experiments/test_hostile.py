"""The worst files are valid, of the size they say, and cost no more than the promise in docs/security.md."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.experiments.hostile import HONEST, files, hostile_table, measure
from latentcodec.codec.api import Codec
from latentcodec.codec.info import info

SIDE = 256


def test_files_are_valid_and_of_equal_size(codec: Codec) -> None:
    made = dict(files(SIDE))
    png = made.pop("PNG, one colour, by Pillow")
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (SIDE, SIDE)
    for data in made.values():
        image = codec.decode(data)
        assert image.size == (info(data).width, info(data).height)
        assert 0.99 * SIDE**2 < np.prod(image.size) <= SIDE**2
    assert len(made["no symbol but the likeliest"]) < len(made[HONEST]) / 2


@pytest.mark.slow
def test_no_file_costs_over_three_times_an_honest_one() -> None:
    costs = dict(measure(4 * SIDE, 1))
    honest = costs[HONEST]
    assert honest.seconds > 0
    for name, cost in costs.items():
        assert cost.seconds < 3 * honest.seconds + 0.5, name
        if cost.memory is not None and honest.memory is not None:
            assert cost.memory < 1.5 * honest.memory + (32 << 20), name
    assert hostile_table(costs, 4 * SIDE).row_count == len(costs)
