"""What a JPEG file holds beside and behind its picture.

JPEG ─► segments before the scan ─► IPTC, comments, resolution, extended XMP ─► Beside
     ─► what follows the picture's end: a gain map, further pictures, a video ─► reports
Picture ─► jpeg_extra ─► the segments that Pillow is to write
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from PIL import JpegImagePlugin

from latentcodec.picture.formats import xmp as packets
from latentcodec.picture.formats.beside import MOST_BYTES, PADDING, Beside, sound_resolution
from latentcodec.picture.formats.photoshop import as_resources, damaged_bytes, iptc_of, left_out
from latentcodec.picture.notices import report
from latentcodec.picture.text import Text, bounded, decoded

__all__ = ["START", "jpeg_extra", "read_jpeg", "segments"]

START = b"\xff\xd8\xff"
_APP0, _APP1, _APP2, _APP13, _APP14, _COMMENT, _SCAN, _END = (
    *(0xFFE0, 0xFFE1, 0xFFE2, 0xFFED, 0xFFEE),
    *(0xFFFE, 0xFFDA, 0xFFD9),
)
_XMP, _EXTENSION = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_GAIN_MAP = (b"hdr-gain-map", b"hdrgainmap", b"HDRGainMap", b"iso:ts:21496")
# Segments that Pillow reads, or that speak of what is reported by itself.
_KNOWN = {
    _APP0: (b"JFIF\0",),
    _APP1: (b"Exif\0\0", _XMP, _EXTENSION),
    _APP2: (b"ICC_PROFILE\0", b"MPF\0", b"urn:iso:std:iso:ts:21496"),
    _APP13: (_PHOTOSHOP,),
    _APP14: (b"Adobe",),
}
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # in a scan: neither data nor a restart
_LABEL = re.compile(rb"[ -~]{2,30}")
_GUID = re.compile(rb"HasExtendedXMP\s{0,9}(?:=\s{0,9}[\"']|>\s{0,9})([0-9A-Fa-f]{32})")
_MOST_PICTURES = 64
_MOST_SEGMENT = 65533  # bytes, with the two of its length
_COMMENT_KEY = "Comment"


def read_jpeg(data: bytes, name: str) -> Beside:
    """What a JPEG file says beside its picture; what is not kept of it is reported."""
    said, text, unknown, blocks = Beside(complete=True), list[tuple[str, str]](), dict[str, None](), []
    extensions: dict[bytes, dict[int, bytes]] = {}
    last = 2
    for marker, begin, end in segments(data):
        payload, last = data[begin:end], end
        if marker == _APP0 and payload.startswith(b"JFIF\0") and len(payload) >= 12:
            _resolution(said, payload, name)
        elif marker == _APP1 and payload.startswith(_XMP):
            said.xmp = payload[len(_XMP) :] or said.xmp
        elif marker == _APP1 and payload.startswith(_EXTENSION) and len(payload) >= len(_EXTENSION) + 40:
            guid, _, offset = _extension(payload)
            extensions.setdefault(guid, {})[offset] = payload[len(_EXTENSION) + 40 :]
        elif marker == _APP13 and payload.startswith(_PHOTOSHOP):
            blocks.append(payload[len(_PHOTOSHOP) :])
        elif marker == _COMMENT and payload.rstrip(b"\0"):
            text.append((_COMMENT_KEY, decoded(payload)))
        elif 0xFFE0 <= marker <= 0xFFEF and not payload.startswith(_KNOWN.get(marker, ())):
            label = _LABEL.match(payload)
            unknown[f"APP{marker - 0xFFE0}" + (f" {label[0].decode().strip()}" if label else "")] = None
    photoshop = b"".join(blocks)
    said.text, said.iptc = bounded(text, name), iptc_of(photoshop)
    if lost := left_out(photoshop):
        report(name, lost)
    if damaged := damaged_bytes(photoshop):
        report(name, f"{damaged} bytes of Photoshop's resources are damaged and left out")
    if unknown:
        shown = ", ".join(list(unknown)[:8]) + (" ..." if len(unknown) > 8 else "")
        report(name, f"its segments {shown} are left out")
    _join_xmp(said, extensions, name)
    _behind(said, data, last, name)
    return said


def segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of the payload of each segment that Pillow reads before the scan, as it does."""
    place = len(START) - 1
    while 0 <= (place := data.find(b"\xff", place)) < len(data) - 1:
        marker = int.from_bytes(data[place : place + 2], "big")
        if marker == _SCAN or not (marker in JpegImagePlugin.MARKER or marker in (0xFF00, 0xFFFF)):
            return
        place += 1 if marker == 0xFFFF else 2
        if marker in JpegImagePlugin.MARKER and JpegImagePlugin.MARKER[marker][2] is not None:
            end = place + int.from_bytes(data[place : place + 2], "big")
            yield marker, place + 2, end
            place = max(end, place + 2)


def _resolution(said: Beside, payload: bytes, name: str) -> None:
    unit, across, down = payload[7], *(int.from_bytes(payload[at : at + 2], "big") for at in (8, 10))
    if unit in (1, 2):
        scale = 2.54 if unit == 2 else 1
        said.dpi = sound_resolution(across * scale, down * scale)
    elif across != down:
        report(name, f"that its pixels are not square ({across}:{down}) is left out")


def _extension(payload: bytes) -> tuple[bytes, int, int]:
    """The name of an extension, its bytes, and where this part of it begins."""
    head = payload[len(_EXTENSION) :]
    return head[:32].upper(), int.from_bytes(head[32:36], "big"), int.from_bytes(head[36:40], "big")


def _join_xmp(said: Beside, extensions: dict[bytes, dict[int, bytes]], name: str) -> None:
    named = _GUID.search(said.xmp) if said.xmp else None
    for guid, parts in extensions.items():
        size = sum(map(len, parts.values()))
        whole, place = [], 0
        for offset, part in sorted(parts.items()):
            if offset == place:
                whole.append(part)
                place += len(part)
        joined = None
        if said.xmp and named and named[1].upper() == guid and place == size <= MOST_BYTES:
            joined = packets.join(said.xmp, b"".join(whole))
        if joined is None:
            report(name, f"its extended XMP ({size} bytes) does not go with its XMP and is left out")
        else:
            said.xmp = joined


def _behind(said: Beside, data: bytes, place: int, name: str) -> None:
    """Report what follows the end of the picture."""
    end = _end_of_picture(data, place)
    if end is None:
        return
    rest = memoryview(data)[end:]
    if not bytes(rest[: 1 << 16]).strip(PADDING) and not bytes(rest).strip(PADDING):
        return
    gain_map = any(mark in data[: min(place, MOST_BYTES)] for mark in _GAIN_MAP)
    pictures, size, last = 0, 0, end
    while pictures < _MOST_PICTURES and (begin := data.find(START, last)) >= 0:
        if (video := _video(data, last)) is not None and video < begin:
            break
        head_end = max((end for _, _, end in segments(data[begin : begin + MOST_BYTES])), default=2)
        stop = _end_of_picture(data, begin + head_end)
        if stop is None:
            break
        head = data[begin : begin + head_end]
        if not pictures and (gain_map or any(mark in head for mark in _GAIN_MAP)):
            report(name, f"its gain map ({stop - begin} bytes) is left out: it stays a picture without HDR")
            said.further = True
        else:
            size += stop - begin
        pictures, last = pictures + 1, stop
    if size:
        said.further = True
        report(name, f"only its main picture is kept, not its secondary pictures ({size} bytes)")
    if (video := _video(data, last)) is not None:
        report(name, f"the video behind the picture ({len(data) - video} bytes) is left out")
        last = len(data)
    if data[last : last + MOST_BYTES].strip(PADDING):
        report(name, f"{len(data) - last} bytes behind the end of the picture are left out")


def _video(data: bytes, place: int) -> int | None:
    """Where an ISO base media file begins behind a place (ISO 14496-12, 4.3: its first box)."""
    for _ in range(16):
        at = data.find(b"ftyp", place)
        if at < 0:
            return None
        if at >= place + 4 and 8 <= int.from_bytes(data[at - 4 : at], "big") <= 1024:
            return at - 4
        place = at + 4
    return None


def _end_of_picture(data: bytes, place: int) -> int | None:
    """Where a picture ends whose header ends at a place; None where it has no end."""
    place = data.find(b"\xff\xda", place)
    while place >= 0:
        length = int.from_bytes(data[place + 2 : place + 4], "big")
        match = _MARKER.search(data, place + 2 + max(length, 2))
        if match is None:
            return None
        if data[match.start() + 1] == _END & 0xFF:
            return match.end()
        place = match.start()
    return None


def jpeg_extra(xmp: bytes, text: Text, iptc: bytes | None, name: str) -> tuple[bytes, bytes]:
    """XMP for Pillow to write, which fits into a segment, and further segments.

    Text other than comments, and what is too long for a segment, is reported, for the picture `name`.
    """
    extra = []
    others = [key for key, _ in text if key != _COMMENT_KEY]
    if others:
        report(name, f"JPEG has no place for text but comments: {_list(others)} left out")
    for key, value in text:
        if key == _COMMENT_KEY:
            comment = value.encode("utf-8")
            if len(comment) + 2 > _MOST_SEGMENT:
                report(
                    name,
                    f"{len(comment)} bytes of comment are left out, JPEG holds at most {_MOST_SEGMENT - 2}",
                )
            else:
                extra.append(_segment(_COMMENT, comment))
    if iptc:
        block = as_resources(iptc)
        for place in range(0, len(block), 65000):
            extra.append(_segment(_APP13, _PHOTOSHOP + block[place : place + 65000]))
    if len(xmp) + len(_XMP) > _MOST_SEGMENT:
        xmp, extension, guid = packets.split(xmp)
        for place in range(0, len(extension), 65000):
            head = _EXTENSION + guid + len(extension).to_bytes(4, "big") + place.to_bytes(4, "big")
            extra.append(_segment(_APP1, head + extension[place : place + 65000]))
    return xmp, b"".join(extra)


def _segment(marker: int, payload: bytes) -> bytes:
    return marker.to_bytes(2, "big") + (len(payload) + 2).to_bytes(2, "big") + payload


def _list(keys: list[str]) -> str:
    shown = ", ".join(repr(key[:40]) for key in keys[:6])
    return (
        f"{shown}{f' and {len(keys) - 6} more' if len(keys) > 6 else ''} {'are' if len(keys) > 1 else 'is'}"
    )
