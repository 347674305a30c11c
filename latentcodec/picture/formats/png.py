"""What a PNG file holds beside its pixels, read here: Pillow stops at 1 MiB of text, and knows no cICP.

PNG ─► chunks one after the other, checksums compared ─► read_png ─► Beside, and a report of the rest
    ─► lean ─► a copy without text and profile, for Pillow
Picture ─► png_info ─► the chunks that Pillow is to write
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import PngImagePlugin

from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.formats.beside import MOST_BYTES, Beside, report_behind, sound_resolution
from latentcodec.picture.formats.photoshop import damaged_bytes, iptc_of, left_out
from latentcodec.picture.notices import report
from latentcodec.picture.text import MAX_KEY_BYTES, Text, add_png_text, bounded, decoded

__all__ = ["RAW_PROFILE", "SIGNATURE", "lean", "png_info", "read_png", "take_raw_profile"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_READ = frozenset({*_TEXTS, b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs"})
# What Pillow reads, what animations are made of (they are refused), and what says nothing of this picture
# once it is decoded: how many bits of its samples count, and which colours a small palette had better have.
_SILENT = frozenset(
    {
        b"IHDR",
        b"PLTE",
        b"IDAT",
        b"IEND",
        b"tRNS",
        b"eXIf",
        b"acTL",
        b"fcTL",
        b"fdAT",
        b"sBIT",
        b"sPLT",
        b"hIST",
    }
)
_SIZES = {b"gAMA": 4, b"cHRM": 32, b"cICP": 4, b"pHYs": 9}  # bytes, where there is one size only
_MOST_INFLATED = 4 * MOST_BYTES  # of all that is decompressed, with what is then left out
_MOST_RATIO = 1032  # of what deflate decompresses to (zlib, Technical Details)
_XMP = "XML:com.adobe.xmp"
RAW_PROFILE = "Raw profile type "  # ImageMagick's name for metadata in hexadecimal
_METRE = 0.0254  # of an inch
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_HEXADECIMAL = re.compile(r"[0-9a-fA-F\s]*\Z")


def read_png(file: BinaryIO, name: str) -> Beside:
    """What the chunks of a seekable PNG file say; what is not kept of them is reported."""
    found, unknown, size = _Found(name), dict[str, None](), 0
    for kind, begin, length in _chunks(file):
        if kind in _READ:
            size += length
            if size > MOST_BYTES:
                report(name, f"over {MOST_BYTES} bytes of metadata: the rest is left out")
                break
            file.seek(begin)
            data, sum_ = file.read(length), file.read(4)
            if zlib.crc32(data, zlib.crc32(kind)) == int.from_bytes(sum_, "big"):
                found.take(kind, data)
            else:
                report(name, f"its {kind.decode()} chunk is damaged and left out")
        elif kind == b"IEND":
            report_behind(file, begin + length + 4, name)
        elif kind not in _SILENT and kind.isalpha():
            unknown[kind.decode("ascii")] = None
    if unknown:
        shown = ", ".join(list(unknown)[:8]) + (" ..." if len(unknown) > 8 else "")
        report(name, f"its PNG chunks {shown} are left out")
    return found.beside()


def lean(file: BinaryIO) -> BinaryIO:
    """The file, or a copy without text and profile where it has any."""
    chunks = list(_chunks(file))
    if not any(kind in (*_TEXTS, b"iCCP") for kind, _, _ in chunks):
        return file
    file.seek(0)
    data, parts, kept = memoryview(file.read()), [], 0
    for kind, begin, length in chunks:
        if kind in (*_TEXTS, b"iCCP"):
            parts.append(data[kept : begin - 8])
            kept = begin + length + 4
    return io.BytesIO(b"".join((*parts, data[kept:])))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Type, begin and length of the data of each chunk, up to IEND or the first that is no chunk."""
    end = file.seek(0, 2)
    place = len(SIGNATURE)
    while place + 12 <= end:
        file.seek(place)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if not kind.isalpha() or place + 12 + length > end:
            return
        yield kind, place + 8, length
        place += 12 + length
        if kind == b"IEND":
            return


class _Found:
    """What was found so far in the chunks of a file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said = Beside(complete=True)
        self.text: list[tuple[str, str]] = []
        self.room = MOST_BYTES  # for what text and profiles decompress to
        self.work = _MOST_INFLATED

    def take(self, kind: bytes, data: bytes) -> None:
        """Take in a chunk; what is wrong with it is reported."""
        said = self.said
        if len(data) != _SIZES.get(kind, len(data)):
            report(
                self.name, f"its {kind.decode()} chunk has {len(data)} bytes, not {_SIZES[kind]}: left out"
            )
        elif kind == b"gAMA":
            said.gama = int.from_bytes(data, "big")
        elif kind == b"cHRM":
            said.chrm = struct.unpack(">8i", data)
        elif kind == b"sRGB":
            said.srgb = True
        elif kind == b"cICP":
            said.cicp = Cicp(*data)
        elif kind == b"pHYs":
            self._resolution(*struct.unpack(">IIB", data))
        elif kind == b"iCCP":
            _, _, rest = data.partition(b"\0")
            profile = self._inflated(rest[1:], "its ICC profile")
            said.profile = said.profile or profile
        elif kind in _TEXTS:
            self._text(kind, data)

    def beside(self) -> Beside:
        """All of it."""
        self.said.text = bounded(self.text, self.name)
        return self.said

    def _resolution(self, across: int, down: int, unit: int) -> None:
        if unit == 1:
            self.said.dpi = sound_resolution(across * _METRE, down * _METRE)
        elif across != down:
            report(self.name, f"that its pixels are not square ({across}:{down}) is left out")

    def _inflated(self, data: bytes, what: str) -> bytes | None:
        if self.work <= 0:
            report(
                self.name, f"{what} is left out: all before it decompresses to {_MOST_INFLATED} bytes or more"
            )
            return None
        inflater = zlib.decompressobj()
        try:
            result = inflater.decompress(data, self.room + 1)
        except zlib.error as error:
            self.work -= min(self.room, _MOST_RATIO * len(data))
            report(self.name, f"{what} is damaged ({error}) and left out")
            return None
        self.work -= len(result)
        if len(result) > self.room:
            report(self.name, f"{what} is left out: with all others it has over {MOST_BYTES} bytes")
            return None
        self.room -= len(result)
        return result

    def _text(self, kind: bytes, data: bytes) -> None:
        keyword, _, value = data.partition(b"\0")
        key = keyword.decode("latin-1")
        packed = kind == b"zTXt"
        if kind == b"iTXt":
            packed, value = value[:1] == b"\1", value[2:]
            language, _, value = value.partition(b"\0")
            translated, _, value = value.partition(b"\0")
            if language or translated:
                report(self.name, f"the language of its text {key!r} is left out")
        elif packed:
            value = value[1:]
        raw = self._inflated(value, f"its text {key!r}") if packed else value
        if raw is None:
            return
        words = decoded(raw) if kind == b"iTXt" else raw.decode("latin-1")
        if key == _XMP:
            self.said.xmp = self.said.xmp or raw
        elif key.startswith(RAW_PROFILE):
            take_raw_profile(self.said, key, words, self.name)
        elif 0 < len(key.encode()) <= MAX_KEY_BYTES:
            self.text.append((key, words))
        else:
            report(self.name, f"text under a key of {len(keyword)} bytes is left out")


def take_raw_profile(said: Beside, key: str, words: str, name: str) -> None:
    """Take in metadata as ImageMagick writes it: a name, a length, hexadecimal."""
    lines = words.split("\n", 3)
    try:
        if len(lines) < 4 or not _HEXADECIMAL.match(lines[3]):
            raise ValueError("no hexadecimal")
        data = bytes.fromhex(lines[3])
    except ValueError:
        report(name, f"its {key[:40]!r} is damaged and left out")
        return
    kind = key.removeprefix(RAW_PROFILE).lower()
    if kind == "xmp" or data.startswith(_JPEG_XMP):
        said.xmp = said.xmp or data.removeprefix(_JPEG_XMP)
    elif kind in ("exif", "app1"):
        said.exif = said.exif or data
    elif kind in ("iptc", "8bim"):
        said.iptc = said.iptc or iptc_of(data)
        if lost := left_out(data):
            report(name, lost)
        if damaged := damaged_bytes(data):
            report(name, f"{damaged} bytes of Photoshop's resources are damaged and left out")
    elif kind in ("icc", "icm"):
        said.profile = said.profile or data
    else:
        report(name, f"its {key[:40]!r} is left out")


def png_info(
    xmp: bytes, text: Text, iptc: bytes | None, cicp: Cicp | None, name: str
) -> PngImagePlugin.PngInfo | None:
    """The chunks for Pillow to write; None for none. Text that PNG has no place for is reported."""
    info = PngImagePlugin.PngInfo()
    if cicp is not None:
        info.add(b"cICP", bytes(cicp))
    if xmp:
        info.add_itxt(_XMP, xmp)
    if iptc:
        info.add_text(f"{RAW_PROFILE}iptc", f"\niptc\n{len(iptc):8}\n{_hexadecimal(iptc)}\n", zip=True)
    add_png_text(info, text, name)
    return info if info.chunks else None


def _hexadecimal(data: bytes) -> str:
    digits = data.hex()
    return "\n".join(digits[place : place + 72] for place in range(0, len(digits), 72))
