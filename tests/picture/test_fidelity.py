"""docs/fidelity.md, cell by cell: what becomes of each kind of data of each format, on the way in and out."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from latentcodec.errors import NotKept
from latentcodec.picture.beside import Resolution
from latentcodec.picture.colour.icc import REC709, SRGB_CURVE, make_profile
from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.files import open_picture, save_picture
from latentcodec.picture.formats.boxes import with_jp2_boxes, with_nclx
from latentcodec.picture.formats.photoshop import as_resources
from latentcodec.picture.notices import DroppedDataWarning, strictly
from latentcodec.picture.picture import Picture
from tests.picture.tiff_bytes import tiff

PAGE = (Path(__file__).parents[2] / "docs" / "fidelity.md").read_text(encoding="utf-8")
PILLOW = {"WebP": "WEBP", "JP2": "JPEG2000"}
PIXELS = np.random.default_rng(4).integers(0, 256, (12, 20, 3), dtype=np.uint8)

PROFILE = make_profile("a profile", 1.8, REC709)
GRAY_PROFILE = make_profile("a gray profile", 1.8, None)
BROKEN = PROFILE.replace(b"rTRC", b"oTRC")
CICP = Cicp(9, 16)
EXIF = tiff([(0x010F, 2, 6, 26)], tail=b"maker\0")
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about=""%s/></rdf:RDF></x:xmpmeta>'
)
PACKET = XMP % b""
LONG = XMP % (b' dc:long="' + b"ancestor " * 155_000 + b'"')
IPTC = b"\x1c\x02\x78\x00\x09a caption\x1c\x02\x50\x00\x06nobody"
OTHER_RESOURCE = b"8BIM\x0b\xb7\0\0\0\0\0\x04path"
DPI: Resolution = (300.0, 150.0)


def table(section: str) -> dict[tuple[str, str], str]:
    """The cells of a section's second table, by row and column."""
    rows = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0].split("\n\n")
    lines = next(part for part in rows if part.startswith("| kind of data")).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {
        (row[0], column): cell
        for row in cells[2:]
        for column, cell in zip(cells[0][1:], row[1:], strict=True)
    }


IN, OUT = table("On the way in"), table("On the way out")


def saved(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(PIXELS) if image is None else image
    image.save(stream, PILLOW.get(format, format), **options)  # type: ignore[arg-type]
    return stream.getvalue()


# ---- files that hold one kind of data each


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """With chunks behind the header."""
    whole = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))
        for kind, data in chunks
    )
    plain = saved("PNG")
    return plain[:33] + whole + plain[33:]


def jpeg(*segments: tuple[int, bytes], behind: bytes = b"") -> bytes:
    """With segments behind the start."""
    whole = b"".join(bytes([0xFF, m]) + struct.pack(">H", len(data) + 2) + data for m, data in segments)
    plain = saved("JPEG", quality=95)
    return plain[:2] + whole + plain[2:] + behind


def webp(*chunks: tuple[bytes, bytes]) -> bytes:
    """With chunks at the end."""
    plain = saved("WebP", lossless=True)
    body = plain[8:] + b"".join(
        kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def avif_with(urn: bytes) -> bytes:
    """An auxiliary picture that is no alpha."""
    rgba = Image.fromarray(np.dstack([PIXELS, PIXELS[..., :1]]))
    alpha = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
    return saved("AVIF", rgba).replace(alpha, urn.ljust(len(alpha), b"\0"))


def jp2(**fields: object) -> bytes:
    values = dict.fromkeys(("profile", "exif", "xmp", "iptc", "dpi")) | fields
    return with_jp2_boxes(saved("JP2"), *values.values())  # type: ignore[arg-type]


def with_profile(profile: bytes) -> dict[str, Callable[[], bytes]]:
    def by_pillow(format: str) -> Callable[[], bytes]:
        return lambda: saved(format, icc_profile=profile)

    files = {format: by_pillow(format) for format in ("PNG", "JPEG", "WebP", "AVIF", "TIFF")}
    return files | {"JP2": lambda: jp2(profile=profile)}


def with_exif(exif: bytes) -> dict[str, Callable[[], bytes]]:
    def by_pillow(format: str) -> Callable[[], bytes]:
        return lambda: saved(format, exif=b"Exif\0\0" + exif)

    files = {format: by_pillow(format) for format in ("PNG", "JPEG", "WebP", "AVIF", "TIFF")}
    return files | {"JP2": lambda: jp2(exif=exif)}


def with_xmp(xmp: bytes) -> dict[str, Callable[[], bytes]]:
    def text() -> bytes:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp, zip=True)
        return saved("PNG", pnginfo=info)

    return {
        "PNG": text,
        "JPEG": lambda: written(Picture(PIXELS, xmp=xmp), "JPEG"),
        "WebP": lambda: saved("WebP", xmp=xmp),
        "AVIF": lambda: saved("AVIF", xmp=xmp),
        "TIFF": lambda: saved("TIFF", tiffinfo={700: xmp}),
        "JP2": lambda: jp2(xmp=xmp),
    }


def adobe_rgb() -> bytes:
    """EXIF with a ColorSpace of its own and InteroperabilityIndex R03."""
    at = 8 + 2 + 12 + 4
    inner = at + 2 + 24 + 4
    return tiff(
        [(0x8769, 4, 1, at)],
        [(0xA001, 3, 1, 0xFFFF), (0xA005, 4, 1, inner)],
        [(1, 2, 4, int.from_bytes(b"R03\0", "little"))],
    )


def written(picture: Picture, format: str) -> bytes:
    stream = io.BytesIO()
    save_picture(picture, stream, PILLOW.get(format, format))
    return stream.getvalue()


def raw_profile(kind: str, data: bytes) -> tuple[bytes, bytes]:
    return b"tEXt", f"Raw profile type {kind}\0\n{kind}\n{len(data):8}\n{data.hex()}\n".encode()


def photoshop(data: bytes) -> tuple[int, bytes]:
    return 0xED, b"Photoshop 3.0\0" + data


def gain_map() -> bytes:
    head = b"http://ns.adobe.com/xap/1.0/\0" + XMP % (
        b' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
    )
    return jpeg((0xE1, head), behind=saved("JPEG"))


def mpo() -> bytes:
    first = Image.fromarray(PIXELS)
    return saved("MPO", first, save_all=True, append_images=[first.rotate(180)])


FILES: dict[str, dict[str, Callable[[], bytes]]] = {
    "ICC profile": with_profile(PROFILE),
    "broken ICC profile": with_profile(BROKEN),
    "ICC profile of another space": with_profile(GRAY_PROFILE),
    "gAMA, cHRM": {"PNG": lambda: png((b"gAMA", struct.pack(">I", 55556)))},
    "sRGB": {
        "PNG": lambda: png((b"sRGB", b"\0")),
        "AVIF": lambda: saved("AVIF"),
        "JP2": lambda: saved("JP2"),
    },
    "code points (cICP, nclx)": {
        "PNG": lambda: png((b"cICP", bytes(CICP))),
        "AVIF": lambda: with_nclx(saved("AVIF"), CICP),
    },
    "Adobe RGB by EXIF": {k: v for k, v in with_exif(adobe_rgb()).items() if k not in ("TIFF", "AVIF")},
    "EXIF": with_exif(EXIF),
    "XMP": with_xmp(PACKET),
    "XMP of 1.4 MB": with_xmp(LONG),
    "text": {"PNG": lambda: png((b"tEXt", b"parameters\0a cat"))},
    "comment": {
        "PNG": lambda: png((b"tEXt", b"Comment\0a cat")),
        "JPEG": lambda: jpeg((0xFE, b"a cat")),
        "GIF": lambda: saved("GIF", comment=b"a cat"),
    },
    "IPTC": {
        "PNG": lambda: png(raw_profile("iptc", IPTC)),
        "JPEG": lambda: jpeg(photoshop(as_resources(IPTC))),
        "TIFF": lambda: saved("TIFF", tiffinfo={33723: IPTC}),
        "JP2": lambda: jp2(iptc=IPTC),
    },
    "Photoshop's other resources": {
        "PNG": lambda: png(raw_profile("8bim", OTHER_RESOURCE)),
        "JPEG": lambda: jpeg(photoshop(OTHER_RESOURCE)),
        "TIFF": lambda: saved("TIFF", tiffinfo={34377: OTHER_RESOURCE}),
    },
    "resolution": {
        "PNG": lambda: saved("PNG", dpi=DPI),
        "JPEG": lambda: saved("JPEG", dpi=DPI),
        "TIFF": lambda: saved("TIFF", dpi=DPI),
        "JP2": lambda: jp2(dpi=DPI),
        "BMP": lambda: saved("BMP", dpi=DPI),
    },
    "pixels that are not square": {
        "PNG": lambda: png((b"pHYs", struct.pack(">IIB", 4, 3, 0))),
        "JPEG": lambda: saved("JPEG").replace(b"\0\0\1\0\1", b"\0\0\4\0\3", 1),
    },
    "gain map": {"JPEG": gain_map, "AVIF": lambda: avif_with(b"urn:com:apple:photo:2020:aux:hdrgainmap")},
    "other pictures": {"JPEG": mpo, "AVIF": lambda: avif_with(b"urn:mpeg:hevc:2015:auxid:2")},
    "video behind the picture": {"JPEG": lambda: jpeg(behind=struct.pack(">I", 16) + b"ftypmp42" + bytes(9))},
    "unknown chunk, segment, tag, box": {
        "PNG": lambda: png((b"tIME", bytes(7))),
        "JPEG": lambda: jpeg((0xEC, b"Ducky\0\1")),
        "WebP": lambda: webp((b"NOTE", b"odd")),
        "TIFF": lambda: saved("TIFF", tiffinfo={33550: (1.0, 1.0, 0.0)}),
        "JP2": lambda: saved("JP2") + struct.pack(">I", 12) + b"xml <x/>",
    },
}
LINES = {
    "broken ICC profile": "its ICC profile is broken",
    "ICC profile of another space": "its ICC profile is for gray, the picture is RGB",
    "Photoshop's other resources": r"1 of Photoshop's resources \(4 bytes\)",
    "pixels that are not square": r"pixels are not square \(4:3\)",
    "gain map": "its gain map .*is left out",
    "other pictures": "secondary pictures|auxiliary pictures",
    "video behind the picture": r"the video behind the picture \(\d+ bytes\) is left out",
    "unknown chunk, segment, tag, box": "tIME|APP12 Ducky|NOTE|33550|'xml' box",
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
    from latentcodec.picture.picture import from_pillow

    for row, files in FILES.items():
        for column, make in files.items():
            if row == "XMP of 1.4 MB" and column == "PNG":
                continue  # Pillow does not open it
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DroppedDataWarning)
                theirs = from_pillow(Image.open(io.BytesIO(make())), name="the file")
                ours = open_picture(io.BytesIO(make()), name="the file")
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
    gray = picture.gray
    profile = open_picture(io.BytesIO(written(picture, "JPEG"))).profile
    image = Image.fromarray(picture.pixels[..., 0] if gray else picture.pixels)
    target = make_profile("sRGB", SRGB_CURVE, None if gray else REC709)
    profiles = [ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (profile or b"", target)]
    converted = ImageCms.profileToProfile(
        image,
        *profiles,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode=image.mode,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    samples = np.asarray(converted)
    return samples[..., None].repeat(3, 2) if gray else samples
