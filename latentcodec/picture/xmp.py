"""XMP as text: joined from its parts, turned with the picture, and silent about what is no longer there.

a JPEG's main packet, its extension ─► join ─► one packet ─► split ─► the same two, for a JPEG
packet ─► turned ─► orientation 1, width and height exchanged
       ─► without_announcements ─► nothing said of videos, gain maps and pictures behind the picture

Packets are edited as bytes and never written anew: what is not edited stays as it is. Every search goes
forward once, so that hostile packets cost no more than others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

__all__ = ["join", "orientation_of", "split", "turned", "without_announcements"]

_ORIENTATION = re.compile(rb"(tiff:Orientation\s{0,9}(?:=\s{0,9}[\"']|>\s{0,9}))([1-8])(?=\s{0,9}[\"'<])")
_SIDES = ((b"tiff:ImageWidth", b"tiff:ImageLength"), (b"exif:PixelXDimension", b"exif:PixelYDimension"))

_NOTE = b"http://ns.adobe.com/xmp/note/"  # XMP, part 3, 1.1.3.1: where a JPEG says that there is more
# Namespaces that speak of what lies behind a picture in its file, and the beginnings of the names that do.
_ANNOUNCING: dict[bytes, tuple[bytes, ...]] = {
    b"http://ns.google.com/photos/1.0/camera/": (b"MotionPhoto", b"MicroVideo"),
    b"http://ns.google.com/photos/1.0/container/": (b"Directory",),
    b"http://ns.google.com/photos/dd/1.0/device/": (b"Container",),
    b"http://ns.adobe.com/hdr-gain-map/1.0/": (b"",),
    b"http://ns.apple.com/HDRGainMap/1.0/": (b"",),
    b"http://ns.oplus.com/photos/1.0/camera/": (b"MotionPhoto", b"OLivePhoto", b"VideoLength"),
    b"http://ns.apple.com/pixeldatainfo/1.0/": (b"AuxiliaryImageType",),
}
_DECLARATION = re.compile(rb"xmlns:([A-Za-z_][\w.-]{0,60})\s{0,9}=\s{0,9}([\"'])(.{0,200}?)\2")
_NAME = re.compile(rb"[\w.-]{1,80}")
_SPACE = b" \t\r\n"
_MOST_PREFIXES, _MOST_UNCLOSED = 100, 20  # of a packet that is edited; honest ones have some ten, and none
_RDF = re.compile(rb"<rdf:RDF\b[^<>]{0,8000}>")
_META = re.compile(rb"<x:xmpmeta\b[^<>]{0,8000}>")
_RDF_END = b"</rdf:RDF>"


def orientation_of(xmp: bytes) -> int | None:
    """tiff:Orientation, 1 to 8; None where there is none."""
    match = _ORIENTATION.search(xmp)
    return int(match[2]) if match else None


def turned(xmp: bytes | None, turn: int) -> bytes | None:
    """The packet with tiff:Orientation 1; after a quarter turn (5 to 8) width and height are exchanged."""
    if not xmp:
        return xmp
    xmp = _ORIENTATION.sub(rb"\g<1>1", xmp)
    for one, other in _SIDES if turn >= 5 else ():
        form = rb"(%s\s{0,9}(?:=\s{0,9}[\"']|>\s{0,9}))(\d{1,10})(?=\s{0,9}[\"'<])"
        first, second = (re.search(form % re.escape(name), xmp) for name in (one, other))
        if first and second:
            (a, b) = sorted((first, second), key=lambda match: match.start(2))
            xmp = b"".join((xmp[: a.start(2)], b[2], xmp[a.end(2) : b.start(2)], a[2], xmp[b.end(2) :]))
    return xmp


def without_announcements(xmp: bytes | None) -> bytes | None:
    """The packet without properties that say what lies behind the picture in its file."""
    if not xmp:
        return xmp
    for prefix, space in _prefixes(xmp):
        for beginning in _ANNOUNCING.get(space, ()):
            xmp = _without(xmp, prefix, beginning)
    return xmp


def join(main: bytes, extension: bytes) -> bytes | None:
    """The main packet with the descriptions of a JPEG's extension (XMP, part 3, 1.1.3.1); None where they
    cannot be put together."""
    begin, end = _RDF.search(extension), extension.rfind(_RDF_END)
    inside, last = _RDF.search(main), main.rfind(_RDF_END)
    if not begin or not inside or end < begin.end() or last < inside.end():
        return None
    meta = _META.search(extension)
    known = dict(_prefixes(main[: inside.end()]))
    declared = dict(_prefixes((meta[0] if meta else b"") + begin[0]))
    if any(known.get(prefix, space) != space for prefix, space in declared.items()):
        return None
    more = b"".join(
        b' xmlns:%s="%s"' % (prefix, space) for prefix, space in declared.items() if prefix not in known
    )
    tag_end = inside.end() - 1
    joined = b"".join((main[:tag_end], more, main[tag_end:last], extension[begin.end() : end], main[last:]))
    for prefix, space in _prefixes(joined):
        if space == _NOTE:
            joined = _without(joined, prefix, b"HasExtendedXMP")
    return joined


def split(xmp: bytes) -> tuple[bytes, bytes, bytes]:
    """A packet too long for a JPEG's segment as its main packet, its extension, and the extension's name."""
    begin, end = xmp.find(b"<x:xmpmeta"), xmp.rfind(b"</x:xmpmeta>")
    extension = xmp[begin : end + len(b"</x:xmpmeta>")] if 0 <= begin < end else xmp
    name = hashlib.md5(extension, usedforsecurity=False).hexdigest().upper().encode()
    main = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description rdf:about="" xmlns:xmpNote="%s" xmpNote:HasExtendedXMP="%s"/>'
        b"</rdf:RDF></x:xmpmeta>"
    ) % (_NOTE, name)
    return main, extension, name


def _prefixes(xmp: bytes) -> list[tuple[bytes, bytes]]:
    """Prefixes of namespaces and what they stand for."""
    found: dict[tuple[bytes, bytes], None] = {}
    for match in _DECLARATION.finditer(xmp):
        found[match[1], match[3]] = None
        if len(found) == _MOST_PREFIXES:
            break
    return list(found)


def _without(xmp: bytes, prefix: bytes, beginning: bytes) -> bytes:
    """The packet without the attributes and elements of the prefix whose names begin so."""
    parts, kept = [], 0
    for begin, end in _properties(xmp, prefix, beginning):
        if begin >= kept:
            parts.append(xmp[kept:begin])
            kept = end
    return b"".join((*parts, xmp[kept:]))


def _properties(xmp: bytes, prefix: bytes, beginning: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each, in order."""
    mark, place, unclosed = prefix + b":" + beginning, 0, 0
    while unclosed < _MOST_UNCLOSED and (place := xmp.find(mark, place)) > 0:
        name = _NAME.match(xmp, place + len(prefix) + 1)
        after = name.end() if name else place + len(mark)
        before, end = xmp[place - 1 : place], -1
        if before == b"<" and name:
            end = _end_of_element(xmp, xmp[place : name.end()], after)
            begin = place - 1
        elif before in (b" ", b"\t", b"\r", b"\n") and name:
            end = _end_of_attribute(xmp, after)
            begin = place
            while begin > 0 and xmp[begin - 1] in _SPACE:
                begin -= 1
        else:
            place = after
            continue
        if end > 0:
            yield begin, end
        unclosed += end <= 0
        place = max(after, end)


def _end_of_attribute(xmp: bytes, place: int) -> int:
    head = xmp[place : place + 20].lstrip(_SPACE)
    if head[:1] != b"=":
        return -1
    quoted = head[1:].lstrip(_SPACE)[:1]
    if quoted not in (b'"', b"'"):
        return -1
    begin = xmp.find(quoted, place)
    return xmp.find(quoted, begin + 1) + 1 or -1


def _end_of_element(xmp: bytes, name: bytes, place: int) -> int:
    tag_end = xmp.find(b">", place)
    if tag_end < 0 or xmp[tag_end - 1 : tag_end] == b"/":
        return tag_end + 1 or -1
    close = xmp.find(b"</" + name, tag_end)
    return (xmp.find(b">", close) + 1 or -1) if close >= 0 else -1
