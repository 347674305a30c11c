"""Every mode of Pillow, through `from_pillow`, which is how samples.py is used."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from latentcodec.errors import UnsupportedImage
from latentcodec.picture.picture import DroppedDataWarning, Picture, ReducedDepthWarning, from_pillow
from latentcodec.picture.samples import Stored, scaled, stored_depth, to_planes

SIZE = (24, 16)
GRAY_MODES = ["1", "L", "LA", "La"]
DEEP_MODES = ["I;16", "I;16L", "I;16B", "I;16N"]


def colours() -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, SIZE[0]), np.linspace(0, 255, SIZE[1]))
    return Image.fromarray(np.dstack([x, y, 255 - x]).astype(np.uint8))


def colours_and_alpha() -> Image.Image:
    image = colours().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.arange(16, 256, 10, dtype=np.uint8), (SIZE[1], 1))))
    return image


def png(depth: int, colour: int, samples: list[int], *, trns: list[int] | None = None) -> io.BytesIO:
    """A PNG of one row, from samples of `depth` bits; colour types as in the specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bits = "".join(f"{sample:0{depth}b}" for sample in samples)
    row = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    width = len(samples) // {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    key = chunk(b"tRNS", struct.pack(f">{len(trns)}H", *trns)) if trns else b""
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
        + key
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


def equal(picture: Picture, expected: Image.Image) -> bool:
    return np.array_equal(picture.pixels, np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "RGBX", "RGBA", "P", "PA", "YCbCr", "HSV", "LAB", "CMYK", "RGBa"])
def test_colour_modes_are_what_pillow_makes_of_them(mode: str) -> None:
    source = colours_and_alpha() if mode == "RGBa" else colours()
    image = source.convert(mode)
    picture = from_pillow(image)
    assert equal(picture, image.convert("RGBA") if mode == "RGBa" else image)
    assert not picture.gray
    assert picture.channels == (4 if mode == "RGBa" else 3)


@pytest.mark.parametrize("mode", GRAY_MODES)
def test_gray_stays_gray(mode: str) -> None:
    image = colours().convert("LA").convert("La") if mode == "La" else colours().convert(mode)
    picture = from_pillow(image)
    assert picture.gray
    assert picture.channels == 1  # opaque alpha is dropped
    assert np.array_equal(
        picture.pixels[..., 0],
        np.asarray(colours().convert("1" if mode == "1" else "L")) * (255 if mode == "1" else 1),
    )
    assert (picture.pixels == picture.pixels[..., :1]).all()


def test_every_mode_of_this_pillow_is_taken() -> None:
    tested = {*GRAY_MODES, *DEEP_MODES, "I", "F", "RGB", "RGBX", "RGBA", "RGBa", "P", "PA"}
    assert set(Image.MODES) <= tested | {"YCbCr", "HSV", "LAB", "CMYK"}


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "PA"])
def test_alpha_is_kept_exactly(mode: str) -> None:
    image = colours_and_alpha()
    alpha = np.asarray(image.getchannel("A"))
    if mode == "PA":  # not every Pillow's conversion to PA keeps alpha
        image = image.convert("RGB").convert("PA")
        image.putalpha(Image.fromarray(alpha))
    else:
        image = image.convert("LA").convert("La") if mode == "La" else image.convert(mode)
    picture = from_pillow(image)
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, alpha)
    assert picture.gray == (mode in ("LA", "La"))
    assert picture.channels == (2 if picture.gray else 4)


@pytest.mark.parametrize("key", [7, bytes(range(255, -1, -1))])
def test_palette_with_transparency(key: int | bytes) -> None:
    image = colours().quantize(64)
    image.info["transparency"] = key
    indices = np.asarray(image)
    expected = np.where(indices == key, 0, 255) if isinstance(key, int) else 255 - indices
    picture = from_pillow(image)
    assert np.array_equal(picture.alpha, expected.astype(np.uint8))
    assert equal(picture, colours().quantize(64))


def test_a_transparency_that_means_nothing_to_pillow() -> None:
    image = colours().quantize(4)
    image.info["transparency"] = (1, 2, 3)
    with pytest.raises(UnsupportedImage, match="cannot convert mode P to RGBA"):
        from_pillow(image)


def test_palette_that_holds_alpha_itself() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80], "RGBA")
    image.putpixel((1, 0), 1)
    picture = from_pillow(image)
    assert picture.pixels.tolist() == [[[10, 20, 30], [50, 60, 70]]]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[40, 80]]


@pytest.mark.parametrize(
    ("depth", "colour", "samples", "trns", "pixels", "alpha"),
    [
        (1, 0, [0, 1, 1], [1], [0, 255, 255], [255, 0, 0]),
        (2, 0, [0, 1, 3], [1], [0, 85, 255], [255, 0, 255]),
        (4, 0, [0, 5, 15], [15], [0, 85, 255], [255, 255, 0]),
        (8, 0, [9, 5, 255], [5], [9, 5, 255], [255, 0, 255]),
        (8, 2, [1, 2, 3, 1, 2, 4], [1, 2, 4], [[1, 2, 3], [1, 2, 4]], [255, 0]),
    ],
)
def test_a_transparent_colour_becomes_alpha(
    depth: int, colour: int, samples: list[int], trns: list[int], pixels: list[object], alpha: list[int]
) -> None:
    picture = from_pillow(Image.open(png(depth, colour, samples, trns=trns)))
    assert picture.gray == (colour == 0)
    assert (picture.pixels[0, :, 0] if picture.gray else picture.pixels[0]).tolist() == pixels
    assert picture.alpha is not None
    assert picture.alpha[0].tolist() == alpha


@pytest.mark.parametrize("mode", DEEP_MODES)
def test_16_bit_gray_is_kept(mode: str) -> None:
    samples = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = Image.frombytes(mode, (256, 256), samples.astype(">u2" if mode == "I;16B" else "=u2").tobytes())
    picture = from_pillow(image)
    assert (picture.gray, picture.bit_depth) == (True, 16)
    assert np.array_equal(picture.pixels[..., 2], samples)


def test_16_bit_gray_png_with_a_transparent_value() -> None:
    picture = from_pillow(Image.open(png(16, 0, [1000, 1001, 65535], trns=[1001])))
    assert picture.pixels[0, :, 0].tolist() == [1000, 1001, 65535]
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[65535, 0, 65535]]


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_deep_samples_of_other_colours_are_told(mode: str) -> None:
    with pytest.warns(ReducedDepthWarning, match="more than 8 bits"):
        to_planes(colours().convert(mode), Stored(f"{mode};16L", 65535), "scan.tif")


def test_12_bit_samples_have_12_bits() -> None:
    image = Image.frombytes("I;16", (3, 1), np.array([0, 2048, 4095], "=u2").tobytes())
    image.tile = [("raw", (0, 0, 3, 1), 0, ("I;12", 0, 1))]  # type: ignore[attr-defined]
    stored = stored_depth(image)
    assert stored == ("I;12", 4095)
    gray, alpha, bits = to_planes(image, stored, "x")
    assert (gray.tolist(), alpha, bits) == ([[0, 2048, 4095]], None, 12)


def test_5_6_5_colour_is_not_deep() -> None:
    image = Image.new("RGB", (1, 1))
    for rawmode in ("BGR;16", "RGB;16", "BGR;15", "RGB", "L", "1"):
        image.tile = [("raw", (0, 0, 1, 1), 0, (rawmode, 0, 1))]  # type: ignore[attr-defined]
        assert stored_depth(image) == (rawmode, None)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_wide_samples_within_8_bits_are_taken_as_they_are(mode: str) -> None:
    gray = colours().convert("L")
    picture = from_pillow(gray.convert(mode))
    assert picture.gray
    assert np.array_equal(picture.pixels[..., 0], np.asarray(gray))


@pytest.mark.parametrize(
    ("samples", "white", "expected"),
    [
        (np.array([[0, 256.5, 65535]], np.float32), 65535, [0, 256, 65535]),
        (np.array([[0, 100.4, 254.6]], np.float32), 255, [0, 25803, 65432]),
        (np.array([[0, 0.25, 1]], np.float32), 1, [0, 16384, 65535]),
    ],
)
def test_floats_are_scaled_with_a_warning(samples: np.ndarray, white: int, expected: list[int]) -> None:
    with pytest.warns(ReducedDepthWarning, match=f"taken as 0 ... {white}, is rounded to 16 bits"):
        picture = from_pillow(Image.fromarray(samples))
    assert picture.pixels[0, :, 0].tolist() == expected
    assert picture.bit_depth == 16


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_whole_samples_of_16_bits_are_kept(kind: type) -> None:
    picture = from_pillow(Image.fromarray(np.array([[0, 256, 65535]], kind)))
    assert picture.pixels[0, :, 0].tolist() == [0, 256, 65535]


def test_scaling_rounds_to_the_nearest() -> None:
    for bits in (8, 9, 10, 12, 16):
        for peak in (255, 1000, 1023, 4095, 65535):
            samples = np.arange(0, peak + 1, 1 + peak // 999)
            exact = np.floor(samples * ((1 << bits) - 1) / peak + 0.5)
            assert np.array_equal(scaled(samples, peak, bits), exact), (bits, peak)


@pytest.mark.parametrize(
    "samples",
    [
        np.array([[-1, 5]], np.int32),
        np.array([[0, 65536]], np.int32),
        np.array([[0, np.nan]], np.float32),
        np.array([[0, np.inf]], np.float32),
        np.array([[-0.5, 1]], np.float32),
    ],
)
def test_samples_outside_every_scale(samples: np.ndarray) -> None:
    with pytest.raises(UnsupportedImage, match=r"scan\.tif: its mode . samples run from .* scale them"):
        from_pillow(Image.fromarray(samples), name="scan.tif")


def cmyk_profile() -> bytes:
    """A small CMYK profile under which cyan ink looks red: no formula would say so.

    ICC version 2, output class, one lut8 from 4 channels with 2 grid points each to Lab.
    """
    lab = {"paper": (255, 128, 128), "red": (138, 208, 195), "black": (0, 128, 128)}
    grid = b"".join(
        bytes(lab["black" if k or m or y else "red" if c else "paper"])
        for c in (0, 1)
        for m in (0, 1)
        for y in (0, 1)
        for k in (0, 1)
    )
    ramp = bytes(range(256))
    unit = struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9)))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit + ramp * 4 + grid + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"A2B0", lut), (b"wtpt", white)]
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, body in tags:
        table += name + struct.pack(">II", offset + len(data), len(body))
        data += body
    size = offset + len(data)
    head = struct.pack(">I4xI4s4s4s", size, 0x02400000, b"prtr", b"CMYK", b"Lab ") + bytes(12) + b"acsp"
    illuminant = struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(68, b"\0") + illuminant + bytes(128 - 80) + table + data


def cmyk() -> Image.Image:
    return Image.frombytes("CMYK", (3, 1), bytes([0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255]))


def test_cmyk_goes_through_its_profile() -> None:
    image = cmyk()
    image.info["icc_profile"] = cmyk_profile()
    picture = from_pillow(image)
    paper, red, black = picture.pixels[0].astype(int)
    assert (paper >= 250).all()
    assert red[0] > 200 > 100 > red[2]
    assert (black <= 5).all()
    assert picture.profile is None  # used up: the pixels are sRGB


def test_cmyk_with_a_broken_profile_is_converted_plainly() -> None:
    image = cmyk()
    image.info["icc_profile"] = cmyk_profile()[:300]
    with pytest.warns(DroppedDataWarning, match=r"print\.tif: its CMYK profile cannot be used"):
        picture = from_pillow(image, name="print.tif")
    assert equal(picture, cmyk())
    assert picture.profile is None


def test_cmyk_jpeg_of_adobe_kind() -> None:
    stream = io.BytesIO()
    colours().convert("CMYK").save(stream, "JPEG", quality=100)
    picture = from_pillow(Image.open(stream))
    assert np.abs(picture.pixels.astype(int) - np.asarray(colours())).mean() < 3
