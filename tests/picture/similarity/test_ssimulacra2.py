"""SSIMULACRA 2 against the package of that name, which was written after libjxl's."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.metrics import standard
from latentcodec.errors import InvalidArgument
from latentcodec.picture.picture import Pixels
from latentcodec.picture.similarity.ssimulacra2 import ssimulacra2
from tests.conftest import photograph

# Few, for the quick suite; `test_many_pictures` has the rest.
SIZES = ((8, 8), (15, 300), (16, 31), (101, 64), (226, 225))


def reference(a: Pixels, b: Pixels) -> float:
    package = pytest.importorskip("ssimulacra2")
    return float(package.compute_ssimulacra2(standard._as_file(a), standard._as_file(b)))


def coded(pixels: Pixels, quality: int, format: str = "JPEG") -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, quality=quality)
    return np.array(Image.open(stream).convert("RGB"))


def distortions(pixels: Pixels) -> dict[str, Pixels]:
    """From hardly visible to another picture."""
    random = np.random.default_rng(5)
    image = Image.fromarray(pixels)
    one = pixels.copy()
    one[3, 3] ^= 255
    return {
        **{f"JPEG {quality}": coded(pixels, quality) for quality in (1, 10, 50, 90, 100)},
        **{f"WebP {quality}": coded(pixels, quality, "WEBP") for quality in (1, 80)},
        **{
            f"noise {size}": (pixels + random.normal(0, size, pixels.shape)).clip(0, 255).astype(np.uint8)
            for size in (1, 30)
        },
        "blur": np.asarray(image.filter(ImageFilter.GaussianBlur(3))),
        "gray": np.asarray(image.convert("L").convert("RGB")),
        "shifted": np.roll(pixels, 2, 1),
        "darker": (pixels * 0.7).astype(np.uint8),
        "inverted": 255 - pixels,
        "black": np.zeros_like(pixels),
        "one pixel": one,
    }


@pytest.mark.parametrize("size", SIZES)
def test_scores_are_those_of_the_reference(size: tuple[int, int]) -> None:
    pixels = photograph(height=size[0], width=size[1])
    for name, distorted in distortions(pixels).items():
        assert ssimulacra2(pixels, distorted) == pytest.approx(reference(pixels, distorted), abs=0.1), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_many_pictures(name: str) -> None:
    whole = photograph(name)
    for height, width in (*SIZES, (64, 64), (301, 283), whole.shape[:2]):
        pixels = whole[:height, :width].copy()
        for distortion, distorted in distortions(pixels).items():
            score = reference(pixels, distorted)
            assert ssimulacra2(pixels, distorted) == pytest.approx(score, abs=0.1), (
                distortion,
                height,
                width,
            )


def test_equal_pictures_and_better_ones() -> None:
    pixels = photograph(height=256, width=256)
    assert ssimulacra2(pixels, pixels) == 100
    scores = [ssimulacra2(pixels, coded(pixels, quality)) for quality in (5, 20, 40, 60, 80, 95)]
    assert scores == sorted(scores)
    assert -60 < scores[0] < 30 < 80 < scores[-1] < 100


def test_sixteen_bits() -> None:
    pixels = photograph(height=64, width=64)
    wide = pixels.astype(np.uint16) * 257
    assert ssimulacra2(wide, wide) == 100
    distorted = coded(pixels, 40)
    expected = ssimulacra2(pixels, distorted)
    assert ssimulacra2(wide, distorted.astype(np.uint16) * 257) == pytest.approx(expected, abs=1e-3)
    assert 95 < ssimulacra2(wide, np.maximum(wide, 40) - 40) < 100  # less than one step of 8 bits


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (40, 5)])
def test_pictures_without_place_for_a_scale(shape: tuple[int, int]) -> None:
    pixels = photograph(height=shape[0], width=shape[1])
    assert ssimulacra2(pixels, pixels) == 100
    assert ssimulacra2(pixels, 255 - pixels) < 95


def test_what_cannot_be_compared() -> None:
    pixels = photograph(height=16, width=16)
    for other in (pixels[:8], pixels[..., 0], pixels.astype(np.float32), pixels[:0]):
        with pytest.raises(InvalidArgument, match="ssimulacra2: "):
            ssimulacra2(pixels, other)


def test_it_takes_a_fraction_of_the_reference_and_bounded_memory() -> None:
    pixels = photograph("coffee")
    distorted = coded(pixels, 40)
    ssimulacra2(pixels, distorted)
    begun = time.process_time()
    ssimulacra2(pixels, distorted)
    ours = time.process_time() - begun
    reference(pixels, distorted)
    assert ours < (time.process_time() - begun - ours) / 2
