"""Small pictures that would cost much, in every format that carries EXIF; and formats that are not opened."""

from __future__ import annotations

import io
import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentcodec.errors import LimitExceeded, UnreadableImage
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.guard import PICTURE_FORMATS, open_formats
from latentcodec.picture.picture import (
    PICTURE_EXTENSIONS,
    DroppedDataWarning,
    Picture,
    from_pillow,
    to_pillow,
)
from tests.bounded import run_bounded
from tests.picture.tiff_bytes import ONE_PIXEL, claiming, many_pages, place, tiff, with_exif_segments

EXIF_IFD, XRESOLUTION, UNDEFINED, RATIONAL = 0x8769, 0x011A, 7, 5
# 2,000 tags that each name the same 200 kB: 400 MB, without the guard. And half a million fractions.
OVERLAPPING = claiming(range(0x9000, 0x9000 + 2000), UNDEFINED, 200_000)
FRACTIONS = claiming([XRESOLUTION], RATIONAL, 4 << 20)
BOMBS = {"overlapping": OVERLAPPING, "fractions": FRACTIONS}
MEMORY, SECONDS = 192 << 20, 3


def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 255, (16, 24, 3), dtype=np.uint8)


def saved(format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels()).save(stream, format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def harmless(size: int) -> bytes:
    """EXIF of so many bytes, to be replaced by hostile ones where a writer takes only what it understands."""
    return tiff([(0x010F, 2, 4, 0x61626300)]).ljust(size, b"\0")


def avif(exif: bytes) -> bytes:
    data = saved("AVIF", exif=harmless(len(exif)), quality=95)
    assert data.count(harmless(len(exif))) == 1
    return data.replace(harmless(len(exif)), exif)


def text_png(exif: bytes) -> bytes:
    """As ImageMagick writes EXIF."""
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(exif):8}\n{exif.hex()}\n", zip=True)
    return saved("PNG", pnginfo=info)


FILES: dict[str, Callable[[bytes], bytes]] = {
    "one segment.jpg": lambda exif: with_exif_segments(saved("JPEG"), exif[:65000]),
    "segments.jpg": lambda exif: with_exif_segments(saved("JPEG"), exif),
    "exif.png": lambda exif: saved("PNG", exif=b"Exif\0\0" + exif),
    "exif.webp": lambda exif: saved("WEBP", exif=b"Exif\0\0" + exif),
    "exif.avif": avif,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("bomb", BOMBS)
def test_exif_that_costs_too_much_is_dropped_while_a_picture_is_opened(
    name: str, bomb: str, tmp_path: Path
) -> None:
    """In little memory and time with every Pillow; 11.3 took 18 s and 5.4 GB for a JPEG of 260 kB."""
    if name == "one segment.jpg":  # what lies beyond is cut off: as many tags, of less
        exif = claiming(range(0x9000, 0x9000 + 3000), UNDEFINED, 28_000)
    else:
        exif = BOMBS[bomb]
    path, out = tmp_path / name, tmp_path / "out.png"
    path.write_bytes(FILES[name](exif))
    setting = (
        "import sys\nfrom latentcodec.picture.files import open_picture, save_picture\n"
        "from latentcodec.picture.picture import from_array\nimport io, numpy\n"
        "for each in ('JPEG', 'PNG', 'WEBP', 'AVIF'):\n"
        "    stream = io.BytesIO()\n"
        "    save_picture(from_array(numpy.zeros((9, 9), 'uint8')), stream, each)\n"
        "    open_picture(stream)\n"
    )
    code = "picture = open_picture(sys.argv[1])\nsave_picture(picture, sys.argv[2])\nprint(picture.exif)\n"
    assert run_bounded(setting, code, path, out, memory=MEMORY, seconds=SECONDS) == "None\n"
    with Image.open(io.BytesIO(FILES[name](harmless(30)))) as image, Image.open(out) as kept:
        assert np.array_equal(np.asarray(kept), np.asarray(image))  # the picture is whole
    with pytest.warns(DroppedDataWarning, match=rf"{name}: its EXIF is dropped: its tags claim \d+ "):
        open_picture(path)


def test_exif_in_text(tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    cut = FRACTIONS[: 1 << 18]  # so that it costs nothing: kept as it is
    path.write_bytes(text_png(cut))
    assert open_picture(path).exif == cut
    path.write_bytes(text_png(claiming(range(0x9000, 0x9000 + 2000), UNDEFINED, 100_000)))
    with pytest.warns(DroppedDataWarning, match=r"text\.png: its EXIF is dropped: .* they overlap"):
        assert open_picture(path).exif is None


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("extension", [".tif", ".avif", ".png", ".jpg", ".webp"])
def test_stored_exif_that_costs_too_much_is_dropped_while_a_picture_is_saved(
    bomb: str, extension: str, tmp_path: Path
) -> None:
    path = tmp_path / f"out{extension}"
    setting = (
        "import sys, numpy\nfrom latentcodec.picture.files import save_picture\n"
        "from latentcodec.picture.picture import Picture, to_pillow\n"
        "from tests.picture.test_guard import BOMBS\n"
        "pixels = numpy.zeros((16, 24, 3), numpy.uint8)\n"
        "for each in ('out.tif', 'out.avif', 'out.png', 'out.jpg', 'out.webp'):\n"
        "    save_picture(Picture(pixels), sys.argv[1] + each[3:])\n"
    )
    code = (
        f"picture = Picture(pixels, exif=BOMBS[{bomb!r}])\nsave_picture(picture, sys.argv[1])\n"
        "print('exif' in to_pillow(picture).info)\n"
    )
    assert run_bounded(setting, code, path, memory=MEMORY, seconds=SECONDS) == "False\n"
    assert open_picture(path).exif is None
    with pytest.warns(DroppedDataWarning, match=rf"out\{extension}: its EXIF is dropped: its tags claim"):
        save_picture(Picture(pixels(), exif=BOMBS[bomb]), path)


def test_a_tiff_whose_own_tags_cost_too_much_is_refused(tmp_path: Path) -> None:
    main, inner = tmp_path / "main.tif", tmp_path / "inner.tif"
    main.write_bytes(claiming(range(0x9000, 0x9000 + 2000), UNDEFINED, 200_000, before=ONE_PIXEL))
    start = place([*ONE_PIXEL, (EXIF_IFD, 4, 1, 0)])
    second = [(tag, UNDEFINED, 200_000, start) for tag in range(0x9000, 0x9000 + 2000)]
    inner.write_bytes(tiff([*ONE_PIXEL, (EXIF_IFD, 4, 1, start)], second, tail=bytes(200_000)))
    setting = (
        "import sys\nfrom latentcodec.errors import LimitExceeded\n"
        "from latentcodec.picture.files import open_picture\n"
    )
    code = (
        "for path in sys.argv[1:]:\n    try:\n        open_picture(path)\n"
        "    except LimitExceeded as error:\n        print(error)\n"
    )
    told = run_bounded(setting, code, main, inner, memory=MEMORY, seconds=SECONDS).splitlines()
    assert [line.split(":")[0] for line in told] == [str(main), str(inner)]
    assert all("they overlap" in line for line in told)


def test_a_tiff_of_many_directories(tmp_path: Path) -> None:
    """Pillow takes 6 s to count 10,000, and quadratic time for more."""
    path = tmp_path / "many.tif"
    path.write_bytes(many_pages(40_000))
    setting = (
        "import sys, warnings\nfrom PIL import Image\n"
        "from latentcodec.picture.files import open_picture\n"
        "from latentcodec.picture.picture import from_pillow\n"
    )
    code = (
        "for work in (open_picture, lambda path: from_pillow(Image.open(path), name='it')):\n"
        "    with warnings.catch_warnings(record=True) as told:\n"
        "        warnings.simplefilter('always', UserWarning)\n        work(sys.argv[1])\n"
        "    print(*(warning.message for warning in told))\n"
    )
    told = run_bounded(setting, code, path, memory=MEMORY, seconds=2).splitlines()
    assert [line.partition(": ")[2] for line in told] == ["only the first of its over 1000 pages is kept"] * 2
    path.write_bytes(many_pages(1000))
    with pytest.warns(DroppedDataWarning, match=r"many\.tif: only the first of its 1000 pages is kept"):
        open_picture(path)
    path.write_bytes(many_pages(1))
    assert open_picture(path).width == 1


def test_an_index_of_further_pictures_that_costs_too_much(tmp_path: Path) -> None:
    stream = io.BytesIO()
    first = Image.fromarray(pixels())
    first.save(stream, "MPO", save_all=True, append_images=[first.rotate(180)])
    data = stream.getvalue()
    with pytest.warns(DroppedDataWarning, match="secondary pictures"):
        whole = open_picture(io.BytesIO(data))
    begin = data.index(b"MPF\0") - 2
    (length,) = struct.unpack_from(">H", data, begin)
    index = b"MPF\0" + claiming(range(0xB000, 0xB000 + 2000), UNDEFINED, 40_000)
    path = tmp_path / "stereo.jpg"
    path.write_bytes(data[:begin] + struct.pack(">H", len(index) + 2) + index + data[begin + length :])
    with (
        pytest.warns(DroppedDataWarning, match=r"stereo\.jpg: its index of further pictures is dropped"),
        pytest.warns(DroppedDataWarning, match=r"stereo\.jpg: only its main picture is kept"),
    ):
        assert np.array_equal(open_picture(path).pixels, whole.pixels)


def test_both_are_told_and_the_rest_of_a_jpeg_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    path.write_bytes(with_exif_segments(saved("JPEG", xmp=xmp, comment=b"none"), OVERLAPPING))
    with pytest.warns(DroppedDataWarning, match="EXIF"):
        picture = open_picture(path)
    assert (picture.exif, picture.xmp) == (None, xmp)


@pytest.mark.parametrize("junk", [b"\x00", b"\xff\xff\xff", b"\xff\x00", b"\xff\xd0", b"ab\x00"])
def test_segments_are_found_as_pillow_finds_them(junk: bytes) -> None:
    data = with_exif_segments(saved("JPEG"), OVERLAPPING)
    place = data.index(b"\xff\xe1", 60_000)  # the second segment
    with warnings.catch_warnings(), pytest.warns(DroppedDataWarning, match="EXIF is dropped"):
        open_picture(io.BytesIO(data[:place] + junk + data[place:]))


def test_honest_exif_is_untouched(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x010F], tags[XRESOLUTION] = "maker", 300.0
    tags.get_ifd(EXIF_IFD)[0x927C] = bytes(20_000)
    exif = tags.tobytes()[6:]
    for format in ("JPEG", "PNG", "WEBP", "AVIF"):
        assert open_picture(io.BytesIO(saved(format, exif=b"Exif\0\0" + exif))).exif == exif
    assert to_pillow(Picture(pixels(), exif=exif)).info["exif"] == b"Exif\0\0" + exif


@pytest.mark.skipif(os.name != "posix", reason="a script in place of Ghostscript")
def test_postscript_named_as_a_picture_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, mark, path = tmp_path / "gs", tmp_path / "started", tmp_path / "photo.png"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UnreadableImage, match=r"photo\.png is no picture in a format that is read"):
        open_picture(path)
    assert not mark.exists()


def test_every_extension_that_pillow_knows_of_those_that_name_pictures_is_opened() -> None:
    Image.init()
    known = Image.registered_extensions()
    formats = {known[extension] for extension in PICTURE_EXTENSIONS if extension in known}
    assert formats <= {*PICTURE_FORMATS, "MPO"}  # a JPEG to those who open it
    assert {".mpo", ".hif", ".icns", ".sgi"} <= PICTURE_EXTENSIONS
    assert {"PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"} <= set(open_formats())
    assert "EPS" not in open_formats()


@pytest.mark.parametrize(
    "format",
    [
        *("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "JPEG2000", "GIF", "BMP", "DIB", "ICO", "ICNS"),
        *("PPM", "TGA", "PCX", "SGI", "QOI"),
    ],
)
def test_formats_are_opened_whatever_their_name(format: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.dat"
    if format not in Image.SAVE:
        Image.init()
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow does not write {format}")
    Image.fromarray(pixels()).resize((32, 32)).save(path, format)
    assert open_picture(path).width >= 16  # icons hold several sizes


def test_a_tiff_that_a_user_opened_is_bounded_as_well() -> None:
    stream = io.BytesIO(tiff([*ONE_PIXEL, (0x9000, 4, 70_000, 8)], tail=bytes(600_000)))
    with pytest.raises(LimitExceeded, match="70007 numbers"):
        open_picture(stream)
    image = Image.open(stream)
    with pytest.raises(LimitExceeded, match="it: its tags claim 70007 numbers"):
        from_pillow(image, name="it")
