"""Quality and targets of the public API: monotone, and met by what is returned."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

import latentcodec
from benchmarks.metrics import standard
from latentcodec.codec.api import Codec
from latentcodec.codec.info import info
from latentcodec.container.file import unpack
from latentcodec.container.quality import quality_of_level
from latentcodec.errors import TargetUnreachable
from tests.conftest import SRGB, photograph, psnr, rgb, with_metadata

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [
        ("astronaut", 144, 128),
        pytest.param("astronaut", 256, 256, marks=SLOW),
        pytest.param("chelsea", 300, 260, marks=SLOW),
    ],
)
def test_more_quality_is_more_bytes_and_more_psnr(codec: Codec, name: str, width: int, height: int) -> None:
    pixels = photograph(name, width, height)
    sizes, scores = [], []
    for quality in range(0, 101, 5):
        data = codec.encode(pixels, quality=quality)
        sizes.append(len(data))
        scores.append(psnr(pixels, rgb(codec.decode(data))))
    for before, after in pairwise(sizes):
        assert after >= 0.995 * before
    for low, high in pairwise(scores):
        assert high >= low - 0.05
    assert sizes[-1] > 10 * sizes[0]
    assert scores[-1] > scores[0] + 12


def test_quality_is_continuous(codec: Codec) -> None:
    """A fortieth is the finest step; every one of them is another file, near its neighbours."""
    pixels = photograph(width=256, height=256)
    sizes = [len(codec.encode(pixels, quality=q)) for q in (49.975, 50, 50.01, 50.025, 50.5)]
    assert sizes[1] == sizes[2]
    assert max(sizes[:4]) < 1.02 * min(sizes[:4])
    assert info(codec.encode(pixels, quality=50.025)).quality == pytest.approx(50.025, abs=1 / 88)


@pytest.mark.parametrize(
    ("name", "left", "share"),
    [("astronaut", 96, 0.02), ("coffee", 96, 0.08), ("chelsea", 96, None), ("coffee", 0, None)],
)
def test_sizes_asked_for_are_met(codec: Codec, name: str, left: int, share: float | None) -> None:
    """share: bytes a pixel; None: hardly fewer than quality 100 takes."""
    pixels = photograph(name, 288, 256, left=left)
    target = round(share * pixels.size / 3) if share else len(codec.encode(pixels, quality=100)) - 50
    assert 0.99 * target <= len(codec.encode(pixels, target_size=target)) <= target


def test_bits_per_pixel_asked_for_are_met(codec: Codec) -> None:
    pixels = photograph("coffee", 257, 255)
    most = 8 * len(codec.encode(pixels, quality=100)) / (257 * 255)
    for target in (0.2, 0.75, 0.999 * most):
        bpp = 8 * len(codec.encode(pixels, target_bpp=target)) / (257 * 255)
        assert 0.985 * target <= bpp <= target


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("astronaut", 26),
        ("coffee", 30.5),
        ("astronaut", 36),
        pytest.param("coffee", 26, marks=SLOW),
        pytest.param("astronaut", 30.5, marks=SLOW),
        pytest.param("coffee", 36, marks=SLOW),
    ],
)
def test_psnr_asked_for_is_met(codec: Codec, name: str, target: float) -> None:
    pixels = photograph(name, 200, 176)
    data = codec.encode(pixels, min_psnr=target)
    found = psnr(pixels, rgb(codec.decode(data)))
    assert target <= found
    goal = info(data).goal
    assert goal is not None
    assert goal.psnr == pytest.approx(found, abs=0.011)
    level = unpack(data).header.quality_level
    if found >= target + 0.1 and level > 0:  # neighbouring levels of small crops may differ by more
        lower = codec.encode(pixels, quality=quality_of_level(level - 1))
        assert unpack(lower).header.quality_level == level - 1
        assert psnr(pixels, rgb(codec.decode(lower))) < target


@pytest.mark.parametrize(("name", "target"), [("astronaut", 40.0), pytest.param("coffee", 75.5, marks=SLOW)])
def test_ssimulacra2_asked_for_is_met(codec: Codec, name: str, target: float) -> None:
    pixels = photograph(name, 240, 232)
    data = codec.encode(pixels, min_ssimulacra2=target)
    found = standard.ssimulacra2(pixels, rgb(codec.decode(data)))  # by the package
    assert target - 0.03 <= found <= target + 1
    goal = info(data).goal
    assert goal is not None
    assert (goal.kind, goal.target, goal.psnr) == ("ssimulacra2", target, None)
    assert goal.ssimulacra2 == pytest.approx(found, abs=0.03)
    if name == "coffee":
        level = unpack(data).header.quality_level
        lower = codec.encode(pixels, quality=quality_of_level(level - 40))
        assert standard.ssimulacra2(pixels, rgb(codec.decode(lower))) < target


def test_a_score_of_transparent_pictures_is_that_on_grounds(codec: Codec) -> None:
    pixels = np.dstack([photograph(width=96, height=96), np.full((96, 96), 255, np.uint8)])
    pixels[:, :48, 3] = 0
    data = codec.encode(pixels, min_ssimulacra2=60)
    found = latentcodec.compare(pixels, data)
    goal = info(data).goal
    assert goal is not None
    assert goal.ssimulacra2 == pytest.approx(found.ssimulacra2, abs=0.006)
    assert found.ssimulacra2 >= 60
    assert (found.alpha_psnr, found.first_bytes, found.second_bytes) == (math.inf, None, len(data))


def test_a_score_of_deep_samples(codec: Codec) -> None:
    pixels = photograph(width=96, height=96).astype(np.uint16) * 257
    data = codec.encode(pixels, min_ssimulacra2=60)
    goal = info(data).goal
    assert goal is not None
    assert goal.ssimulacra2 == pytest.approx(latentcodec.compare(pixels, data).ssimulacra2, abs=0.02)
    assert goal.ssimulacra2 >= 60


def test_a_score_out_of_reach(codec: Codec) -> None:
    with pytest.raises(TargetUnreachable, match=r"target SSIMULACRA 2 99.9: quality 100 reaches \d\d\.\d\d;"):
        codec.encode(photograph(width=64, height=64), min_ssimulacra2=99.9)


def test_targets_hold_with_metadata_and_alpha(codec: Codec) -> None:
    image = with_metadata().resize((256, 160))
    image.putalpha(Image.linear_gradient("L").resize((256, 160)))
    image.info["icc_profile"] = SRGB
    target = len(codec.encode(image, quality=100)) * 3 // 4
    assert 0.99 * target <= len(codec.encode(image, target_size=target)) <= target
    gray = image.convert("LA")
    del gray.info["icc_profile"], gray.info["exif"]
    shown = codec.decode(codec.encode(gray, min_psnr=32))
    visible = np.asarray(gray.getchannel("A")) > 0
    assert psnr(np.asarray(gray)[visible, 0], np.asarray(shown)[visible, 0]) >= 32


def test_targets_out_of_reach_name_the_bound(codec: Codec) -> None:
    pixels = photograph(width=128, height=128)
    least, most = (len(codec.encode(pixels, quality=q)) for q in (0, 100))
    with pytest.raises(TargetUnreachable, match=f"at least {least} bytes"):
        codec.encode(pixels, target_size=least - 1)
    with pytest.raises(TargetUnreachable, match=f"at most {most} bytes"):
        codec.encode(pixels, target_size=2 * most)
    with pytest.raises(TargetUnreachable, match=r"target 1e-06 bpp: .* ask for at least \d\S* bpp$"):
        codec.encode(pixels, target_bpp=1e-6)
    with pytest.raises(TargetUnreachable, match="dB"):
        codec.encode(pixels, min_psnr=90)
    assert len(codec.encode(pixels, target_size=least)) <= least
    assert codec.encode(pixels, min_psnr=1)  # quality 0 is more than enough
