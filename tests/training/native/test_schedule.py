"""The learning rate: warm-up, constant, cool-down."""

from __future__ import annotations

from itertools import pairwise

import pytest

from latentcodec.training.native.schedule import Schedule


def test_the_three_parts() -> None:
    schedule = Schedule(4, cooldown_start=10, cooldown_steps=8)
    factors = [schedule.factor(step) for step in range(19)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4:11] == [1.0] * 7
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors[-1] == pytest.approx(0.02)
    assert [schedule.ended(step) for step in (17, 18)] == [False, True]


def test_no_warm_up() -> None:
    assert Schedule(0).factor(0) == 1.0
