"""benchmarks.speed and benchmarks.scaling on pictures that cost little."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.scaling import Point, synthetic, write
from benchmarks.speed import MATRIX, TOTAL, measure
from latentcodec.nn.transform import Analysis
from tests.benchmarks.conftest import make_picture


def test_stages_add_up_and_are_counted() -> None:
    threads, forward = torch.get_num_threads(), Analysis.forward
    speed = measure(make_picture(64, 64), 50, 1, 1, peers=["jpeg"])
    assert (torch.get_num_threads(), Analysis.forward) == (threads, forward)  # as they were
    assert set(speed.bytes) == {"native", "jpeg"}
    for direction, stage in (("encode", "analysis"), ("decode", "synthesis")):
        seconds = speed.seconds[direction]
        assert 0 < seconds[stage] < seconds[TOTAL]
        assert seconds["jpeg"] > 0
        assert (speed.share(direction, stage) or 0) > 0
        assert speed.share(direction, "jpeg") is None
    assert 30_000 < speed.macs["decode"][TOTAL] / 64**2 < 60_000  # tests/nn/test_budget.py, and the padding
    assert MATRIX**3 / speed.matrix_rate < 60


@pytest.mark.parametrize("megapixels", [0.01, 0.3])
def test_synthetic_pictures_have_their_size(megapixels: float) -> None:
    picture = synthetic(megapixels)
    assert picture.shape[0] * picture.shape[1] == pytest.approx(megapixels * 1e6, rel=0.01)
    assert picture.std() > 20


def test_the_scaling_plot(tmp_path: Path) -> None:
    write([Point(size, 1, 1, 1, size, size, 1 << 28, 1 << 28, 1 << 27) for size in (0.1, 1.0)], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"scaling.json", "scaling.png", "scaling.svg"}
