"""experiments.speed and scaling on pictures that cost little."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path

import pytest

from benchmarks.experiments.scaling import Point, synthetic, write
from benchmarks.experiments.speed import ENTROPY, MATRIX, TOTAL, measure, stopwatch
from latentcodec.nn.native.integer_model import IntegerModel
from latentcodec.rans import groups as rans_groups
from tests.benchmarks.conftest import make_picture


@pytest.mark.parametrize("engine", ["numpy", "torch-float32"])
def test_stages_add_up_and_are_counted(engine: str) -> None:
    before = dict(os.environ)
    speed = measure(make_picture(64, 64), 50, engine, 1, 1, ["jpeg"])
    assert dict(os.environ) == before
    assert speed.engine.replace(" ", "-").startswith(engine)
    assert set(speed.bytes) == {"native", "jpeg"}
    for direction, stage in (("encode", "analysis"), ("decode", "synthesis")):
        seconds = speed.seconds[direction]
        assert 0 < seconds[stage] < seconds[TOTAL]
        assert seconds["jpeg"] > 0
        assert (speed.share(direction, stage) or 0) > 0
        assert speed.share(direction, "jpeg") is None
    encode, decode = speed.seconds["encode"], speed.seconds["decode"]
    tile = (
        encode["hyper analysis"] + encode["rANS: symbols taken in"] + encode[ENTROPY] + encode["rANS: encode"]
    )
    assert 0 < tile < encode["tile, all of it: encode"] < encode[TOTAL] - encode["analysis"]
    tile = decode["rANS: decode"] + decode[ENTROPY]
    assert 0 < tile < decode["tile, all of it: decode"] < decode[TOTAL] - decode["synthesis"]
    assert 30_000 < speed.macs["decode"][TOTAL] / 64**2 < 45_000
    assert MATRIX**3 / speed.matrix_rate < 60


def test_the_entropy_model_s_time_is_without_the_coder_s(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0

    def slow(*_: object) -> None:
        nonlocal clock
        clock += 2

    def latents(_: object) -> None:
        nonlocal clock
        clock += 3
        rans_groups.put()  # type: ignore[call-arg]

    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    monkeypatch.setattr(rans_groups, "put", slow)
    monkeypatch.setattr(IntegerModel, "latents", latents)
    spent: dict[str, float] = defaultdict(float)
    with stopwatch(spent):
        rans_groups.put()  # type: ignore[call-arg]
        IntegerModel.latents(None)  # type: ignore[arg-type, call-arg]
    assert spent["rANS: symbols taken in"] == 4
    assert spent[ENTROPY] == 3


@pytest.mark.parametrize("megapixels", [0.01, 0.3])
def test_synthetic_pictures_have_their_size(megapixels: float) -> None:
    picture = synthetic(megapixels)
    assert picture.shape[0] * picture.shape[1] == pytest.approx(megapixels * 1e6, rel=0.01)
    assert picture.std() > 20


def test_the_scaling_plot(tmp_path: Path) -> None:
    write([Point(size, 1, 1, 1, size, size, 1 << 28, 1 << 28, 1 << 27) for size in (0.1, 1.0)], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"scaling.json", "scaling.png", "scaling.svg"}
