"""Pictures of 9 to 16 bits from end to end: coded as such, near where they are smooth, alike everywhere."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import latentcodec
from latentcodec.codec import lossless
from latentcodec.codec.api import Codec
from latentcodec.codec.decoder import decode_with
from latentcodec.codec.info import info
from latentcodec.codec.lossless import PixelReader, pixel_tiles
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.native.encoder import NativeEncoder
from latentcodec.codec.native.near import NearFiles
from latentcodec.container.chunks import DEFAULT_LIMITS
from latentcodec.container.file import File, pack, unpack
from latentcodec.container.header import PIXELS
from latentcodec.container.quality import level_of_quality
from latentcodec.errors import ChecksumMismatch, MalformedFile, TargetUnreachable, WeightsMismatch
from latentcodec.nn.exact.choice import torch_engine
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.picture import Picture, from_array, with_depth
from latentcodec.weights.native import NATIVE_MODEL, NativeWeights
from tests import model_reference, samples_reference
from tests.codec.values.test_interpolation import deep_photograph
from tests.conftest import native_codec

EIGHT_BITS = 58.9  # dB: what rounding a ramp to 8 bits leaves


def ramp(kind: str) -> npt.NDArray[np.uint16]:
    """A smooth ramp of 16 bits."""
    x, y = np.linspace(0, 65535, 1200), np.linspace(0, 65535, 96)
    planes = {
        "gray": np.tile(x, (64, 1)),
        "gray, both ways": (x[None, :] + y[:, None]) / 2,
        "colour": np.stack(
            [np.tile(x, (64, 1)), np.tile(65535 - x, (64, 1)), np.tile(x / 2 + 9999, (64, 1))], 2
        ),
    }
    return np.rint(planes[kind]).astype(np.uint16)


def photograph(height: int = 96, width: int = 120) -> npt.NDArray[np.uint16]:
    planes = deep_photograph(height, width)[[1, 0, 2]]
    return np.ascontiguousarray(planes.transpose(1, 2, 0)).astype(np.uint16)


def decibels(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], peak: int = 65535) -> float:
    error = float(np.mean((a.astype(float) - b.astype(float)) ** 2))
    return 10 * math.log10(peak**2 / error) if error else math.inf


@pytest.mark.parametrize("kind", ["gray", "gray, both ways", "colour"])
def test_a_smooth_ramp_keeps_what_8_bits_lose(codec: Codec, kind: str) -> None:
    pixels = ramp(kind)
    data = codec.encode(pixels, quality=100)
    shown = codec.decode_array(data)
    assert shown.dtype == np.uint16
    assert decibels(shown, pixels) > EIGHT_BITS + 15
    row = shown[40] if shown.ndim == 2 else shown[40, :, 0]
    assert len(np.unique(row)) >= 1000
    edges = np.flatnonzero(np.concatenate([[True], row[1:] != row[:-1], [True]]))
    assert np.diff(edges).max() <= 1200 / 512
    networks = NativeEncoder(codec._load_native(), from_array(pixels)).encode(4000).data
    assert len(data) <= len(networks)


def test_a_photograph_is_the_networks_and_no_worse_than_of_8_bits(codec: Codec) -> None:
    pixels = photograph()
    data = codec.encode(pixels, quality=80)
    said = info(data)
    assert (said.model, said.depth, said.lossless, said.step) == (NATIVE_MODEL, 16, False, None)
    eight = np.floor(pixels / 257 + 0.5).astype(np.uint8)
    flat = codec.encode(eight, quality=80)
    assert abs(len(data) - len(flat)) < 0.01 * len(flat)
    assert decibels(codec.decode_array(data), pixels) > decibels(codec.decode_array(flat), eight, 255) - 0.02


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
def test_every_engine_decodes_alike_and_as_specified(codec: Codec, weights: NativeWeights, bits: int) -> None:
    picture = with_depth(from_array(photograph(40, 56)), bits)
    data = codec.encode(picture, quality=70)
    file = unpack(data)
    assert (file.header.depth, file.header.model_number) == (bits, NATIVE_MODEL)
    shown, _ = codec.decode_picture(data)
    assert shown.bit_depth == bits
    tile = file.tiles[0]
    assert tile is not None
    latents, _ = model_reference.decode_tile(weights, tile.stream, file.header.quality_level, 5, 7)
    expected = model_reference.synthesise(weights, latents, file.header.quality_level, bits)
    assert np.array_equal(shown.pixels, expected)
    for engine in (NumpyEngine(), torch_engine("cpu", False)):
        other = native_codec(weights, engine)
        assert np.array_equal(
            other.synthesise(latents.astype(np.int32), file.header.quality_level, bits), shown.pixels
        )


def test_gray_of_16_bits_is_the_mean_of_its_planes(codec: Codec, weights: NativeWeights) -> None:
    data = codec.encode(photograph(40, 56)[..., 1], quality=60)
    file = unpack(data)
    tile = file.tiles[0]
    assert tile is not None
    latents, _ = model_reference.decode_tile(weights, tile.stream, file.header.quality_level, 5, 7)
    planes = model_reference.synthesise(weights, latents, file.header.quality_level, 16)
    assert np.array_equal(codec.decode_array(data), (planes.sum(2) + 1) // 3)


@pytest.mark.parametrize("bits", [10, 16])
def test_alpha_is_exact_and_opaque_alpha_goes(codec: Codec, bits: int) -> None:
    pixels = photograph(64, 72)
    x = np.mgrid[:64, :72][1]
    alpha = np.clip(x * 1500 - 20000, 0, 65535).astype(np.uint16)
    picture = with_depth(from_array(np.dstack([pixels, alpha])), bits)
    shown, _ = codec.decode_picture(codec.encode(picture, quality=40))
    assert shown.alpha is not None
    assert picture.alpha is not None
    assert np.array_equal(shown.alpha, picture.alpha)
    assert from_array(np.dstack([pixels, np.full_like(alpha, 65535)])).alpha is None
    hidden = replace(picture, alpha=np.zeros_like(picture.alpha))
    assert len(codec.encode(hidden)) < 600


def test_targets_are_on_the_true_depth(codec: Codec) -> None:
    pixels, smooth = photograph(), ramp("gray, both ways")
    data = codec.encode(pixels, min_psnr=36)
    assert 36 <= decibels(codec.decode_array(data), pixels) < 36.5
    assert info(data).model == NATIVE_MODEL
    for asked in (40, 62, 90):
        data = codec.encode(smooth, min_psnr=asked)
        goal = info(data).goal
        assert goal is not None
        assert goal.psnr is not None
        reached = decibels(codec.decode_array(data), smooth)
        assert reached >= asked
        assert goal.psnr == pytest.approx(min(reached, 100), abs=0.01)
    data = codec.encode(pixels, min_psnr=61)  # past the networks, not past the samples
    assert (info(data).model, info(data).lossless) == (PIXELS, False)
    assert decibels(codec.decode_array(data), pixels) >= 61
    data = codec.encode(smooth, target_size=400)
    assert len(data) <= 400
    assert decibels(codec.decode_array(data), smooth) > 55
    everything = codec.encode(smooth, target_size=200_000)
    assert info(everything).lossless
    assert np.array_equal(codec.decode_array(everything), smooth)
    with pytest.raises(TargetUnreachable, match="bytes"):
        codec.encode(smooth, target_size=20)


def test_files_of_samples_are_chosen_only_where_they_are_nearer(codec: Codec) -> None:
    pixels = ramp("gray, both ways")
    encoder = NativeEncoder(codec._load_native(), from_array(pixels))
    for quality in (40, 100):
        networks = encoder.encode(level_of_quality(quality))
        chosen = encoder.near(len(networks.data), networks)
        assert chosen is not None
        assert chosen.size <= len(networks.data)
        shown, _ = codec.decode_picture(networks.data)
        assert chosen.psnr is not None
        assert chosen.psnr > decibels(shown.pixels, np.repeat(pixels[..., None], 3, 2))
    rough = NativeEncoder(codec._load_native(), from_array(photograph()))
    assert rough.near(2000) is None
    assert (
        NativeEncoder(codec._load_native(), from_array(photograph()[..., 0].astype(np.uint8))).near(1e9)
        is None
    )


def near(native: NativeCodec, pixels: npt.NDArray[np.uint16], step: int, bits: int = 16) -> File:
    encoder = NativeEncoder(native, with_depth(from_array(pixels), bits))
    assert isinstance(encoder._near, NearFiles)
    attempt = encoder._near.at(step, math.inf)
    assert attempt is not None
    return attempt.encoded.file


@pytest.mark.parametrize(("bits", "step"), [(16, 1), (10, 3), (16, 65)])
def test_files_of_samples_are_as_specified(native: NativeCodec, bits: int, step: int) -> None:
    file = near(native, photograph(21, 18), step, bits)
    assert (file.header.model_number, file.header.quality_level) == (PIXELS, 4001 - step)
    tile = file.tiles[0]
    assert tile is not None
    green, red, blue = samples_reference.decode(tile.stream, 3, 21, 18, bits, step)
    shown, _ = decode_with(PixelReader(file.header), file, DEFAULT_LIMITS, None)
    assert np.array_equal(shown.pixels, np.stack([red, green, blue], 2))
    assert shown.bit_depth == bits


def test_without_loss_in_tiles_and_in_damage(
    native: NativeCodec, monkeypatch: pytest.MonkeyPatch, codec: Codec
) -> None:
    pixels = np.tile(photograph(100, 145), (3, 2, 1))
    monkeypatch.setattr(lossless, "deep_tile_size", lambda width, height: 256)
    picture = replace(from_array(pixels), alpha=pixels[..., 0])
    found = pixel_tiles(picture, 3, lambda number, box: b"", always=True)
    assert found is not None
    assert found[0].tile_count == 4
    data = pack(near(native, pixels, 1))
    assert np.array_equal(codec.decode_array(data), pixels)
    assert info(data).lossless
    broken = bytearray(data)
    broken[-100] ^= 1
    with pytest.raises(ChecksumMismatch):
        codec.decode(bytes(broken))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = codec.decode(bytes(broken), partial=True).info["report"]
    assert report.missing == (3,)
    left = codec.decode_array(bytes(broken), partial=True)
    assert np.array_equal(left[:256], pixels[:256])
    assert (left[256:, 256:] == 32768).all()


def test_thin_pictures_are_kept(codec: Codec) -> None:
    for shape in ((1, 9000), (9000, 1), (1, 150_000)):
        pixels = (np.arange(max(shape)) * 7 % 65536).astype(np.uint16).reshape(shape)
        data = codec.encode(pixels, quality=5)
        assert info(data).lossless
        assert np.array_equal(codec.decode_array(data), pixels)


def test_headers_that_do_not_fit(native: NativeCodec) -> None:
    file = near(native, photograph(9, 8), 3)
    with pytest.raises(WeightsMismatch, match="tables of hash 01020304"):
        PixelReader(replace(file.header, networks_hash=bytes([1, 2, 3, 4])))
    with pytest.raises(MalformedFile, match="need no networks"):
        PixelReader(replace(file.header, synthesis_hash=bytes([1, 2, 3, 4])))
    other = replace(file, header=replace(file.header, quality_level=3990))
    with pytest.raises((ChecksumMismatch, MalformedFile)):
        decode_with(PixelReader(other.header), other, DEFAULT_LIMITS, None)


def test_from_a_png_to_a_png(tmp_path: Path) -> None:
    pixels = ramp("colour")
    source, packed = tmp_path / "ramp.png", tmp_path / "ramp.lci"
    save_picture(from_array(pixels), source)
    latentcodec.compress(source, packed, quality=100)
    for name, bits in (("back.png", 16), ("back.tif", 16), ("back.ppm", 16)):
        latentcodec.decompress(packed, tmp_path / name)
        back = open_picture(tmp_path / name)
        assert back.bit_depth == bits
        assert np.array_equal(back.pixels, latentcodec.decode_array(packed.read_bytes()))
    with pytest.warns(UserWarning, match="JPEG has 8 bits a channel, the picture's 16 are rounded"):
        latentcodec.decompress(packed, tmp_path / "back.jpg")
    with pytest.warns(UserWarning, match="decode_array"):
        assert latentcodec.decode(packed.read_bytes()).mode == "RGB"
    assert latentcodec.decode(latentcodec.encode(ramp("gray"))).mode == "I;16"


def test_effort_searches_deep_pictures_too(codec: Codec) -> None:
    pixels = photograph(64, 72)
    plain, searched = (codec.encode(pixels, quality=70, effort=effort) for effort in (3, 4))
    assert len(searched) < len(plain)
    assert decibels(codec.decode_array(searched), pixels) > decibels(codec.decode_array(plain), pixels) - 0.5


def test_a_pillow_image_is_kept_too(codec: Codec) -> None:
    gray = ramp("gray")
    data = codec.encode(Image.fromarray(gray), quality=100)
    assert decibels(np.asarray(codec.decode(data)), gray) > EIGHT_BITS


def test_pictures_of_8_bits_know_nothing_of_it(codec: Codec) -> None:
    picture = Picture((photograph(40, 40) >> 8).astype(np.uint8))
    assert codec.decode_array(codec.encode(picture)).dtype == np.uint8
