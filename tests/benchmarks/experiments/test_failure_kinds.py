"""failure_kinds, pictures.synthetic and screens: the same pictures every time, large enough for metrics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.experiments.failure_kinds import LEAST, SIDE, kinds
from benchmarks.pictures import screens, synthetic
from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidArgument
from tests.benchmarks.conftest import make_picture


def test_all_kinds() -> None:
    plain = np.full((600, 600, 3), 90, np.uint8)
    plain[:256, :256] = np.random.default_rng(0).integers(0, 256, (256, 256, 1), dtype=np.uint8)
    plain[:256, 344:] = (250, 0, 0)
    found = kinds({"plain": plain, "large": make_picture(900, 1200), "small": make_picture(LEAST, 300)})
    assert {"texture", "lines", "screens", "text", "colour", "noise", "gradients"} <= found.keys()
    for kind in found.values():
        assert set(kind.enlarged) <= kind.pictures.keys()
        for picture in kind.pictures.values():
            assert picture.dtype == np.uint8
            assert min(picture.shape[:2]) >= LEAST
            assert picture.shape[2] == 3
    assert found["noise"].pictures["large"].shape == (SIDE, SIDE, 3)
    assert (found["texture"].pictures["plain"] == plain[:256, :256]).all()
    assert (found["colour"].pictures["plain"] == plain[:256, 344:]).all()
    assert np.ptp(found["gradients"].pictures["plain"]) == 0


def test_a_tiny_photograph() -> None:
    with pytest.raises(InvalidArgument, match="tiny: 64x32 pixels, but a picture needs 225 a side"):
        kinds({"tiny": make_picture(32, 64)})


@pytest.mark.parametrize("make", [synthetic.fabric, synthetic.plot, synthetic.contours, screens.terminal])
def test_a_seed_is_a_picture(make: Callable[[int], Pixels]) -> None:
    assert (make(1) == make(1)).all()
    assert (make(1) != make(2)).any()


def test_noise_grows_with_light() -> None:
    for value, deviation in ((0, 5), (128, 9.2)):
        noisy = synthetic.sensor_noise(np.full((256, 256, 3), value, np.uint8), 0).astype(float)
        seen = noisy[noisy > value] - value  # at 0 the other half is cut off
        assert np.sqrt((seen**2).mean()) == pytest.approx(deviation, rel=0.05)


def test_ramps_are_flat() -> None:
    for make in (synthetic.sky, synthetic.dusk, synthetic.shadow):
        ramp = make(3).astype(int)
        assert all(np.abs(np.diff(ramp, axis=axis)).max() <= 2 for axis in (0, 1))
        assert np.ptp(ramp) >= 25


def test_letters_are_as_large_as_asked() -> None:
    small, large = (screens.page(letters, 0, (400, 300)) for letters in (10, 24))
    ink = [int((page < 128).any((1, 2)).sum()) for page in (small, large)]
    assert small.shape == large.shape == (300, 400, 3)
    assert ink[0] > 0 < ink[1]
    assert (screens.page(10, 0) != screens.page(10, 1)).any()
    assert (
        screens.terminal().shape == screens.spreadsheet().shape == screens.web_page().shape == (600, 800, 3)
    )
