"""Which picture of a file is taken, and what of a file that is closed or lacks its end."""

from __future__ import annotations

import builtins
import io
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from latentcodec.errors import InvalidArgument, LimitExceeded, MissingDependency, UnreadableImage
from latentcodec.picture.files import open_picture
from latentcodec.picture.picture import DroppedDataWarning, from_array, from_pillow
from tests.conftest import photograph
from tests.picture.tiff_bytes import ONE_PIXEL, directory

NEW_SUBFILE, SUBFILE = 0x00FE, 0x00FF
REDUCED = {
    "NewSubfileType": (NEW_SUBFILE, 4, 1, 1),
    "mask": (NEW_SUBFILE, 4, 1, 4),
    "old": (SUBFILE, 3, 1, 2),
}


def photo(width: int = 72, height: int = 40) -> Image.Image:
    return Image.fromarray(photograph(width=width, height=height))


def written(image: Image.Image, format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def tiff_of(*kinds: str) -> io.BytesIO:
    """Pages of one pixel, gray 0, 1, 2 ...; each a "page" or of a kind of REDUCED."""
    data, link = bytearray(b"II*\0" + bytes(4)), 4
    for gray, kind in enumerate(kinds):
        struct.pack_into("<I", data, link, len(data) + 1)
        pixel = len(data)
        data.append(gray)
        place = {0x0111: pixel}  # StripOffsets
        entries = [(tag, *rest, place.get(tag, value)) for tag, *rest, value in ONE_PIXEL]
        data += directory(sorted([REDUCED[kind], *entries] if kind in REDUCED else entries), 0)
        link = len(data) - 4
    return io.BytesIO(data)


@pytest.mark.parametrize("kind", REDUCED)
def test_reduced_pages_of_a_tiff_are_no_pages(kind: str) -> None:
    assert open_picture(tiff_of("page", kind)).pixels.flat[0] == 0
    assert open_picture(tiff_of(kind, kind, "page", kind)).pixels.flat[0] == 2
    assert open_picture(tiff_of(kind)).pixels.flat[0] == 0  # nothing else is there
    with pytest.warns(DroppedDataWarning, match=r"^it: only the first of its 2 pages is kept$"):
        assert open_picture(tiff_of("page", kind, "page"), name="it").pixels.flat[0] == 0


def test_a_page_that_was_sought_is_taken() -> None:
    image = Image.open(tiff_of("page", "page", "page"))
    image.seek(2)
    assert from_pillow(image).pixels.flat[0] == 2


def test_the_size_that_counts_is_that_of_the_page_that_is_taken() -> None:
    small, large = Image.new("L", (8, 8)), Image.new("L", (90, 60), 7)
    data = bytearray(written(small, "TIFF", save_all=True, append_images=[large], tiffinfo={NEW_SUBFILE: 1}))
    entry = struct.pack("<HHI", NEW_SUBFILE, 4, 1)
    assert open_picture(io.BytesIO(data)).width == 8  # both are said to be reduced
    struct.pack_into("<I", data, data.rindex(entry) + len(entry), 0)
    assert open_picture(io.BytesIO(data)).width == 90
    with pytest.raises(LimitExceeded, match="90x60 = 5400 pixels, the limit is 5000"):
        open_picture(io.BytesIO(data), max_pixels=5000)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
@pytest.mark.parametrize("loaded", [True, False])
def test_a_closed_image_is_said_to_be_closed(format: str, loaded: bool, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(written(photo(), format))
    image = Image.open(path)
    if loaded:
        image.load()
    image.close()
    with pytest.raises(InvalidArgument, match="photo is closed: encode it before that"):
        from_pillow(image)


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"restart_marker_blocks": 1}]
)
@pytest.mark.filterwarnings("ignore::latentcodec.picture.notices.DroppedDataWarning")
def test_a_jpeg_without_its_end_mark_is_taken_and_one_without_more_is_not(options: dict[str, Any]) -> None:
    data = written(photo(72, 40), "JPEG", **options)
    whole = open_picture(io.BytesIO(data)).pixels
    for missing in range(1, len(data) - 2):
        cut = io.BytesIO(data[:-missing])
        if missing <= 2:
            assert np.array_equal(open_picture(cut, name="it").pixels, whole)
        else:
            with pytest.raises(UnreadableImage):
                open_picture(cut, name="it")


@pytest.mark.filterwarnings("ignore::latentcodec.picture.notices.DroppedDataWarning")
def test_many_scans_cost_little() -> None:
    """A file of scans' headers, each of the most components and coefficients that it can name."""
    start = written(photo(), "JPEG")[:-2]
    scan = b"\xff\xda" + struct.pack(">HB", 516, 255) + bytes(range(255)) * 2 + b"\x00\xff\x00"
    begun = time.process_time()
    with pytest.raises(UnreadableImage):
        open_picture(io.BytesIO(start[: len(start) // 2] + scan * 4000))
    assert time.process_time() - begun < 5


def test_the_missing_end_mark_is_told() -> None:
    data = written(photo(), "JPEG")[:-2]
    with pytest.warns(DroppedDataWarning, match="^it: the mark of a JPEG's end is missing from it"):
        open_picture(io.BytesIO(data), name="it")
    with pytest.warns(DroppedDataWarning, match="the mark of a JPEG's end"):
        from_pillow(Image.open(io.BytesIO(data)))


def test_pixels_turned_by_hand_are_not_turned_twice(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        path = tmp_path / f"turned.{format}"
        photo().save(
            path, format, exif=tags, **({"quality": 100, "subsampling": 0} if format == "JPEG" else {})
        )
        upright = from_pillow(Image.open(path))
        assert (upright.width, upright.height) == (40, 72)
        assert open_picture(path, turn=1).width == 72  # as the pixels lie in the file
        assert np.array_equal(open_picture(path, turn=6).pixels, upright.pixels)
        with Image.open(path) as image:
            by_hand = image.rotate(-90, expand=True)  # whose EXIF says that it is still to be turned
        if format != "TIFF":  # which Pillow has turned by itself
            assert from_pillow(by_hand).width == 72
            assert np.array_equal(from_pillow(by_hand, turn=1).pixels, upright.pixels)
    loaded = Image.open(tmp_path / "turned.TIFF")
    loaded.load()
    assert (from_pillow(loaded).width, from_pillow(loaded, turn=8).width) == (40, 72)


@pytest.mark.parametrize("turn", range(1, 9))
def test_arrays_are_turned_as_images_are(turn: int) -> None:
    image = photo()
    image.getexif()[0x0112] = turn
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(from_array(np.asarray(image), turn).pixels, expected)


def test_heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "phone.jpg"  # its content counts
    heif.from_pillow(photo()).save(path, quality=95, format="HEIF")
    picture = open_picture(path)
    assert np.abs(picture.pixels.astype(int) - np.asarray(photo())).mean() < 6
    assert "HEIF" not in Image.OPEN  # the program's own Pillow is left alone
    tags = Image.Exif()
    tags[0x0112] = 6
    heif.from_pillow(photo()).save(path, exif=tags.tobytes(), format="HEIF")
    assert (open_picture(path).width, open_picture(path).height) == (40, 72)  # turned once
    two = heif.from_pillow(photo())
    two.add_from_pillow(photo(40, 40))
    two.save(path, format="HEIF")
    with pytest.warns(DroppedDataWarning, match="only its main picture is kept, not its further pictures"):
        assert open_picture(path).width == 72
    deep = heif.from_bytes("RGB;16", (64, 64), bytes(64 * 64 * 6))
    deep.save(path, bit_depth=10, format="HEIF")
    assert open_picture(path).bit_depth == 10  # without a word: nothing is lost
    two.save(path, format="HEIF")
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(UnreadableImage):
        open_picture(path)
    imported = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "pillow_heif":
            raise ModuleNotFoundError("No module named 'pillow_heif'")
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        MissingDependency, match=r"phone\.jpg: a HEIC picture, .*pip install 'latentcodec\[heif\]'"
    ):
        open_picture(path)
