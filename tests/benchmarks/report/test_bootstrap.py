"""report.bootstrap: the vectorised PCHIP against scipy, and intervals whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from benchmarks.report.bootstrap import Draws, _pchip_slopes, draw, interval
from benchmarks.report.curves import AXES, Sweep

PSNR = AXES["psnr"]


def sweep(factors: list[float], points: int = 5, *, bend: float = 0.0) -> Sweep:
    """A picture a factor: its rate is the factor times exp(quality / 5)."""
    quality = np.linspace(25, 40, points)
    noise = bend * np.random.default_rng(1).normal(size=(len(factors), points))
    bpp = np.array(factors)[:, None] * np.exp(quality / 5 + noise) / 1000
    names = tuple(str(index) for index in range(len(factors)))
    return Sweep("x", names, tuple(range(points)), bpp, np.tile(quality, (len(factors), 1)))


@pytest.mark.parametrize("points", [2, 3, 4, 9])
def test_integrals_are_scipys(points: int) -> None:
    random = np.random.default_rng(points)
    x = np.cumsum(random.uniform(0.1, 2, (40, points)), axis=1)
    y = np.cumsum(random.normal(0.2, 1, (40, points)), axis=1)  # falls in places
    low, high = x[:, 0] + 0.01, x[:, -1] - 0.03
    found = Draws(x, y, _pchip_slopes(x, y)).integral(low, high)
    known = [
        float(PchipInterpolator(*row[:2]).integrate(*row[2:])) for row in zip(x, y, low, high, strict=True)
    ]
    assert found.tolist() == pytest.approx(known)


def test_a_constant_factor_has_no_width() -> None:
    rates = [0.5, 1.0, 2.0, 3.0]
    anchor, test = draw(sweep(rates), PSNR), draw(sweep([0.8 * rate for rate in rates]), PSNR)
    assert anchor is not None
    assert test is not None
    assert interval(anchor, test, least_overlap=1) == pytest.approx((-20, -20))


def test_an_interval_holds_the_figure_and_is_the_same_every_time() -> None:
    anchor, test = sweep([1.0] * 8), sweep([0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3], bend=0.05)
    found = [interval(draw(anchor, PSNR), draw(test, PSNR), least_overlap=1) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0] is not None
    assert -40 < found[0][0] < -5 < found[0][1] < 30
    # The mean of eight factors of standard deviation 0.23 has a standard error of about 8 %.
    assert 20 < found[0][1] - found[0][0] < 45


def test_one_picture_and_one_point_have_none() -> None:
    assert draw(sweep([1.0]), PSNR) is None
    assert draw(sweep([1.0, 2.0], points=1), PSNR) is None


def test_draws_that_share_too_little_have_none() -> None:
    far = sweep([1.0, 2.0])
    moved = Sweep("y", far.pictures, far.settings, far.bpp, far.values + 14.5)
    assert interval(draw(far, PSNR), draw(moved, PSNR), least_overlap=1) is None
