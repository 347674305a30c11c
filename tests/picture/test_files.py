from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from latentcodec.errors import InvalidArgument, LimitExceeded, UnreadableImage, UnsupportedImage
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.picture import DroppedDataWarning, Picture, from_array

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\xc3\xa9</x:xmpmeta>'
LOSSLESS = [".png", ".webp", ".tif", ".tiff", ".jp2", ".tga", ".bmp", ".ppm", ".pgm", ".pnm"]
WITH_ALPHA = [".png", ".webp", ".tif", ".jp2", ".tga"]
WITH_METADATA = [".png", ".jpg", ".webp", ".tif", ".avif", ".jp2"]


def exif() -> bytes:
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 1, "maker"
    tags.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    return tags.tobytes()[6:]


def picture(channels: int = 3, **metadata: bytes) -> Picture:
    planes = np.random.default_rng(7).integers(0, 250, (12, 20, 4), dtype=np.uint8)
    if channels < 3:
        planes[..., :3] = planes[..., :1]
    alpha = planes[..., 3].copy() if channels in (2, 4) else None
    return Picture(planes[..., :3].copy(), alpha, gray=channels < 3, **metadata)  # type: ignore[arg-type]


@pytest.mark.parametrize("extension", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_formats(extension: str, channels: int, tmp_path: Path) -> None:
    save_picture(picture(channels), tmp_path / f"out{extension}")
    again = open_picture(tmp_path / f"out{extension}")
    assert np.array_equal(again.pixels, picture(channels).pixels)
    assert again.gray == (channels == 1 and extension != ".webp")  # WebP knows no gray


@pytest.mark.parametrize("extension", WITH_ALPHA)
@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_kept(extension: str, channels: int, tmp_path: Path) -> None:
    save_picture(picture(channels), str(tmp_path / f"out{extension}"))
    again = open_picture(str(tmp_path / f"out{extension}"))
    assert np.array_equal(again.alpha, picture(channels).alpha)
    assert np.array_equal(again.pixels, picture(channels).pixels)  # under alpha 0, too


def test_avif_keeps_alpha_nearly(tmp_path: Path) -> None:
    save_picture(picture(4), tmp_path / "out.avif")
    again = open_picture(tmp_path / "out.avif")
    assert again.alpha is not None
    assert np.abs(again.alpha.astype(int) - picture(4).alpha).max() <= 4


@pytest.mark.parametrize("extension", [".jpg", ".JPEG", ".jfif", ".avif"])
def test_lossy_formats_keep_all_their_chroma(extension: str, tmp_path: Path) -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2], stripes[:, 1::2] = (200, 40, 40), (40, 40, 200)  # gone with subsampled chroma
    save_picture(from_array(stripes), tmp_path / f"out{extension}")
    again = open_picture(tmp_path / f"out{extension}")
    assert np.abs(again.pixels.astype(int) - stripes).max() < 30


@pytest.mark.parametrize("extension", [".jpg", ".bmp", ".ppm"])
@pytest.mark.parametrize("channels", [2, 4])
def test_a_format_without_alpha_refuses_it(extension: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / f"out{extension}"
    with pytest.raises(
        UnsupportedImage, match=rf"out\{extension}: \w+ cannot hold transparency; save it as PNG"
    ):
        save_picture(picture(channels), path)
    assert not path.exists()


@pytest.mark.parametrize("extension", WITH_METADATA)
def test_metadata_goes_along(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{extension}"
    save_picture(picture(profile=SRGB, exif=exif(), xmp=XMP), path)
    again = open_picture(path)
    assert again.profile == SRGB
    assert again.xmp == XMP
    tags = Image.Exif()
    tags.load(again.exif or b"")
    assert tags[0x010F] == "maker"
    assert tags.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"


@pytest.mark.parametrize("extension", [".tga", ".bmp", ".ppm"])
def test_formats_without_metadata_are_written_all_the_same(extension: str, tmp_path: Path) -> None:
    with pytest.warns(DroppedDataWarning, match="has no place for EXIF, XMP: left out"):
        save_picture(picture(profile=SRGB, exif=exif(), xmp=XMP), tmp_path / f"out{extension}")
    assert open_picture(tmp_path / f"out{extension}").width == 20


def test_exif_too_long_for_a_jpeg_is_dropped(tmp_path: Path) -> None:
    long = exif() + bytes(70_000)
    with pytest.warns(DroppedDataWarning, match=r"out\.jpg: \d+ bytes of EXIF are dropped"):
        save_picture(picture(exif=long), tmp_path / "out.jpg")
    assert open_picture(tmp_path / "out.jpg").exif is None
    save_picture(picture(exif=long), tmp_path / "out.png")
    assert open_picture(tmp_path / "out.png").exif == long


def test_the_longest_metadata_that_a_jpeg_holds(tmp_path: Path) -> None:
    longest = picture(
        exif=exif().ljust(65533 - 6, b"\0"), xmp=XMP.ljust(65533 - 29), profile=SRGB + bytes(200_000)
    )
    save_picture(longest, tmp_path / "out.jpg")
    again = open_picture(tmp_path / "out.jpg")
    assert (again.exif, again.xmp, again.profile) == (longest.exif, longest.xmp, longest.profile)


@pytest.mark.parametrize("extension", WITH_METADATA)
def test_damaged_exif_stops_nothing(extension: str, tmp_path: Path) -> None:
    damaged = picture(exif=b"II*\0\xff\xff\xff\xff")
    if extension in (".tif", ".avif"):
        with pytest.warns(DroppedDataWarning, match="too damaged"):
            save_picture(damaged, tmp_path / f"out{extension}")
        assert open_picture(tmp_path / f"out{extension}").width == 20
    else:
        save_picture(damaged, tmp_path / f"out{extension}")


def test_a_tiff_is_not_led_astray_by_sizes_in_the_exif(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0100], tags[0x0101], tags[0x0103], tags[0x010F] = 999, 888, 5, "maker"  # as some cameras write
    save_picture(picture(exif=tags.tobytes()[6:]), tmp_path / "out.tif")
    assert np.array_equal(open_picture(tmp_path / "out.tif").pixels, picture().pixels)


@pytest.mark.parametrize("format", ["png", "PNG", ".png"])
def test_the_format_can_be_named(format: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    save_picture(picture(), stream, format)
    assert stream.getvalue().startswith(b"\x89PNG")
    save_picture(picture(), tmp_path / "no extension", format)
    save_picture(picture(), tmp_path / "named.jpg", format=format)  # goes before the extension
    assert (
        (tmp_path / "named.jpg").read_bytes() == (tmp_path / "no extension").read_bytes() == stream.getvalue()
    )


@pytest.mark.parametrize("name", ["out", "out.lci", "out.gif", "out.txt", "out."])
def test_unknown_formats(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"no picture format is known as .*\.png"):
        save_picture(picture(), tmp_path / name)
    with pytest.raises(InvalidArgument, match="needs its format"):
        save_picture(picture(), io.BytesIO())
    with pytest.raises(InvalidArgument, match="not a int"):
        save_picture(picture(), 5, "png")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("extension", "limit"), [(".jpg", 65500), (".webp", 16383), (".tga", 65535)])
def test_pictures_too_large_for_a_format(extension: str, limit: int, tmp_path: Path) -> None:
    long = np.zeros((1, limit + 1), np.uint8)
    with pytest.raises(UnsupportedImage, match=f"at most {limit} pixels a side, the picture has {limit + 1}"):
        save_picture(from_array(long), tmp_path / f"out{extension}")
    save_picture(from_array(long[:, 1:]), tmp_path / f"out{extension}")
    assert open_picture(tmp_path / f"out{extension}").width == limit


def test_what_pillow_cannot_write_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(Image.SAVE, "PNG")
    with pytest.raises(UnsupportedImage, match=r"out\.png: Pillow cannot write 20x12 RGB as PNG"):
        save_picture(picture(), tmp_path / "out.png")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"the old one")
    with pytest.raises(UnsupportedImage):
        save_picture(picture(4), path, "JPEG")
    assert path.read_bytes() == b"the old one"
    save_picture(picture(), path)
    assert [each.name for each in tmp_path.iterdir()] == ["out.png"]
    with pytest.raises(OSError, match="missing"):
        save_picture(picture(), tmp_path / "missing" / "out.png")


def test_a_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_picture(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError):
        open_picture(tmp_path)
    with pytest.raises(InvalidArgument, match="this is a int"):
        open_picture(5)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"dear diary", bytes(1000), b"\x8bLCI\r\n\x1a\n\x01"])
def test_what_is_no_picture_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"notes\.png is no picture"):
        open_picture(path)
    with pytest.raises(UnreadableImage, match="the stream is no picture"):
        open_picture(io.BytesIO(content))


def test_truncated_files_are_named(tmp_path: Path) -> None:
    for extension in (".png", ".jpg", ".webp"):
        path = tmp_path / f"cut{extension}"
        save_picture(picture(), path)
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(UnreadableImage, match=rf"cut\{extension} cannot be read"):
            open_picture(path)


def test_a_picture_whose_header_is_damaged(tmp_path: Path) -> None:
    save_picture(picture(), tmp_path / "out.png")
    content = bytearray((tmp_path / "out.png").read_bytes())
    content[20] ^= 1  # in IHDR, whose CRC tells
    with pytest.raises(UnreadableImage):
        open_picture(io.BytesIO(content))


def test_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_picture(picture(), tmp_path / "out.png")
    assert open_picture(tmp_path / "out.png", max_pixels=240).width == 20
    with pytest.raises(LimitExceeded, match=r"out\.png is 20x12 = 240 pixels, the limit is 239"):
        open_picture(tmp_path / "out.png", max_pixels=239)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(LimitExceeded, match=r"out\.png.*MAX_IMAGE_PIXELS"):
        open_picture(tmp_path / "out.png")


def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    save_picture(picture(), stream, "PNG")
    reading, writing = os.pipe()

    def feed() -> None:
        with open(writing, "wb") as file:
            file.write(stream.getvalue())

    thread = threading.Thread(target=feed)
    thread.start()
    with open(reading, "rb") as file:
        assert np.array_equal(open_picture(file, name="standard input").pixels, picture().pixels)
    thread.join()


def test_the_samples_are_readable() -> None:
    folder = Path(__file__).resolve().parents[2] / "samples"
    sizes = {path.name: open_picture(path) for path in sorted(folder.glob("*.png"))}
    assert {name: (each.width, each.height, each.channels) for name, each in sizes.items()} == {
        "astronaut.png": (512, 512, 3),
        "badge.png": (256, 192, 4),
        "chelsea.png": (451, 300, 3),
        "coffee.png": (600, 400, 3),
    }
