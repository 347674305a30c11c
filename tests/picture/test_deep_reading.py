"""Pictures of 9 to 16 bits are read as they are, from every format that has them."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from latentcodec.errors import UnreadableImage, UnsupportedImage
from latentcodec.picture import deep_reading
from latentcodec.picture.files import open_picture
from latentcodec.picture.picture import Picture, ReducedDepthWarning, from_pillow
from tests.picture.test_samples import png

imagecodecs: Any = pytest.importorskip("imagecodecs")
tifffile: Any = pytest.importorskip("tifffile")

HEIGHT, WIDTH = 21, 34
Y, X = np.mgrid[:HEIGHT, :WIDTH]
RGB = np.stack([X * 1900 + 3, Y * 3000 + 5, (X + Y) * 1200 + 7], 2).astype(np.uint16)
RGBA = np.dstack([RGB, (X * 1900 + 9).astype(np.uint16)])
GRAY = np.ascontiguousarray(RGB[..., 2])


def planes(picture: Picture) -> np.ndarray:
    """(H, W, n), n being 1 for gray."""
    colours = picture.pixels[..., :1] if picture.gray else picture.pixels
    return colours if picture.alpha is None else np.dstack([colours, picture.alpha])


def same(data: bytes, expected: np.ndarray, bits: int = 16) -> bool:
    picture = open_picture(io.BytesIO(data))
    return picture.bit_depth == bits and np.array_equal(planes(picture), np.atleast_3d(expected))


def tiff(samples: np.ndarray, **options: Any) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, samples, **options)
    return out.getvalue()


@pytest.mark.parametrize("samples", [GRAY, RGB, RGBA])
def test_png(samples: np.ndarray) -> None:
    assert same(imagecodecs.png_encode(samples), samples)


def test_png_with_a_transparent_colour_and_with_gray_and_alpha() -> None:
    one = [0x1234, 0x5678, 0x9ABC]
    near = from_pillow(Image.open(png(16, 2, [*one, 0x1234, 0x5679, 0x9ABC], trns=one)))
    assert near.alpha is not None
    assert near.alpha.tolist() == [[0, 65535]]
    assert planes(from_pillow(Image.open(png(16, 4, [0x1201, 0x3402, 0xFFFF, 0xFFFF])))).tolist() == [
        [[0x1201, 0x3402], [0xFFFF, 0xFFFF]]
    ]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rowsperstrip": 5},
        {"tile": (16, 16)},
        {"compression": "zlib", "predictor": True},
        {"compression": "lzw", "tile": (16, 32)},
    ],
)
def test_tiff(order: str, options: dict[str, Any]) -> None:
    assert same(tiff(RGB, photometric="rgb", byteorder=order, **options), RGB)
    assert same(tiff(GRAY, byteorder=order, **options), GRAY)
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    assert same(tiff(RGBA, byteorder=order, **alpha, **options), RGBA)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_in_planes(compression: str | None) -> None:
    data = tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression=compression)
    assert same(data, RGB)


def test_a_turned_tiff_is_turned() -> None:
    data = tiff(RGB, photometric="rgb", extratags=[(0x0112, 3, 1, 6, True)])
    assert same(data, np.rot90(RGB, -1))


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("samples", [GRAY, RGB, RGBA])
def test_jpeg_2000(samples: np.ndarray, bits: int) -> None:
    reduced = samples >> (16 - bits)
    data = imagecodecs.jpeg2k_encode(reduced, level=0, reversible=True, bitspersample=bits, codecformat="jp2")
    assert same(data, reduced, bits)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("samples", [RGB, RGBA])
def test_avif(samples: np.ndarray, bits: int) -> None:
    reduced = samples >> (16 - bits)
    assert same(imagecodecs.avif_encode(reduced, level=100, bitspersample=bits), reduced, bits)


def test_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    monkeypatch.setattr(Image, "OPEN", dict(Image.OPEN))
    monkeypatch.setattr(Image, "ID", list(Image.ID))
    pillow_heif.register_heif_opener()
    for samples, mode in ((RGB, "RGB;16"), (RGBA, "RGBA;16")):
        out = io.BytesIO()
        pillow_heif.from_bytes(mode, (WIDTH, HEIGHT), samples.tobytes()).save(out, quality=-1, chroma=444)
        picture = open_picture(io.BytesIO(out.getvalue()))
        assert picture.bit_depth == 10
        assert np.abs(planes(picture).astype(int) - (samples >> 6)).max() <= 3  # it is lossy in colour


@pytest.mark.parametrize(("peak", "bits"), [(1023, 10), (4095, 12), (65535, 16)])
def test_portable_maps(peak: int, bits: int) -> None:
    samples = (RGB.astype(int) * peak // 65535).astype(np.uint16)
    for kind, part in ((b"5", samples[..., 0]), (b"6", samples)):
        head = b"P%s %d %d %d\n" % (kind, WIDTH, HEIGHT, peak)
        assert same(head + part.astype(">u2").tobytes(), part, bits)
    text = b"P3 # plain\n%d %d\n%d\n" % (WIDTH, HEIGHT, peak)
    assert same(text + b" ".join(b"%d" % each for each in samples.ravel().tolist()), samples, bits)


def test_a_white_that_is_no_power_of_two_is_scaled() -> None:
    data = b"P6 2 1 1000\n" + struct.pack(">6H", 0, 500, 1000, 1, 999, 3000)
    assert planes(open_picture(io.BytesIO(data))).tolist() == [
        [[0, 32768, 65535], [66, 65469, 65535]]  # past white is white
    ]


@pytest.mark.parametrize("kind", [b"P5", b"P6", b"P3"])
def test_a_portable_map_that_is_cut_is_damaged(kind: bytes) -> None:
    with pytest.raises(UnreadableImage):
        open_picture(io.BytesIO(kind + b" 30 30 65535\n1 2 3 4 5"))


def test_a_file_stays_usable_and_a_path_works(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(imagecodecs.png_encode(RGB))
    with Image.open(path) as image:
        assert np.array_equal(from_pillow(image).pixels, RGB)
        assert np.array_equal(np.asarray(image), RGB >> 8)
    with Image.open(path) as image:
        image.load()  # now Pillow has what it has
        assert from_pillow(image).bit_depth == 8


def no_extra(_: str) -> None:
    raise ImportError


@pytest.mark.parametrize("kind", ["avif", "jp2"])
def test_without_the_extra_it_is_named(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "avif":
        data = imagecodecs.avif_encode(RGB >> 6, level=100, bitspersample=10)
    else:
        data = imagecodecs.jpeg2k_encode(RGB >> 6, level=0, bitspersample=10, codecformat="jp2")
    monkeypatch.setattr(deep_reading, "import_module", no_extra)
    with pytest.warns(ReducedDepthWarning, match=r"a\.x: it has 10 bits .* latentcodec\[deep\]"):
        picture = open_picture(io.BytesIO(data), name="a.x")
    assert picture.bit_depth == 8
    gray = imagecodecs.jpeg2k_encode(GRAY >> 6, level=0, bitspersample=10, codecformat="jp2")
    assert same(gray, GRAY >> 6, 10)  # Pillow hands it out


def test_planes_without_the_extra_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_reading, "import_module", no_extra)
    data = tiff(RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    with pytest.raises(UnsupportedImage, match=r"in planes of 16 bits.*latentcodec\[deep\]"):
        open_picture(io.BytesIO(data))


def test_what_two_decoders_read_differently_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mistaken:
        @staticmethod
        def avif_decode(data: bytes) -> np.ndarray:
            return (RGB >> 6)[:, ::-1]

    data = imagecodecs.avif_encode(RGB >> 6, level=100, bitspersample=10)
    monkeypatch.setattr(deep_reading, "import_module", lambda _: Mistaken)
    with pytest.warns(ReducedDepthWarning, match="read differently"):
        assert open_picture(io.BytesIO(data)).bit_depth == 8


@pytest.mark.parametrize(
    ("samples", "kind"),
    [
        ((RGB / 65535).astype(np.float32), "3 samples a pixel, floats of 32 bits"),
        (RGBA[..., :2], "2 samples a pixel, integers of 16 bits"),
    ],
)
def test_a_tiff_of_another_kind_is_named(samples: np.ndarray, kind: str) -> None:
    options = {"photometric": "rgb"} if samples.shape[2] == 3 else {"extrasamples": ["unassalpha"]}
    data = tiff(samples, **({"photometric": "minisblack"} | options))
    with pytest.raises(UnsupportedImage, match=rf"scan\.tif is a TIFF that Pillow does not read \({kind}\)"):
        open_picture(io.BytesIO(data), name="scan.tif")
