"""Pictures on the device that trains: what is there, what is cut from it, and how often."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latentcodec.errors import TrainingError
from latentcodec.nn.knots import MAX_LEVEL
from latentcodec.picture.picture import Pixels
from latentcodec.training.drawn import drawn_crops
from latentcodec.training.native import device_pictures
from latentcodec.training.native.device_pictures import (
    SCALES,
    DevicePictures,
    choice_shares,
    scaled_shapes,
    stratified_levels,
)
from tests.conftest import photograph

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")


def numbered(height: int, width: int, blue: int) -> Pixels:
    """A picture whose pixels name their own row, column and picture."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(height)[:, None], np.arange(width)
    pixels[..., 2] = blue
    return pixels


def test_scales_keep_both_sides_large_enough() -> None:
    assert [shape for shape, _ in scaled_shapes(300, 200, smallest=128)] == [
        (300, 200),
        (252, 168),
        (213, 142),
    ]
    assert len(scaled_shapes(1000, 1000, smallest=500)) == len(SCALES)
    assert scaled_shapes(128, 128, smallest=128)[0][1] is None


def test_choices_go_by_the_root_of_the_area_and_the_drawn_share_is_exact() -> None:
    shapes = [(100, 100), (200, 200), (50, 50), (50, 50)]
    assert choice_shares(shapes, 2, 0.1) == pytest.approx([0.3, 0.6, 0.05, 0.05], abs=1e-12)
    assert choice_shares(shapes[:2], 2, 0.1) == pytest.approx([1 / 3, 2 / 3], abs=1e-12)
    assert choice_shares(shapes, 2, 0.0).tolist()[2:] == [0, 0]


def test_crops_are_pieces_of_one_picture_in_all_eight_positions() -> None:
    """Every crop lies inside its picture, and is a turned or mirrored piece of it: no pixel of another."""
    torch.manual_seed(0)
    size, heights, widths = 16, (18, 37), (24, 18)  # too small to be scaled
    store = DevicePictures([numbered(18, 24, 0), numbered(37, 18, 1)], size, CPU)
    crops, drawn = store.crops(400)
    assert crops.shape == (400, size, size, 3)
    assert crops.dtype == torch.uint8
    assert not drawn.any()
    positions, corners = set(), set()
    for crop in crops.numpy().astype(int):
        assert len(set(crop[..., 2].ravel())) == 1
        which = crop[0, 0, 2]
        rows, columns = crop[..., 0], crop[..., 1]
        top, left = rows.min(), columns.min()
        assert top + size <= heights[which]
        assert left + size <= widths[which]
        piece = numbered(heights[which], widths[which], which)[top : top + size, left : left + size]
        turns = [
            (k, flip)
            for k in range(4)
            for flip in (False, True)
            if np.array_equal(crop, np.rot90(piece[:, ::-1] if flip else piece, k))
        ]
        assert len(turns) == 1
        positions.add(turns[0])
        corners.add((which, top, left))
    assert len(positions) == 8
    assert {top for which, top, _ in corners if which == 0} == set(range(3))  # the last row too
    assert {left for which, _, left in corners if which == 1} == set(range(3))


def test_the_shares_of_turns_and_mirrors_are_those_of_the_cpu() -> None:
    torch.manual_seed(1)
    store, count = DevicePictures([numbered(16, 16, 0)], 16, CPU), 4000
    crops = store.crops(count)[0].numpy()
    upright = numbered(16, 16, 0)
    shares = {
        k: sum(
            np.array_equal(crop, np.rot90(base, k)) for crop in crops for base in (upright, upright[:, ::-1])
        )
        / count
        for k in (0, 1)
    }
    # Four standard deviations of a share of `count` draws.
    assert shares[0] == pytest.approx(0.7, abs=4 * (0.7 * 0.3 / count) ** 0.5)
    assert shares[1] == pytest.approx(0.1, abs=4 * (0.1 * 0.9 / count) ** 0.5)


def test_drawn_crops_come_with_their_share_and_upright(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    pieces = {crop.tobytes() for crop in drawn_crops(32, 5, range(6))}
    store = DevicePictures([photograph(width=40, height=40)], 32, CPU, drawn=0.25, drawings=6, seed=5)
    crops, drawn = store.crops(2000)
    assert float(drawn.float().mean()) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 2000) ** 0.5)
    for crop, is_drawn in zip(crops.numpy(), drawn.tolist(), strict=True):
        assert (crop.tobytes() in pieces) == is_drawn


def test_processes_draw_what_this_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = list(device_pictures._prepared([], 32, 6, 5))
    monkeypatch.setattr(device_pictures, "_FEW", 2)
    monkeypatch.setattr(device_pictures.os, "cpu_count", lambda: 3)
    shared = list(device_pictures._prepared([], 32, 6, 5))
    assert sorted(p.tobytes() for p in shared) == sorted(p.tobytes() for p in alone)


def test_a_process_that_fails_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, *_: object) -> None: ...

        def submit(self, *_: object) -> Broken:
            return self

        def result(self) -> None:
            raise device_pictures.BrokenProcessPool("killed")

        def shutdown(self, **_: object) -> None: ...

    monkeypatch.setattr(device_pictures, "_FEW", 2)
    monkeypatch.setattr(device_pictures.os, "cpu_count", lambda: 3)
    monkeypatch.setattr(device_pictures, "ProcessPoolExecutor", Broken)
    with pytest.warns(UserWarning, match="drawing crops in this process"):
        assert len(list(device_pictures._prepared([], 32, 6, 5))) == 6


def test_batches_are_in_range_and_some_gray() -> None:
    torch.manual_seed(3)
    x = DevicePictures([photograph(width=150, height=150)], 128, CPU).batch(150)
    assert x.shape == (150, 3, 128, 128)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert x.min() >= 0
    assert x.max() <= 1
    gray = (x == x[:, :1]).all(3).all(2).all(1)
    assert 0 < int(gray.sum()) < 20


def test_levels_cover_the_range_in_any_order() -> None:
    torch.manual_seed(4)
    levels = stratified_levels(8, CPU)
    assert levels.min() >= 0
    assert levels.max() <= MAX_LEVEL
    parts = (levels / MAX_LEVEL * 1.0).div(1.04).add(0.02 / 1.04).mul(8).floor().clamp(0, 7)
    assert sorted(parts.tolist()) == list(range(8))
    assert not torch.equal(levels.argsort(), stratified_levels(8, CPU).argsort())


def test_too_many_pictures_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(TrainingError, match=r"1 pictures at up to 5 scales take 0\.00 GB, more than cpu has"):
        DevicePictures([photograph(width=40, height=40)], 32, CPU)
