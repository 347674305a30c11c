"""docs/fidelity.md, cell by cell: what becomes of each kind of data of each format, on the way in and out."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from latentcodec.errors import NotKept, UnsupportedImage
from latentcodec.picture.colour.icc import REC709, SRGB_CURVE, make_profile
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.notices import DroppedDataWarning, ReducedDepthWarning, strictly
from latentcodec.picture.picture import Picture, from_pillow, with_depth
from tests.picture.beside_files import (
    CICP,
    DPI,
    EXIF,
    FILES,
    GRAY_PROFILE,
    IPTC,
    LONG,
    PACKET,
    PIXELS,
    PROFILE,
    saved,
    written,
)

PAGE = (Path(__file__).parents[2] / "docs" / "fidelity.md").read_text(encoding="utf-8")


def table(section: str, head: str = "| kind of data", number: int = 0) -> dict[tuple[str, str], str]:
    """The cells of a section's table with this head, by row and column."""
    rows = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0].split("\n\n")
    lines = [part for part in rows if part.startswith(head)][number].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        (row[0], column): cell
        for row in cells[2:]
        for column, cell in zip(cells[0][1:], row[1:], strict=True)
    }


IN, OUT = table("On the way in"), table("On the way out")
DEPTH_IN, DEPTH_OUT = (table("Depth", "| samples", number) for number in (0, 1))


LINES = {
    "broken ICC profile": "its ICC profile is broken",
    "ICC profile of another space": "its ICC profile is for gray, the picture is RGB",
    "Photoshop's other resources": r"1 of Photoshop's resources \(4 bytes\)",
    "pixels that are not square": r"pixels are not square \(4:3\)",
    "gain map": "its gain map .*is left out",
    "other pictures": "secondary pictures|auxiliary pictures",
    "further pages": "only the first of its 2 pages is kept",
    "further frames": "only the first of its 2 frames is kept",
    "no mark at the end, all else there": "the mark of a JPEG's end is missing",
    "video behind the picture": r"the video behind the picture \(\d+ bytes\) is left out",
    "other bytes behind the picture": "13 bytes behind the end of the picture are left out",
    "unknown chunk, segment, tag, box": "tIME|APP12 Ducky|NOTE|sefd|33550|'xml' box",
}
EXPECTED: dict[str, Callable[[Picture], object]] = {
    "ICC profile": lambda each: each.profile == PROFILE,
    "gray ICC profile": lambda each: each.profile == GRAY_PROFILE,
    "code points": lambda each: each.cicp == CICP,
    "code points (cICP, nclx)": lambda each: each.cicp == CICP,
    "EXIF": lambda each: each.exif and b"maker" in each.exif,
    "XMP": lambda each: each.xmp == PACKET,
    "XMP of 1.4 MB": lambda each: each.xmp and b"ancestor " * 155_000 in each.xmp,
    "text": lambda each: each.text == (("parameters", "a cat"),),
    "comment": lambda each: each.text == (("Comment", "a cat"),),
    "IPTC": lambda each: each.iptc == IPTC,
    "resolution": lambda each: each.dpi == pytest.approx(DPI, rel=1e-3),
}


def test_every_cell_has_a_file() -> None:
    assert {(row, column) for row in FILES for column in FILES[row]} == {
        place for place, cell in IN.items() if cell != "-"
    }


@pytest.mark.parametrize(("row", "column"), [place for place, cell in IN.items() if cell != "-"])
def test_in(row: str, column: str) -> None:
    data, cell = FILES[row][column](), IN[row, column]
    if cell == "error":
        with pytest.raises(UnsupportedImage, match="the file holds 2 frames"):
            open_picture(io.BytesIO(data), name="the file")
        with pytest.warns(DroppedDataWarning, match=f"^the file: {LINES[row]}$"):
            assert open_picture(io.BytesIO(data), name="the file", first_frame=True).left_out
        with strictly(), pytest.raises(NotKept, match=LINES[row]):
            open_picture(io.BytesIO(data), name="the file", first_frame=True)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        picture = open_picture(io.BytesIO(data), name="the file")
    messages = [str(each.message) for each in caught if issubclass(each.category, DroppedDataWarning)]
    assert picture.left_out == tuple(message.removeprefix("the file: ") for message in messages)
    if cell == "line":
        assert len(messages) == 1
        with pytest.warns(DroppedDataWarning, match=f"^the file: .*({LINES[row]})"):
            open_picture(io.BytesIO(data), name="the file")
        with strictly(), pytest.raises(NotKept, match=LINES[row]):
            open_picture(io.BytesIO(data), name="the file")
        return
    assert messages == []
    if cell == "profile":
        assert picture.profile is not None
        assert picture.profile[36:40] == b"acsp"
    elif cell == "nothing":
        assert (picture.profile, picture.cicp) == (None, None)
    else:
        assert cell == "kept"
        assert EXPECTED[row](picture)


def test_what_pillow_opened_is_read_alike() -> None:
    """Through the image that a user opened, before it is loaded."""
    for row, files in FILES.items():
        for column, make in files.items():
            if row == "XMP of 1.4 MB" and column == "PNG":
                continue  # Pillow does not open it
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DroppedDataWarning)
                image = Image.open(io.BytesIO(make()))
                theirs = from_pillow(image, name="the file", first_frame=True)
                ours = open_picture(io.BytesIO(make()), name="the file", first_frame=True)
            for field in ("profile", "cicp", "exif", "xmp", "text", "iptc", "dpi", "left_out"):
                assert getattr(theirs, field) == getattr(ours, field), (row, column, field)


PICTURES: dict[str, Picture] = {
    "ICC profile": Picture(PIXELS, profile=PROFILE),
    "gray ICC profile": Picture(PIXELS[..., :1].repeat(3, 2), gray=True, profile=GRAY_PROFILE),
    "code points": Picture(PIXELS, cicp=CICP),
    "EXIF": Picture(PIXELS, exif=EXIF),
    "XMP": Picture(PIXELS, xmp=PACKET),
    "XMP of 1.4 MB": Picture(PIXELS, xmp=LONG),
    "text": Picture(PIXELS, text=(("parameters", "a cat"),)),
    "comment": Picture(PIXELS, text=(("Comment", "a cat"),)),
    "IPTC": Picture(PIXELS, iptc=IPTC),
    "resolution": Picture(PIXELS, dpi=DPI),
}


@pytest.mark.parametrize(("row", "column"), list(OUT))
def test_out(row: str, column: str, tmp_path: Path) -> None:
    picture, cell = PICTURES[row], OUT[row, column]
    path = tmp_path / f"out.{'jp2' if column == 'JP2' else column.lower()}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        save_picture(picture, path)
        again = open_picture(path)
    messages = [str(each.message) for each in caught]
    if cell in ("line", "sRGB"):
        assert len(messages) == 1
        assert messages[0].startswith(f"{path}: ")
        with strictly(), pytest.raises(NotKept):
            save_picture(picture, path)
        if cell == "sRGB":
            assert "converted from" in messages[0]
            assert np.array_equal(again.pixels, in_srgb(picture))
        assert (again.profile, again.cicp, again.xmp, again.text, again.iptc, again.dpi) == (
            *(None, None, None, (), None, None),
        )
        return
    assert messages == []
    if cell == "profile":
        assert again.profile is not None
        assert b"cicp" + bytes(4) + bytes(CICP) in again.profile
    else:
        assert cell == "kept"
        assert EXPECTED[row](again)
    if column not in ("JPEG", "AVIF"):
        assert np.array_equal(again.pixels, picture.pixels)


def in_srgb(picture: Picture) -> np.ndarray:
    """By littleCMS, from the profile that a JPEG would get."""
    gray, flags = picture.gray, ImageCms.Flags.BLACKPOINTCOMPENSATION
    profile = open_picture(io.BytesIO(written(picture, "JPEG"))).profile
    image = Image.fromarray(picture.pixels[..., 0] if gray else picture.pixels)
    target = make_profile("sRGB", SRGB_CURVE, None if gray else REC709)
    profiles = [ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (profile or b"", target)]
    relative = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags |= ImageCms.Flags.NOOPTIMIZE if gray else 0
    samples = np.asarray(ImageCms.profileToProfile(image, *profiles, relative, image.mode, flags=flags))
    return samples[..., None].repeat(3, 2) if gray else samples


# ---- depth

DEEP = np.random.default_rng(6).integers(0, 65536, (12, 20, 4), dtype=np.uint16)
GRAY_PLANES = np.repeat(DEEP[..., :1], 3, 2)
SAMPLES = {
    "gray of 16 bits": Picture(GRAY_PLANES, gray=True, bit_depth=16),
    "colours of 16 bits": Picture(DEEP[..., :3].copy(), bit_depth=16),
    "colours and alpha of 16 bits": Picture(DEEP[..., :3].copy(), DEEP[..., 3].copy(), bit_depth=16),
    "colours of 10 bits": Picture(DEEP[..., :3] >> 6, bit_depth=10),
}
CELLS_IN = [place for place, cell in DEPTH_IN.items() if cell != "-"]


def deep_file(row: str, column: str) -> bytes:
    if row == "gray floats":
        return saved("TIFF", Image.fromarray(np.linspace(0, 1, 240, dtype=np.float32).reshape(12, 20)))
    return written(SAMPLES[row], column)


@pytest.mark.parametrize(("row", "column"), CELLS_IN)
def test_depth_in(row: str, column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = DEPTH_IN[row, column]
    if cell == "extra" or column == "JP2":
        pytest.importorskip("imagecodecs")
    data = deep_file(row, column)
    if cell == "line":
        with pytest.warns(ReducedDepthWarning, match="rounded to 16 bits"):
            assert open_picture(io.BytesIO(data)).bit_depth == 16
        return
    picture = open_picture(io.BytesIO(data))
    assert picture.bit_depth == SAMPLES[row].bit_depth
    if column != "AVIF":
        assert np.array_equal(picture.pixels, SAMPLES[row].pixels)
        assert (picture.alpha is None) == (SAMPLES[row].alpha is None)
        assert picture.alpha is None or np.array_equal(picture.alpha, DEEP[..., 3])
    if cell == "extra":
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        with pytest.warns(ReducedDepthWarning, match=r"latentcodec\[deep\]"):
            assert open_picture(io.BytesIO(data)).bit_depth == 8


@pytest.mark.parametrize(("row", "column"), list(DEPTH_OUT))
def test_depth_out(row: str, column: str, monkeypatch: pytest.MonkeyPatch) -> None:
    picture, cell = SAMPLES[row], DEPTH_OUT[row, column]
    if cell == "error":
        with pytest.raises(UnsupportedImage, match="transparency"):
            written(picture, column)
        return
    if cell in ("extra", "12 bits"):
        pytest.importorskip("imagecodecs")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = written(picture, column)
    assert [each.category for each in caught] == [ReducedDepthWarning] * (cell in ("line", "12 bits"))
    again = open_picture(io.BytesIO(data))
    if cell == "line":
        assert again.bit_depth == 8
    elif column == "AVIF":
        assert again.bit_depth == (12 if cell == "12 bits" else 10)
    else:
        assert np.array_equal(with_depth(again, picture.bit_depth).pixels, picture.pixels)
        assert (again.alpha is None) == (picture.alpha is None)
        assert again.alpha is None or np.array_equal(again.alpha, DEEP[..., 3])
    if cell in ("extra", "12 bits"):
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
        with pytest.warns(ReducedDepthWarning, match=r"latentcodec\[deep\]"):
            written(picture, column)


def test_a_resolution_of_two_numbers_is_named_whole() -> None:
    with pytest.warns(
        DroppedDataWarning, match=r"WEBP has no place for a resolution \(300 x 150 dpi\): left out"
    ):
        written(PICTURES["resolution"], "WebP")
