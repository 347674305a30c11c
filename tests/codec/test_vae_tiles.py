"""Pieces and their blending."""

from __future__ import annotations

import numpy as np
import pytest

from latentcodec.codec.vae_tiles import CORE, HALO, RAMP, Box, Floats, blended

SIZES = [(64, 64), (145, 64), (65, 150), (200, 210), (1, 9300), (128, 129)]


def assemble(width: int, height: int, scale: int, run) -> tuple[Floats, int]:  # type: ignore[no-untyped-def]
    out = np.full((height * scale, width * scale, 2), np.nan, np.float32)
    largest, below = 0, 0
    for top, band in blended(width, height, scale, 2, run):
        assert top == below
        below = top + len(band)
        out[top:below] = band
        largest = max(largest, len(band))
    return out, largest


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("scale", [1, 4])
def test_pieces_that_agree_give_the_plane_itself(width: int, height: int, scale: int) -> None:
    rng = np.random.default_rng(1)
    plane = rng.normal(size=(height * scale, width * scale, 2)).astype(np.float32)
    runs: list[Box] = []

    def run(box: Box) -> Floats:
        runs.append(box)
        x0, y0, x1, y1 = (edge * scale for edge in box)
        return plane[y0:y1, x0:x1]

    found, rows = assemble(width, height, scale, run)
    assert np.abs(found - plane).max() < 1e-5
    limit = CORE + 2 * HALO
    if len(runs) > 1:
        assert max(max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in runs) <= limit
        assert rows <= (CORE + RAMP) * scale


def test_pieces_that_differ_fade_without_a_step() -> None:
    def run(box: Box) -> Floats:
        shade = np.float32(0.1 * (box[0] + 2 * box[1] > 0) + 0.1 * (box[1] > 0))
        return np.full((box[3] - box[1], box[2] - box[0], 2), shade, np.float32)

    found, _ = assemble(160, 160, 1, run)
    assert max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1)) <= 0.2 / (2 * RAMP) + 1e-6
