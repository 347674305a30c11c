"""Profiles that are made: littleCMS gets from them what the formulas say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from latentcodec.picture.colour.cicp import icc_of
from latentcodec.picture.colour.icc import ADOBE_RGB, D65, REC709, SRGB_CURVE, Chromaticities, make_profile
from latentcodec.picture.colour.points import HLG, PQ, Cicp, name_of

RAMP = np.arange(256, dtype=np.uint8)
COLOURS = np.random.default_rng(3).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def in_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    gray = pixels.ndim == 2
    target = make_profile("sRGB", SRGB_CURVE, None if gray else REC709)
    profiles = [ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (profile, target)]
    image, relative = Image.fromarray(pixels), ImageCms.Intent.RELATIVE_COLORIMETRIC
    mode, exact = image.mode, ImageCms.Flags.NOOPTIMIZE  # littleCMS is up to 4 % off with its short cuts
    converted = ImageCms.profileToProfile(image, *profiles, relative, mode, flags=exact)
    return np.asarray(converted)


def encoded(light: np.ndarray) -> np.ndarray:
    """sRGB samples of light (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2, 563 / 256])
def test_a_gamma_is_exact(gamma: float) -> None:
    expected = encoded((COLOURS / 255) ** gamma)
    assert np.abs(in_srgb(COLOURS, make_profile("x", gamma, REC709)) - expected).max() < 0.6
    gray = in_srgb(COLOURS[..., 0], make_profile("x", gamma, None))
    assert np.abs(gray - expected[..., 0]).max() < 0.6


def test_srgb_stays() -> None:
    assert np.array_equal(in_srgb(COLOURS, make_profile("x", SRGB_CURVE, REC709)), COLOURS)


def test_primaries_are_exact() -> None:
    """Adobe RGB's matrix to XYZ is published (Adobe RGB (1998), 4.3.5.3); sRGB's, too (IEC 61966-2-1)."""
    to_xyz = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
    to_srgb = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])
    light = (COLOURS / 255) ** (563 / 256) @ to_xyz.T @ to_srgb.T
    inside = ((light > 0.01) & (light < 1)).all(2)
    got = in_srgb(COLOURS, make_profile("x", 563 / 256, ADOBE_RGB))
    assert inside.mean() > 0.2
    assert np.abs(got - encoded(light))[inside].max() < 1.5


def test_the_same_arguments_make_the_same_bytes() -> None:
    assert make_profile("x", 1.8, REC709) == make_profile("x", 1.8, REC709)
    assert len(make_profile("PNG gamma 1.8", 1.8, REC709)) < 600


@pytest.mark.parametrize(
    "chromaticities",
    [
        Chromaticities((0.64, 0.33), (0.64, 0.33), (0.15, 0.06)),
        Chromaticities((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), (0.9, 0.05)),
        Chromaticities((0.64, 0.33), (0.3, 0.6), (0.15, 0.06), (0.001, 0.001)),
        Chromaticities((30.0, 0.33), (0.3, 0.6), (0.15, 0.06)),
    ],
)
def test_no_colour_space(chromaticities: Chromaticities) -> None:
    with pytest.raises(ValueError, match=r"chromaticity|line|white|beyond"):
        make_profile("x", 2.2, chromaticities)


# ---- code points


def test_display_p3() -> None:
    profile = icc_of(Cicp(12, 13), gray=False)
    own = make_profile("x", SRGB_CURVE, Chromaticities((0.68, 0.32), (0.265, 0.69), (0.15, 0.06), D65))
    assert np.array_equal(in_srgb(COLOURS, profile or b""), in_srgb(COLOURS, own))


@pytest.mark.parametrize(("transfer", "white"), [(PQ, 0.58), (HLG, 0.75)])
def test_diffuse_white_of_hdr_is_white(transfer: int, white: float) -> None:
    """203 cd/m2 stand at 58 % of PQ and 75 % of HLG (ITU-R BT.2408, table 1)."""
    gray = np.stack([RAMP] * 3, 1)[None]
    shown = in_srgb(gray, icc_of(Cicp(9, transfer), gray=False) or b"")[0, :, 1].astype(int)
    assert (np.diff(shown) >= 0).all()
    assert shown[0] == 0
    assert shown[round(white * 255)] >= 253
    assert shown[round(white * 255) - 8] < 250
    assert in_srgb(RAMP[None], icc_of(Cicp(9, transfer), gray=True) or b"")[0, round(white * 255)] >= 253


def test_a_narrow_range_is_stretched() -> None:
    narrow = icc_of(Cicp(1, 13, 0, 0), gray=True) or b""
    shown = in_srgb(np.array([[0, 16, 235, 255]], np.uint8), narrow)[0]
    assert shown[0] == shown[1] == 0
    assert shown[2] == shown[3] == 255


def test_points_that_no_profile_says() -> None:
    assert icc_of(Cicp(9, 99), gray=False) is None
    assert icc_of(Cicp(99, 13), gray=False) is None
    assert icc_of(Cicp(1, 1), gray=False) is not None


def test_names() -> None:
    assert name_of(Cicp(9, PQ)) == "BT.2020, PQ"
    assert name_of(Cicp(99, 98, 0, 0)) == "primaries 99, transfer 98, narrow range"
    assert [Cicp(1, 13).is_srgb, Cicp(2, 2).is_srgb, Cicp(1, 1).is_srgb, Cicp(1, 13, 0, 0).is_srgb] == [
        *(True, True, False, False)
    ]
