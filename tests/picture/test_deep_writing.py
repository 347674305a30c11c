"""Pictures of 9 to 16 bits are written with all of them where a format has room, else rounded and told."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from latentcodec.errors import InvalidArgument
from latentcodec.picture import deep_writing
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.picture import (
    DroppedDataWarning,
    Picture,
    ReducedDepthWarning,
    from_array,
    to_array,
    to_pillow,
    with_depth,
)
from tests.conftest import SRGB
from tests.picture.test_deep_reading import GRAY, RGB, RGBA, no_extra

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
KINDS = {
    "gray": from_array(GRAY),
    "gray and alpha": replace(from_array(GRAY), alpha=np.ascontiguousarray(RGBA[..., 3])),
    "RGB": from_array(RGB),
    "RGB and alpha": from_array(RGBA),
}


def full(kind: str, bits: int) -> Picture:
    """A picture of this kind and depth, with metadata."""
    exif = Image.Exif()
    exif[0x010F] = "maker"
    profile = None if kind.startswith("gray") else SRGB
    picture = replace(KINDS[kind], exif=exif.tobytes().removeprefix(b"Exif\0\0"), xmp=XMP, profile=profile)
    return with_depth(picture, bits)


def through(picture: Picture, format_: str) -> Picture:
    stream = io.BytesIO()
    save_picture(picture, stream, format_)
    return open_picture(io.BytesIO(stream.getvalue()))


def coloured(picture: Picture) -> np.ndarray:
    array = to_array(picture)
    return np.repeat(array[..., None], 3, 2) if array.ndim == 2 else array


@pytest.mark.parametrize("bits", [10, 16])
@pytest.mark.parametrize(
    ("kind", "format_"),
    [
        (kind, format_)
        for kind in KINDS
        for format_ in ("PNG", "TIFF", "PPM", "JPEG2000")
        if format_ != "PPM" or "alpha" not in kind  # PPM has none
    ],
)
def test_lossless_formats_keep_every_bit(kind: str, bits: int, format_: str) -> None:
    picture = full(kind, bits)
    if format_ == "PPM":
        with pytest.warns(DroppedDataWarning, match="PPM has no place for EXIF, XMP"):
            back = through(picture, format_)
    else:
        back = through(picture, format_)
    assert back.bit_depth == (bits if format_ in ("PPM", "JPEG2000") else 16)
    assert np.array_equal(coloured(back), coloured(picture))
    if format_ != "PPM":
        assert back.xmp == XMP
        assert back.profile == picture.profile
        assert back.exif is not None
        assert b"maker" in back.exif


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bits", "kept"), [(9, 10), (10, 10), (12, 12)])
def test_avif_keeps_up_to_12_bits_and_metadata(kind: str, bits: int, kept: int) -> None:
    picture = full(kind, bits)
    back = through(picture, "avif")
    assert back.bit_depth == kept
    assert np.abs(coloured(back).astype(int) - coloured(picture)).max() < 600  # it is lossy
    assert back.xmp == XMP
    assert back.profile == picture.profile
    assert back.exif is not None
    assert b"maker" in back.exif
    if picture.alpha is not None:
        assert np.abs(coloured(back)[..., 3].astype(int) - coloured(picture)[..., 3]).max() < 600


@pytest.mark.filterwarnings("ignore::latentcodec.picture.notices.DroppedDataWarning")
def test_more_than_a_format_has_is_rounded_and_told() -> None:
    picture = full("RGB", 16)
    with pytest.warns(ReducedDepthWarning, match="AVIF has 12 bits a channel, the picture's 16 are rounded"):
        assert through(picture, "avif").bit_depth == 12
    for format_ in ("webp", "bmp", "tga"):
        with pytest.warns(ReducedDepthWarning, match="has 8 bits a channel, the picture's 16 are rounded"):
            back = through(picture, format_)
        assert np.array_equal(back.pixels, np.floor(RGB / 257 + 0.5))


@pytest.mark.parametrize("format_", ["avif", "jp2"])
def test_without_the_extra_it_is_named(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_writing, "import_module", no_extra)
    with pytest.warns(ReducedDepthWarning, match=r"rounded to 8, .*latentcodec\[deep\].*PNG or TIFF"):
        assert through(full("RGB", 10), format_).bit_depth == 8
    assert through(full("RGB", 10), "png").bit_depth == 16  # PNG needs none


def test_an_avif_that_is_built_otherwise_loses_its_metadata_not_its_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deep_writing, "_ILOC", b"other!")
    with pytest.warns(ReducedDepthWarning, match="metadata are left out"):
        back = through(full("RGB", 10), "avif")
    assert (back.bit_depth, back.xmp) == (10, None)


def test_arrays_and_pillow_images() -> None:
    assert np.array_equal(to_array(from_array(RGB)), RGB)
    assert np.array_equal(to_array(from_array(RGBA)), RGBA)
    assert np.array_equal(to_array(from_array(GRAY)), GRAY)
    assert to_array(from_array((RGB >> 8).astype(np.uint8))).dtype == np.uint8
    ten = with_depth(from_array(GRAY), 10)
    assert np.abs(to_array(ten).astype(int) - GRAY).max() <= 32
    image = to_pillow(from_array(GRAY))
    assert image.mode == "I;16"
    assert np.array_equal(np.asarray(image), GRAY)
    for array, mode in ((RGB, "RGB"), (RGBA, "RGBA")):
        with pytest.warns(ReducedDepthWarning, match="decode_array keeps them"):
            image = to_pillow(from_array(array))
        assert image.mode == mode
        assert np.array_equal(np.asarray(image), np.floor(array / 257 + 0.5))


def test_no_warning_where_nothing_is_lost() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in KINDS:
            through(full(kind, 16), "png")


def test_depths_and_types_go_together() -> None:
    deep, flat = RGB, (RGB >> 8).astype(np.uint8)
    with pytest.raises(InvalidArgument, match="bit_depth 17: samples have 8 to 16 bits"):
        Picture(deep, bit_depth=17)
    with pytest.raises(InvalidArgument, match="uint8 array"):
        Picture(deep)
    with pytest.raises(InvalidArgument, match="uint16 array"):
        Picture(flat, bit_depth=9)
    with pytest.raises(InvalidArgument, match="with 10 bits 1023 is the most"):
        Picture(deep, bit_depth=10)
    with pytest.raises(InvalidArgument, match="alpha is uint16"):
        Picture(deep, flat[..., 0], bit_depth=16)
