"""What the tags of a TIFF hold beside its pixels; Photoshop's resources of a PSD.

Pillow's tags ─► IPTC, resolution ─► Beside; a report of what is neither kept nor about the file's own making
"""

from __future__ import annotations

import struct
from typing import Any

from PIL import Image, TiffTags

from latentcodec.picture.formats.beside import Beside, sound_resolution
from latentcodec.picture.formats.photoshop import IPTC, iptc_of, left_out
from latentcodec.picture.notices import report

__all__ = ["DESCRIPTIVE", "OF_THE_FILE", "read_psd", "read_tags"]

_IPTC, _PHOTOSHOP, _X_RESOLUTION, _UNIT = 33723, 34377, 282, 296
# Tags that describe the picture and not how its pixels lie in the file (TIFF 6.0, Exif 2.32, XP* by
# Microsoft): they become EXIF.
DESCRIPTIVE = frozenset(
    {
        *(0x010D, 0x010E, 0x010F, 0x0110),  # DocumentName, ImageDescription, Make, Model
        *(0x011A, 0x011B, 0x011D, 0x0128),  # XResolution, YResolution, PageName, ResolutionUnit
        *(0x0131, 0x0132, 0x013B, 0x013C),  # Software, DateTime, Artist, HostComputer
        *(0x4746, 0x4749, 0x8298),  # Rating, RatingPercent, Copyright
        *(0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F),  # XPTitle, XPComment, XPAuthor, XPKeywords, XPSubject
        *(0x8769, 0x8825),  # the directories of EXIF and GPS
    }
)
# How pixels lie in the file (TIFF 6.0, with JPEG and tiles), and what is kept by other ways: XMP, profile,
# IPTC and Photoshop's resources.
OF_THE_FILE = frozenset(
    {
        *range(254, 267),
        *(269, 273, 274, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292, 293, 297),
        *(301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 332, 334, 336, 338, 339, 340, 341, 347),
        *range(512, 522),
        *range(529, 533),
        *(700, _IPTC, _PHOTOSHOP, 34675),
    }
)


def read_tags(image: Image.Image, name: str) -> Beside:
    """What the tags of an opened TIFF say; what is not kept of them is reported."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    said, blocks = Beside(), _bytes(tags, _PHOTOSHOP)
    said.iptc = iptc_of(_bytes(tags, _IPTC)) or iptc_of(blocks)
    if lost := left_out(blocks):
        report(name, lost)
    dpi = image.info.get("dpi")
    if tags.get(_UNIT, 2) in (2, 3) and _X_RESOLUTION in tags and isinstance(dpi, tuple):
        said.dpi = sound_resolution(*dpi)
    unknown = sorted(tag for tag in tags if tag not in DESCRIPTIVE | OF_THE_FILE)
    if unknown:
        shown = ", ".join(f"{tag} ({TiffTags.lookup(tag).name})" for tag in unknown[:6])
        report(name, f"its TIFF tags {shown}{' ...' if len(unknown) > 6 else ''} are left out")
    return said


def _bytes(tags: Any, tag: int) -> bytes:
    """The bytes of a tag, which some write as whole numbers."""
    value = tags.get(tag, b"")
    if isinstance(value, tuple) and all(isinstance(each, int) and 0 <= each < 1 << 32 for each in value):
        order = "<" if tags.prefix == b"II" else ">"
        return struct.pack(f"{order}{len(value)}I", *value)
    return value if isinstance(value, bytes) else b""


def read_psd(image: Image.Image, name: str) -> Beside:
    """What the resources of an opened PSD say: IPTC, EXIF, XMP; what is not kept of them is reported."""
    said = Beside()
    blocks = [(number, data) for number, _, data in getattr(image, "resources", ())]
    for number, data in blocks:
        if number == IPTC:
            said.iptc = iptc_of(data)
        elif number == 0x0422:
            said.exif = data
        elif number == 0x0424:
            said.xmp = data
        elif number == 0x03ED and len(data) >= 12:  # 16.16 dots per inch, whatever unit is displayed
            across, down = struct.unpack(">I4xI", data[:12])
            said.dpi = sound_resolution(across / 65536, down / 65536)
    if lost := left_out(blocks):
        report(name, lost)
    return said
