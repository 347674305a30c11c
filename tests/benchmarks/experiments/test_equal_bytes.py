"""experiments.equal_bytes: the largest file that is not over the limit."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.experiments.equal_bytes import HIGHEST, best_file, nearest_not_over
from benchmarks.peers import Jpeg, WebP
from tests.benchmarks.conftest import make_picture


@pytest.mark.parametrize(("limit", "setting"), [(0, 1), (10, 1), (45, 4), (49, 4), (50, 5), (1000, 9)])
def test_nearest_not_over(limit: int, setting: int) -> None:
    nearest, data = nearest_not_over(lambda each: bytes(10 * each), range(1, 10), limit)
    assert (nearest, len(data)) == (setting, 10 * setting)


@pytest.mark.parametrize("peer", [Jpeg(), WebP()])
def test_the_next_setting_would_be_too_large(peer: Jpeg | WebP) -> None:
    picture = make_picture(128, 128)
    setting, data, remark = best_file(peer, picture, 3000)
    assert setting is not None
    assert remark is None
    assert data == peer.encode(picture, setting)
    assert len(data) <= 3000 < len(peer.encode(picture, setting + 1))
    assert best_file(peer, picture, 3000, (setting - 1, HIGHEST))[1] == data


def test_webp_is_searched_in_fractions() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    smallest, next_whole = (len(WebP().encode(noise, quality)) for quality in (0, 1))
    setting, data, _ = best_file(WebP(), noise, (smallest + next_whole) // 2)
    assert 0 < (setting or 0) < 1
    assert smallest < len(data) < next_whole
