"""Encoding a picture: tiles that do not show, targets measured on what a decoder gets."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from latentcodec.codec import encoder as module
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.decoder import decode_file
from latentcodec.codec.native.encoder import NativeEncoder, analyse_tile
from latentcodec.codec.planes import latent_box, pad_to_patches
from latentcodec.codec.targets import PSNR
from latentcodec.container.chunks import DEFAULT_LIMITS, Limits
from latentcodec.container.file import Goal, unpack
from latentcodec.errors import LimitExceeded
from latentcodec.picture.picture import DroppedDataWarning, Picture, Pixels, from_array
from tests.conftest import photograph, psnr, retiled

pytestmark = pytest.mark.usefixtures("small_tiles")


def decoded(codec: NativeCodec, data: bytes) -> Picture:
    return decode_file(codec, unpack(data), DEFAULT_LIMITS, None)[0]


@pytest.fixture(scope="module")
def picture() -> Picture:
    return from_array(photograph("coffee", 210, 150))


def test_tiles_are_analysed_as_the_whole(native: NativeCodec, picture: Picture) -> None:
    padded = pad_to_patches(picture.pixels)
    halo = native.weights.config.transform.analysis_halo
    whole = native.analyse(padded, 3000)
    for x in range(0, 210, 64):
        for y in range(0, 150, 64):
            x0, y0, x1, y1 = box = latent_box((x, y, min(x + 64, 210), min(y + 64, 150)))
            part = analyse_tile(padded, box, halo, lambda pixels: native.analyse(pixels, 3000))
            assert np.allclose(part, whole[:, y0:y1, x0:x1], atol=2e-3)


@pytest.mark.parametrize("tile_size", [pytest.param(64, marks=pytest.mark.slow), 96])
def test_small_tiles_cost_bytes_but_no_quality(
    native: NativeCodec, tile_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = from_array(photograph("coffee", 400, 300, left=0))
    for level in (3200, 1000):
        one = NativeEncoder(native, picture).encode(level)
        file = retiled(native, picture, tile_size, level, monkeypatch)
        assert file.header.tile_size == tile_size
        assert len(file.tiles) == math.ceil(400 / tile_size) * math.ceil(300 / tile_size)
        tiled, _ = decode_file(native, file, DEFAULT_LIMITS, None)
        whole = decoded(native, one.data)
        difference = psnr(picture.pixels, tiled.pixels) - psnr(picture.pixels, whole.pixels)
        assert abs(difference) <= 0.15


def test_there_are_no_seams(native: NativeCodec, picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error along tile borders is that of everywhere else."""
    file = retiled(native, picture, 64, 2600, monkeypatch)
    tiled, _ = decode_file(native, file, DEFAULT_LIMITS, None)
    whole = decoded(native, NativeEncoder(native, picture).encode(2600).data)

    def at_borders(pixels: Pixels) -> float:
        error = (pixels.astype(float) - picture.pixels) ** 2
        return float(
            np.concatenate([error[:, 62:66].ravel(), error[62:66].ravel(), error[126:130].ravel()]).mean()
        )

    assert at_borders(tiled.pixels) < 1.15 * at_borders(whole.pixels)


def test_encoding_is_repeatable(native: NativeCodec, picture: Picture, one_thread: None) -> None:
    first = NativeEncoder(native, picture).encode(1500)
    encoder = NativeEncoder(native, picture)
    encoder.encode(3000)
    assert encoder.encode(1500).data == first.data


def test_measured_psnr_is_that_of_the_decoded_picture(
    native: NativeCodec, picture: Picture, one_thread: None
) -> None:
    attempt = NativeEncoder(native, picture).attempt(2200, measure=PSNR)
    assert attempt.level == 2200
    assert attempt.size == len(attempt.encoded.data)
    assert attempt.psnr == pytest.approx(psnr(picture.pixels, decoded(native, attempt.encoded.data).pixels))
    assert NativeEncoder(native, picture).attempt(2200, measure=None).psnr is None


def test_hidden_pixels_do_not_count(native: NativeCodec, one_thread: None) -> None:
    pixels = photograph(width=64, height=64)
    alpha = np.full((64, 64), 255, np.uint8)
    alpha[:, 40:] = 0
    pixels[:, 40:] = np.random.default_rng(0).integers(0, 256, (64, 24, 3))
    picture = Picture(pixels, alpha)
    attempt = NativeEncoder(native, picture).attempt(3600, measure=PSNR)
    shown = decoded(native, attempt.encoded.data)
    assert attempt.psnr == pytest.approx(psnr(pixels[:, :40], shown.pixels[:, :40]))
    assert np.array_equal(shown.alpha, alpha)  # type: ignore[arg-type]
    noisy = NativeEncoder(native, Picture(pixels)).encode(3600)
    assert attempt.size < 0.9 * len(noisy.data)  # nobody pays for what nobody sees


def test_a_wholly_hidden_picture(native: NativeCodec) -> None:
    picture = Picture(photograph(width=40, height=24), np.zeros((24, 40), np.uint8))
    attempt = NativeEncoder(native, picture).attempt(2000, measure=PSNR)
    assert attempt.psnr == math.inf
    assert attempt.size < 200


def test_goals_are_stored(native: NativeCodec, picture: Picture) -> None:
    encoder = NativeEncoder(native, picture)
    attempt = encoder.attempt(2000, measure=PSNR)
    data = encoder.finish(attempt, Goal("psnr", 30.0, attempt.psnr))
    goal = unpack(data).goal
    assert goal is not None
    assert (goal.kind, goal.target) == ("psnr", 30.0)
    assert goal.psnr == pytest.approx(attempt.psnr, abs=0.01)
    assert np.array_equal(decoded(native, data).pixels, decoded(native, attempt.encoded.data).pixels)


def test_attempts_are_small(native: NativeCodec, picture: Picture) -> None:
    """A search keeps several attempts: none of them may hold the latent plane."""
    attempt = NativeEncoder(native, picture).attempt(100, measure=PSNR)
    assert not any(isinstance(value, torch.Tensor | np.ndarray) for value in vars(attempt.encoded).values())


def test_alpha_is_packed_once(native: NativeCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, ...]] = []

    def counting(alpha: Pixels) -> bytes:
        calls.append(alpha.shape)
        return module_pack(alpha)

    module_pack = module.pack_alpha
    monkeypatch.setattr(module, "pack_alpha", counting)
    alpha = np.full((20, 30), 7, np.uint8)
    encoder = NativeEncoder(native, Picture(photograph(width=30, height=20), alpha))
    for level in (0, 100, 4000):
        encoder.encode(level)
    assert calls == [(20, 30)]


def with_sidecars(profile: int, exif: int, xmp: int) -> Picture:
    """A picture with that many bytes of each, which cannot be compressed."""
    random = np.random.default_rng(8)
    return Picture(
        photograph(width=16, height=16),
        profile=random.bytes(profile) or None,
        exif=random.bytes(exif) or None,
        xmp=random.bytes(xmp) or None,
    )


@pytest.mark.parametrize(
    ("sizes", "dropped"),
    [
        ((300, 300, 300), set()),
        ((0, 1001, 300), {"exif"}),
        ((0, 300, 1001), {"xmp"}),
        ((300, 2000, 2000), {"exif", "xmp"}),
        ((500, 600, 100), {"exif"}),  # together
        ((100, 700, 700), {"xmp"}),
        ((0, 1000, 0), {"exif"}),  # stored, it is a few bytes more
    ],
)
def test_metadata_beyond_the_readers_limits_are_dropped(
    native: NativeCodec, sizes: tuple[int, int, int], dropped: set[str]
) -> None:
    picture, limits = with_sidecars(*sizes), Limits(max_metadata_bytes=1000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = NativeEncoder(native, picture, limits=limits).encode(1000).data
    assert {str(each.message).split(" bytes of ")[1].split()[0].lower() for each in caught} == dropped
    assert all(each.category is DroppedDataWarning and "at most 1000" in str(each.message) for each in caught)
    shown, _ = decode_file(native, unpack(data, limits), limits, None)
    for name in ("profile", "exif", "xmp"):
        assert getattr(shown, name) == (None if name in dropped else getattr(picture, name))


def test_metadata_that_compress_well_are_bounded_too(native: NativeCodec) -> None:
    picture = Picture(photograph(width=16, height=16), exif=bytes(1001))
    limits = Limits(max_metadata_bytes=1000)
    with pytest.warns(DroppedDataWarning, match="1001 bytes of EXIF"):
        NativeEncoder(native, picture, limits=limits)
    NativeEncoder(native, picture, limits=limits, strip=True)  # asked for, so not told


@pytest.mark.parametrize("size", [1000, 1001])
def test_a_profile_beyond_the_readers_limits(native: NativeCodec, size: int) -> None:
    with pytest.raises(LimitExceeded, match=r"colour profile: 10\d\d bytes, .* at most 1000: convert"):
        NativeEncoder(native, with_sidecars(size, 0, 0), limits=Limits(max_metadata_bytes=1000))
