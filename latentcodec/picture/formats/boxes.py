"""What files made of boxes hold beside their picture: JPEG 2000, and AVIF and HEIF (ISO 14496-12, 23008-12).

JP2 ─► jp2h: colr, res; uuid: EXIF, XMP, IPTC ─► read_jp2 ─► Beside        bytes ─► with_jp2_boxes ─► bytes
AVIF, HEIF ─► meta: the primary item's colr; further items ─► read_heif ─► Beside, and reports
AVIF bytes, code points ─► with_nclx ─► bytes whose colr box says them
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.formats.beside import MOST_BYTES, Beside, Resolution, report_behind, sound_resolution
from latentcodec.picture.formats.photoshop import iptc_of
from latentcodec.picture.notices import report

__all__ = [
    "JP2_START",
    "is_heif",
    "read_heif",
    "read_jp2",
    "with_jp2_boxes",
    "with_nclx",
    "without_jp2_profile",
]

JP2_START = b"\0\0\0\x0cjP  \r\n\x87\n"
_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1", b"mif2")
_MOST_BOXES = 4096
_METRE = 0.0254  # of an inch
_UUIDS = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",  # XMP, part 3, 1.1.4
    b"JpgTiffExif->JP2": "exif",
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "iptc",
}
# Boxes of a file that hold the picture, or say nothing once it is decoded. Frames are counted elsewhere.
_OF_JP2 = (b"jP  ", b"ftyp", b"jp2h", b"jp2c", b"jp2i", b"rreq", b"free", b"skip")
_OF_HEIF = (b"ftyp", b"styp", b"meta", b"mdat", b"idat", b"moov", b"free", b"skip", b"wide", b"pdin")
_VIDEO = b"mpvd"  # of motion photos (Android, Motion photo format 1.0)
_ENUMERATED = {16: "sRGB", 17: "gray", 18: "sYCC"}  # ISO 15444-1, table I.10
_KEPT_ITEMS = (b"Exif", b"mime", b"grid", b"iden", b"iovl")
_PICTURES = (b"av01", b"hvc1", b"jpeg", b"unci")
_GAIN_MAPS = (b"tmap",)  # ISO 21496-1
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


def _boxes(data: bytes, begin: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Type, and begin and end of the content, of each box, as far as they are whole."""
    place, end = begin, len(data) if end is None else end
    for _ in range(_MOST_BOXES):
        if place + 8 > end:
            return
        size, head = int.from_bytes(data[place : place + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[place + 8 : place + 16], "big"), 16
        size = size or end - place
        if size < head or place + size > end:
            return
        yield data[place + 4 : place + 8], place + head, place + size
        place += size


def _file_boxes(
    file: BinaryIO, wanted: tuple[bytes, ...], silent: tuple[bytes, ...], name: str
) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the wanted boxes of a seekable file.

    What is neither wanted nor silent is reported, as is one too large to be taken, and what is no box.
    """
    unknown, place = dict[str, None](), 0
    for kind, begin, place in _file_places(file):
        if kind in wanted:
            if place - begin > MOST_BYTES:
                report(name, f"{place - begin} bytes of its {_shown(kind)!r} box are left out")
            else:
                file.seek(begin)
                yield kind, file.read(place - begin)
        elif kind == _VIDEO:
            report(name, f"the video behind the picture ({place - begin} bytes) is left out")
        elif kind not in silent:
            unknown[_shown(kind)] = None
    if unknown:
        report(name, f"its boxes {', '.join(list(unknown)[:8])} are left out")
    file.seek(place)
    if file.read(8)[4:] not in (*wanted, *silent):  # or the file is cut off, which its decoder says
        report_behind(file, place, name)


def _shown(kind: bytes) -> str:
    return kind.decode("ascii").strip()


def _file_places(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Type, and begin and end of the content, of each box of a seekable file, as far as they are whole."""
    end, place = file.seek(0, 2), 0
    for _ in range(_MOST_BOXES):
        if place + 8 > end:
            return
        file.seek(place)
        head = file.read(16)
        size, length = int.from_bytes(head[:4], "big"), 8
        if size == 1:
            size, length = int.from_bytes(head[8:16], "big"), 16
        size = size or end - place
        if (
            size < length
            or place + size > end
            or not (head[4:8].isascii() and head[4:8].decode().isprintable())
        ):
            return
        yield head[4:8], place + length, place + size
        place += size


def read_jp2(file: BinaryIO, name: str) -> Beside:
    """What the boxes of a seekable JPEG 2000 file say; what is not kept of them is reported."""
    said = Beside()
    for kind, data in _file_boxes(file, (b"jp2h", b"uuid", b"xml "), _OF_JP2, name):
        if kind == b"jp2h":
            _jp2_header(said, data, name)
        elif kind == b"uuid" and (field := _UUIDS.get(data[:16])):
            setattr(said, field, iptc_of(data[16:]) if field == "iptc" else data[16:])
        else:
            report(name, f"{len(data)} bytes of its {kind.decode().strip()!r} box are left out")
    return said


def _jp2_header(said: Beside, data: bytes, name: str) -> None:
    for kind, begin, end in _boxes(data):
        if kind == b"colr" and end - begin > 3 and said.profile is None:
            method = data[begin]
            space = int.from_bytes(data[begin + 3 : begin + 7], "big")
            if method in (2, 3):
                said.profile = data[begin + 3 : end]
            elif method == 1 and space not in (*_ENUMERATED, 12):  # Pillow converts CMYK
                report(name, f"its colour space, number {space} of JPEG 2000, is taken for sRGB")
        elif kind == b"res ":
            for inner, start, stop in _boxes(data, begin, end):
                if inner in (b"resd", b"resc") and stop - start == 10 and (inner == b"resd" or not said.dpi):
                    said.dpi = _jp2_resolution(data[start:stop])


def _jp2_resolution(data: bytes) -> Resolution | None:
    """Fractions and powers of ten of dots in a metre, the vertical one first (ISO 15444-1, I.5.3.7)."""
    up, under, across, below = (int.from_bytes(data[at : at + 2], "big") for at in (0, 2, 4, 6))
    exponents = [int.from_bytes(data[at : at + 1], "big", signed=True) for at in (8, 9)]
    if not under or not below:
        return None
    down, right = (
        top / bottom * 10.0**power * _METRE
        for top, bottom, power in ((up, under, exponents[0]), (across, below, exponents[1]))
    )
    return sound_resolution(right, down)


def with_jp2_boxes(
    data: bytes,
    profile: bytes | None,
    exif: bytes | None,
    xmp: bytes | None,
    iptc: bytes | None,
    dpi: Resolution | None,
) -> bytes:
    """A JPEG 2000 file with these beside its picture: a profile in place of its colour space, and boxes."""
    parts = []
    for kind, begin, end in _boxes(data):
        content = data[begin:end]
        if kind == b"jp2h":
            inner = [
                _box(b"colr", b"\2\0\0" + profile)
                if each == b"colr" and profile
                else _box(each, content[a:b])
                for each, a, b in _boxes(content)
            ]
            inner += [_box(b"res ", _box(b"resd", _dots(dpi)))] if dpi else []
            content = b"".join(inner)
        parts.append(_box(kind, content))
    fields = {"xmp": xmp, "exif": exif, "iptc": iptc}
    parts += [_box(b"uuid", uuid + fields[name]) for uuid, name in _UUIDS.items() if fields[name]]  # type: ignore[operator]
    return b"".join(parts)


def without_jp2_profile(data: bytes) -> bytes:
    """A JPEG 2000 file that says sRGB in place of its profile, which some decoders would apply."""
    parts = []
    for kind, begin, end in _boxes(data):
        content = data[begin:end]
        if kind == b"jp2h":
            content = b"".join(
                _box(b"colr", b"\1\0\0\0\0\0\x10")
                if each == b"colr" and content[a : a + 1] in (b"\2", b"\3")
                else _box(each, content[a:b])
                for each, a, b in _boxes(content)
            )
        parts.append(_box(kind, content))
    return b"".join(parts) or data


def _dots(dpi: Resolution) -> bytes:
    parts, powers = b"", b""
    for value in (dpi[1] / _METRE, dpi[0] / _METRE):
        power = 0
        while value * 100 > 65535:  # two digits behind the point, as long as they fit
            value, power = value / 10, power + 1
        parts += round(value * 100).to_bytes(2, "big") + (100).to_bytes(2, "big")
        powers += bytes([power])
    return parts + powers


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + 8).to_bytes(4, "big") + kind + content


def is_heif(head: bytes) -> bool:
    """Whether a file that begins so is AVIF or HEIF."""
    return head[4:8] == b"ftyp" and head[8:12] in _BRANDS


def read_heif(file: BinaryIO, name: str) -> Beside:
    """What an AVIF or HEIF file says about its colours; gain maps and other pictures are reported."""
    said = Beside()
    for number, (_, data) in enumerate(_file_boxes(file, (b"meta",), _OF_HEIF, name)):
        if not number:
            _meta(said, data, name)
    return said


def _meta(said: Beside, data: bytes, name: str) -> None:
    boxes = {kind: (begin, end) for kind, begin, end in _boxes(data, 4)}
    primary = 0
    if b"pitm" in boxes:
        begin, end = boxes[b"pitm"]
        primary = int.from_bytes(data[begin + 4 : end], "big")
    properties: list[tuple[bytes, int, int]] = []
    own: set[int] = set()
    if b"iprp" in boxes:
        for kind, begin, end in _boxes(data, *boxes[b"iprp"]):
            if kind == b"ipco":
                properties = list(_boxes(data, begin, end))
            elif kind == b"ipma":
                own |= _associated(data[begin:end], primary)
    for number, (kind, begin, end) in enumerate(properties, 1):
        nclx = kind == b"colr" and data[begin : begin + 4] == b"nclx" and end - begin >= 11
        if nclx and (number in own or not own) and said.cicp is None:
            primaries, transfer = (int.from_bytes(data[at : at + 2], "big") for at in (begin + 4, begin + 6))
            if max(primaries, transfer) < 256:  # the decoder has made full-range RGB of the samples
                said.cicp = Cicp(primaries, transfer)
    _further_items(data, boxes, properties, name)


def _associated(data: bytes, item: int) -> set[int]:
    """The numbers of the properties that an ipma box gives to an item (ISO 23008-12, 9.3)."""
    if len(data) < 8:
        return set()
    wide_items, wide_numbers = data[0] >= 1, data[3] & 1
    place, found = 8, set[int]()
    for _ in range(min(int.from_bytes(data[4:8], "big"), _MOST_BOXES)):
        size = 4 if wide_items else 2
        number, count = (
            int.from_bytes(data[place : place + size], "big"),
            data[place + size : place + size + 1],
        )
        place += size + 1
        for _ in range(count[0] if count else 0):
            step = 2 if wide_numbers else 1
            value = int.from_bytes(data[place : place + step], "big")
            place += step
            if number == item:
                found.add(value & (0x7FFF if wide_numbers else 0x7F))
    return found


def _further_items(
    data: bytes, boxes: dict[bytes, tuple[int, int]], properties: list[tuple[bytes, int, int]], name: str
) -> None:
    if b"iinf" not in boxes:
        return
    begin, end = boxes[b"iinf"]
    kinds = [
        data[start + (10 if data[start] == 3 else 8) :][:4]
        for kind, start, stop in _boxes(data, begin + (8 if data[begin : begin + 1] > b"\0" else 6), end)
        if kind == b"infe" and stop - start >= 12 and data[start] >= 2
    ]
    auxiliary = [data[a + 4 : b].partition(b"\0")[0] for kind, a, b in properties if kind == b"auxC"]
    gain = any(kind in _GAIN_MAPS for kind in kinds) or any(b"gainmap" in each for each in auxiliary)
    if gain:
        report(name, "its gain map is left out: it stays a picture without HDR")
    others = [each for each in auxiliary if each not in _ALPHA and b"gainmap" not in each]
    if others:
        words = others[0].decode("latin-1").rpartition(":")[2]
        report(name, f"{len(others)} of its auxiliary pictures ({words}) are left out")
    unknown = {
        k.decode("latin-1") for k in kinds if k not in (*_KEPT_ITEMS, *_PICTURES, *_GAIN_MAPS, b"none")
    }
    if unknown:
        report(name, f"its items {', '.join(sorted(unknown)[:8])} are left out")


def with_nclx(data: bytes, cicp: Cicp) -> bytes:
    """An AVIF file as Pillow writes it, its colr box with these primaries and this transfer.

    Raises ValueError where there is no such box.
    """
    place = data.find(b"colrnclx")
    if place < 0:
        raise ValueError("the file has no colr box for code points")
    codes = cicp.primaries.to_bytes(2, "big") + cicp.transfer.to_bytes(2, "big")
    return data[: place + 8] + codes + data[place + 12 :]
