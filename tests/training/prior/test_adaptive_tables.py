"""Fitting the adaptive coder's tables: valid, and close to what was seen."""

from __future__ import annotations

import numpy as np
import pytest

from latentcodec.codec.values.adaptive import PHASES, UNIT
from latentcodec.codec.values.adaptive_tables import shipped_tables
from latentcodec.training.prior import adaptive_tables
from latentcodec.training.prior.adaptive_tables import LEVELS, REACH, count_symbols, fit_tables


def test_tables_cost_little_more_than_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive_tables, "_STEPS", 300)
    rng, thresholds = np.random.default_rng(1), np.array([128, 512, 2048])
    counts = np.zeros((4, PHASES, 2 * REACH + 1))
    for level, spread in enumerate((0.3, 1.0, 4.0, 12.0)):
        for phase in range(PHASES):
            drawn = np.rint(rng.laplace(phase / UNIT, spread, 4000)).astype(int).clip(-REACH, REACH)
            np.add.at(counts[level, phase], drawn + REACH, 1)
    tables = fit_tables(counts, thresholds)
    tables.validate()
    assert len(tables.size) == 4 * PHASES
    for row, seen in enumerate(counts.reshape(-1, 2 * REACH + 1)):
        bits = np.full(2 * REACH + 1, 24.0)
        own = 16 - np.log2(np.diff(tables.cumulative[row])[: tables.size[row]])
        low = REACH - tables.offset[row]
        bits[low : low + len(own) - 1] = own[:-1]
        share = seen / seen.sum()
        entropy = -(share[share > 0] * np.log2(share[share > 0])).sum()
        assert (share * bits).sum() < 1.05 * entropy + 0.05


def test_the_levels_are_those_of_the_shipped_tables() -> None:
    assert np.array_equal(LEVELS, shipped_tables().thresholds)


def test_every_symbol_is_counted() -> None:
    counts = np.zeros(((len(LEVELS) + 1) * PHASES, 2 * REACH + 1))
    values = np.random.default_rng(1).integers(-3, 4, (4, 12, 10))
    count_symbols(values, LEVELS, counts)
    assert counts.sum() == values.size
