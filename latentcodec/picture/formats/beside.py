"""What a picture's file holds beside the pixels, whatever its format: Beside.

formats/info.py: what Pillow found ──────────┐
formats/scan.py: what the file itself says ──┴─► joined ─► Beside, the file's own word before Pillow's
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import BinaryIO

from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.notices import report
from latentcodec.picture.text import Text

__all__ = ["MOST_BYTES", "PADDING", "Beside", "Resolution", "joined", "report_behind", "sound_resolution"]

Resolution = tuple[float, float]
"""Dots per inch, from left to right and from top to bottom."""

MOST_BYTES = 16 << 20  # of one kind of metadata that is taken apart: what readers of our files take
PADDING = b"\0\xff\r\n \t"  # says nothing behind the end of a picture
_MOST_DPI = 4_000_000.0  # what the file's field holds


@dataclass
class Beside:
    """What a file says beside its pixels; None, and nothing, where it does not.

    gama, chrm: of PNG, in hundred-thousandths; srgb: whether PNG says that the colours are sRGB, which goes
    before both. further: whether pictures behind this one have been reported. complete: whether nothing that
    Pillow found can add to the text.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    text: Text = ()
    iptc: bytes | None = None
    dpi: Resolution | None = None
    cicp: Cicp | None = None
    gama: int | None = None
    chrm: tuple[int, ...] | None = None
    srgb: bool = False
    further: bool = False
    complete: bool = False


def joined(own: Beside, info: Beside) -> Beside:
    """What the file says, and what Pillow does where the file is silent."""
    values = {each.name: getattr(own, each.name) or getattr(info, each.name) for each in fields(Beside)}
    return Beside(**values)


def report_behind(file: BinaryIO, place: int, name: str) -> None:
    """Report what a seekable file holds from where its picture has ended, unless it is padding."""
    size = file.seek(0, 2) - place
    file.seek(place)
    if size > 0 and file.read(MOST_BYTES).strip(PADDING):
        report(name, f"{size} bytes behind the end of the picture are left out")


def sound_resolution(across: object, down: object) -> Resolution | None:
    """Both as a resolution; None where they are none."""
    try:
        pair = float(across), float(down)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, ZeroDivisionError):
        return None
    return pair if all(math.isfinite(each) and 0 < each <= _MOST_DPI for each in pair) else None
