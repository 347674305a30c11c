from __future__ import annotations

import io
import struct
import warnings

import pytest
from PIL import Image, ImageOps

from latentcodec.picture.exif import turned as turned_exif
from latentcodec.picture.metadata import orientation, picture_tags, read_exif, read_xmp
from latentcodec.picture.notices import DroppedDataWarning
from latentcodec.picture.xmp import turned as turned_xmp


def upright_exif(exif: bytes | None) -> bytes | None:
    return turned_exif(exif, 1, "it")


def upright_xmp(xmp: bytes | None) -> bytes | None:
    return turned_xmp(xmp, 1)


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6">'
    b"<tiff:Orientation>6</tiff:Orientation></rdf:Description></rdf:RDF></x:xmpmeta>"
)


def tiff(order: str, entries: list[tuple[int, int, int, int]]) -> bytes:
    """TIFF bytes with one directory of (tag, type, count, value); SHORT and BYTE values are left-aligned."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        packed = struct.pack(order + {1: "B3x", 3: "H2x", 4: "I"}[kind], value)
        directory += struct.pack(order + "HHI", tag, kind, count) + packed
    return head + struct.pack(order + "I", 8) + directory + struct.pack(order + "I", 0)


def with_exif(exif: bytes | None, **info: object) -> Image.Image:
    image = Image.new("RGB", (4, 3))
    image.info.update(info if exif is None else {"exif": exif, **info})
    return image


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientation_is_read_and_patched_in_place(order: str, kind: int, value: int) -> None:
    exif = tiff(order, [(0x0100, 4, 1, 640), (0x0112, kind, 1, value), (0x0213, 3, 1, 2)])
    assert orientation(exif, None) == value
    patched = upright_exif(exif)
    assert patched is not None
    assert orientation(patched, None) == 1
    assert sum(a != b for a, b in zip(exif, patched, strict=True)) == (value != 1)


def test_pillow_agrees_about_the_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 7, "maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:02 03:04:05"
    raw = exif.tobytes()[6:]
    assert orientation(raw, None) == 7
    again = Image.Exif()
    again.load(b"Exif\0\0" + (upright_exif(raw) or b""))
    assert again[0x0112] == 1
    assert again[0x010F] == "maker"
    assert again.get_ifd(0x8769)[0x9003] == "2026:01:02 03:04:05"


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_orientation_without_meaning_is_upright_and_stays(value: int) -> None:
    exif = tiff("<", [(0x0112, 3, 1, value)])
    assert orientation(exif, XMP) == 1


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        tiff("<", [(0x0112, 3, 1, 6)])[:14],
        tiff("<", [(0x0112, 3, 1, 6)]).replace(struct.pack("<HH", 0x0112, 3), struct.pack("<HH", 0x0112, 5)),
        b"MM\0*" + b"\0\0\0\x08" + b"\xff\xff" + b"\0" * 12,  # 65535 entries, one there
        b"not TIFF at all",
    ],
)
def test_damaged_exif_has_no_orientation_and_is_left_alone(exif: bytes) -> None:
    assert orientation(exif, None) == 1
    assert upright_exif(exif) == exif


@pytest.mark.parametrize(
    ("kind", "count", "values"),
    [
        (3, 2, struct.pack("<HH", 6, 6)),
        (9, 1, struct.pack("<i", 6)),
        (5, 1, struct.pack("<II", 6, 1)),
        (10, 1, struct.pack("<ii", 12, 2)),
        (12, 1, struct.pack("<d", 6.0)),
    ],
)
def test_an_orientation_of_another_type_counts_as_for_pillow(kind: int, count: int, values: bytes) -> None:
    exif = b"II*\0" + struct.pack("<IH", 8, 1) + struct.pack("<HHI", 0x0112, kind, count)
    exif += (values.ljust(4, b"\0") if len(values) <= 4 else struct.pack("<I", 26)) + bytes(4) + values
    image = Image.new("RGB", (4, 3))
    image.info["exif"] = exif
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of a count
        assert ImageOps.exif_transpose(image).size == (3, 4)
    assert orientation(exif, None) == 6
    assert orientation(upright_exif(exif), None) == 1


def test_xmp_speaks_where_exif_is_silent() -> None:
    silent = tiff("<", [(0x0213, 3, 1, 2)])
    assert orientation(None, XMP) == orientation(silent, XMP) == 6
    assert orientation(tiff("<", [(0x0112, 3, 1, 3)]), XMP) == 3
    assert orientation(None, None) == orientation(None, b"<x/>") == 1


def test_xmp_is_patched_in_both_spellings_and_nowhere_else() -> None:
    packet = XMP + b" 6 tiff:Orientations='6' tiff:Orientation = '8'"
    patched = upright_xmp(packet)
    assert patched == packet.replace(b'n="6"', b'n="1"').replace(b">6<", b">1<").replace(b"= '8'", b"= '1'")
    assert orientation(None, patched) == 1
    assert upright_xmp(None) is None


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
def test_exif_has_one_form_whatever_stood_in_front(prefix: bytes) -> None:
    exif = tiff(">", [(0x0213, 3, 1, 2)])
    assert read_exif(with_exif(prefix + exif), "it") == exif


def test_exif_that_is_none_is_dropped_with_a_warning() -> None:
    with pytest.warns(DroppedDataWarning, match=r"photo\.jpg.*no TIFF header"):
        assert read_exif(with_exif(b"Exif\0\0garbage"), "photo.jpg") is None


def test_damaged_exif_that_begins_well_is_kept_as_it_is() -> None:
    damaged = tiff("<", [(0x0213, 3, 1, 2)])[:15]
    assert read_exif(with_exif(damaged), "it") == damaged


def test_no_exif() -> None:
    assert read_exif(with_exif(None), "it") is None
    assert read_exif(with_exif(b""), "it") is None
    assert read_exif(with_exif(b"Exif\0\0"), "it") is None


def test_exif_in_the_text_that_imagemagick_writes() -> None:
    exif = tiff("<", [(0x0112, 3, 1, 8)])
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n"
    raw = read_exif(with_exif(None, **{"Raw profile type exif": text}), "it")
    assert orientation(raw, None) == 8
    with pytest.warns(DroppedDataWarning, match="damaged"):
        assert read_exif(with_exif(None, **{"Raw profile type exif": "\nexif\n 2\nzz\n"}), "it") is None


def test_exif_tags_set_in_memory() -> None:
    image = Image.new("RGB", (4, 3))
    image.getexif()[0x0112] = 5
    assert orientation(read_exif(image, "it"), None) == 5


def test_tiff_keeps_what_describes_the_picture_and_not_the_file() -> None:
    stream = io.BytesIO()
    tags = Image.Exif()
    tags[0x010F], tags[0x0131], tags[0x0112] = "maker", "software", 6
    tags.get_ifd(0x8769).update({0x9003: "2026:01:02 03:04:05", 0xA005: 1234})
    tags.get_ifd(0x8825).update({1: "N", 2: (10.0, 20.0, 30.0)})
    Image.new("RGB", (4, 3)).save(stream, "TIFF", exif=tags.tobytes())
    image = Image.open(stream)
    image.load()
    raw = read_exif(image, "it")
    assert raw is not None
    read = Image.Exif()
    read.load(raw)
    assert set(read) == {0x010F, 0x0131, 0x8769, 0x8825}
    assert read.get_ifd(0x8769) == {0x9003: "2026:01:02 03:04:05"}  # and no offset into the old file
    assert read.get_ifd(0x8825)[2] == (10.0, 20.0, 30.0)


def test_picture_tags_of_an_exif_that_names_another_size() -> None:
    exif = Image.Exif()
    exif[0x0100], exif[0x0103], exif[0x010E] = 99, 5, "a description"
    assert dict(picture_tags(exif)) == {0x010E: "a description"}


def test_xmp_in_every_place_where_pillow_puts_it() -> None:
    assert read_xmp(with_exif(None, xmp=XMP)) == XMP
    assert read_xmp(with_exif(None, **{"XML:com.adobe.xmp": XMP.decode()})) == XMP
    assert read_xmp(with_exif(None, xmp=b"")) is None
    assert read_xmp(with_exif(None, xmp=("odd",))) is None
    assert read_xmp(with_exif(None)) is None


def test_reading_damaged_metadata_never_raises() -> None:
    whole = tiff("<", [(0x0112, 3, 1, 6), (0x8769, 4, 1, 8), (0x8825, 4, 1, 200)])
    for end in range(len(whole)):
        for exif in (whole[:end], whole[:end] + b"\xff" * (len(whole) - end)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DroppedDataWarning)
                kept = read_exif(with_exif(exif), "it")
            assert 1 <= orientation(kept, None) <= 8
            assert len(upright_exif(kept) or b"") == len(kept or b"")
