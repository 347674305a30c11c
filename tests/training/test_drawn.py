"""Drawn training pictures: of every kind, the same for the same generator."""

from __future__ import annotations

import numpy as np
import pytest

from latentcodec.training import drawn
from latentcodec.training.data import batch
from latentcodec.training.drawn import drawn_crop
from tests.conftest import photograph


@pytest.mark.parametrize("size", [96, 128])
def test_crops_are_pictures_of_their_size_and_differ(size: int) -> None:
    crops = [drawn_crop(size, np.random.default_rng(seed)) for seed in range(60)]
    assert {crop.shape for crop in crops} == {(size, size, 3)}
    assert {crop.dtype for crop in crops} == {np.dtype(np.uint8)}
    assert len({crop.tobytes() for crop in crops}) > 57
    assert sum(np.ptp(crop) > 60 for crop in crops) > 50


def test_the_generator_alone_decides() -> None:
    one, two = (drawn_crop(128, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one, two)


@pytest.mark.parametrize("kind", ["_text", "_windows", "_lines", "_pattern", "_gradient"])
def test_every_kind_has_edges_or_ramps(kind: str) -> None:
    pixels = np.stack(
        [np.asarray(getattr(drawn, kind)(128, np.random.default_rng(s))) for s in range(20)]
    ).astype(int)
    steps = np.abs(np.diff(pixels, axis=2)).max(-1)
    assert (steps.max((1, 2)) > 0).sum() > 15
    if kind != "_pattern":  # most of a drawing is flat or smooth, as on a screen
        assert np.median(steps) <= 2


def test_a_batch_holds_the_share_that_was_asked_for() -> None:
    pictures = [photograph()]
    plain = batch(pictures, 1, 5, 64, 128)
    mixed = batch(pictures, 1, 5, 64, 128, drawn=0.25)
    assert mixed.shape == plain.shape
    flat = (mixed.diff(dim=3).abs() == 0).float().mean((1, 2, 3)) > 0.3
    assert 4 <= int(flat.sum()) <= 30
    assert (batch(pictures, 1, 5, 64, 128, drawn=0.0) == plain).all()
