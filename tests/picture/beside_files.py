"""Small files, made by hand, that each hold one kind of data beside their picture: FILES."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from zlib import crc32

import numpy as np
from PIL import Image, PngImagePlugin

from latentcodec.picture.colour.icc import REC709, make_profile
from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.files import save_picture
from latentcodec.picture.formats.beside import Resolution
from latentcodec.picture.formats.boxes import with_jp2_boxes, with_nclx
from latentcodec.picture.formats.photoshop import as_resources
from latentcodec.picture.picture import Picture
from tests.picture.tiff_bytes import tiff

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


def saved(format: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(PIXELS) if image is None else image
    image.save(stream, PILLOW.get(format, format), **options)  # type: ignore[arg-type]
    return stream.getvalue()


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


def pages(**reduced: object) -> bytes:
    """A TIFF of two."""
    second = Image.fromarray(PIXELS[::2, ::2])
    second.encoderinfo = reduced  # type: ignore[attr-defined]
    return saved("TIFF", save_all=True, append_images=[second])


def moving(format: str) -> Callable[[], bytes]:
    frames = [Image.fromarray(PIXELS // divisor) for divisor in (1, 2)]
    return lambda: saved(format, frames[0], save_all=True, append_images=frames[1:])


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
    "video behind the picture": {
        "JPEG": lambda: jpeg(behind=struct.pack(">I", 16) + b"ftypmp42" + bytes(9)),
        "AVIF": lambda: saved("AVIF") + struct.pack(">I", 16) + b"mpvd" + bytes(8),
    },
    "other bytes behind the picture": {
        "PNG": lambda: png() + b"PK\3\4 and more",
        "JPEG": lambda: jpeg(behind=b"PK\3\4 and more"),
        "WebP": lambda: webp() + b"PK\3\4 and more",
        "AVIF": lambda: saved("AVIF") + b"PK\3\4 and more",
        "JP2": lambda: saved("JP2") + b"PK\3\4 and more",
    },
    "further pages": {"TIFF": pages},
    "reduced copies and masks of the page": {"TIFF": lambda: pages(tiffinfo={254: 1})},
    "further frames": {format: moving(format) for format in ("PNG", "WebP", "AVIF", "GIF")},
    "no mark at the end, all else there": {"JPEG": lambda: saved("JPEG")[:-2]},
    "unknown chunk, segment, tag, box": {
        "PNG": lambda: png((b"tIME", bytes(7))),
        "JPEG": lambda: jpeg((0xEC, b"Ducky\0\1")),
        "WebP": lambda: webp((b"NOTE", b"odd")),
        "AVIF": lambda: saved("AVIF") + struct.pack(">I", 12) + b"sefd1234",
        "TIFF": lambda: saved("TIFF", tiffinfo={33550: (1.0, 1.0, 0.0)}),
        "JP2": lambda: saved("JP2") + struct.pack(">I", 12) + b"xml <x/>",
    },
}
