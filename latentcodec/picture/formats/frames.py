"""Which of a file's pictures is the picture, and its pixels loaded.

Pillow image ─► choose_frame ─► pages of a TIFF, other pictures of a MPO ...: the first, and a line
                     └────────► an animation: an error, or its first frame where the caller says so
             ─► load_pixels ─► closed: an error     JPEG without its end mark: whole? ─► taken, and a line
"""

from __future__ import annotations

import io
import random
import re
from itertools import islice

from PIL import Image

from latentcodec.errors import LimitExceeded, UnsupportedImage
from latentcodec.picture.directories import excess, page_kinds
from latentcodec.picture.notices import report

__all__ = ["CLOSED", "choose_frame", "load_pixels"]

CLOSED = "Operation on closed image"  # as Pillow says it, in a ValueError

# Formats whose further "frames" are no animation: the first is the picture.
_FIRST_IS_THE_PICTURE = {"MPO": "secondary pictures", "PSD": "layers", "HEIF": "further pictures"}
_MOST_FRAMES = 1000  # that are counted
_LATEST_PAGE = 8  # copies that may stand before the first page of a TIFF
_END = b"\xff\xd9"  # JPEG's EOI
_RESTARTS = b"\xff\xdd"  # DRI: there are marks between parts of a scan
_SCAN = re.compile(rb"\xff\xda\x00(.)(.)", re.DOTALL)  # SOS: its length, its components
_MOST_SCANS = 1000  # that are looked at; writers make some ten
_TRIED = 6  # ways to go on; each costs a decoding
_FILLER = 128  # bytes


def choose_frame(image: Image.Image, name: str, *, first: bool = False, told: bool = False) -> None:
    """Leave an image not yet loaded at the picture that is to be stored.

    A frame that the caller has sought is taken. Else it is the first page of a TIFF that is no reduced copy
    of another, and the main picture of formats that hold further ones, which is reported unless it was `told`
    already. Of an animation it is the first frame, with a report too, where `first` says so. Raises
    UnsupportedImage for other animations, LimitExceeded for a TIFF whose tags claim too much.
    """
    if hasattr(image, "tag_v2"):
        _choose_page(image, name)
        return
    frames = int(getattr(image, "n_frames", 1))
    extra = _FIRST_IS_THE_PICTURE.get(image.format or "")
    if frames <= 1 or (image.tell() and image.format != "HEIF"):  # which is at its primary picture
        return
    count = f"over {_MOST_FRAMES}" if frames > _MOST_FRAMES else str(frames)
    if extra is not None:
        if not told:
            report(name, f"only its main picture is kept, not its {extra}")
    elif first:
        report(name, f"only the first of its {count} frames is kept")
    else:
        raise UnsupportedImage(
            f"{name} holds {count} frames, and animations cannot be stored: save one frame as a picture, or "
            "take the first (--first-frame, first_frame=True)"
        )


def _choose_page(image: Image.Image, name: str) -> None:
    """Seek a TIFF's first page. Its pages are counted here: that takes Pillow quadratic time."""
    file = getattr(image, "fp", None)
    if file is None and getattr(image, "tile", None):
        raise ValueError(CLOSED)  # for which Pillow has no words here
    if file is None or image.tell():
        return
    kinds = page_kinds(file, _MOST_FRAMES + 1)
    pages = [number for number, is_page in enumerate(kinds) if is_page]
    first = pages[0] if pages and pages[0] < _LATEST_PAGE else 0
    for page in range(first + 1):  # Pillow takes all of them apart on its way
        if problem := excess(file, page):
            raise LimitExceeded(f"{name}: {problem}")
    image.seek(first)
    if len(pages) > 1:
        count = f"over {_MOST_FRAMES}" if len(kinds) > _MOST_FRAMES else str(len(pages))
        report(name, f"only the first of its {count} pages is kept")


def load_pixels(image: Image.Image, name: str) -> Image.Image:
    """The image with its pixels loaded; another one where a JPEG lacks its end mark and nothing else.

    Raises what Pillow raises for a closed image or a damaged one.
    """
    try:
        image.load()
    except (AssertionError, AttributeError) as error:  # of formats that have no words for it
        raise ValueError(CLOSED) if getattr(image, "fp", image) is None else error from error
    except OSError:
        whole = _with_end(image)
        if whole is None:
            raise
        report(name, "the mark of a JPEG's end is missing from it; the picture itself is whole")
        return whole
    return image


def _with_end(image: Image.Image) -> Image.Image | None:
    """A JPEG that cannot be read, with an end mark; None where that is not all that it lacks.

    A decoder passes over what stands before the mark only where it has all that it needs. Else it takes it
    for coefficients, or for the next part where the picture has marks between parts: then pixels differ.
    """
    file = getattr(image, "fp", None)
    if image.format != "JPEG" or file is None:
        return None
    file.seek(0)
    begun = file.read().removesuffix(_END[:1])
    chance = random.Random(0)
    fillers = [chance.randbytes(_FILLER).replace(b"\xff", b"\xfe") for _ in range(_TRIED)]
    if not _scans_are_there(begun, int(getattr(image, "layers", 0))):
        return None
    if _RESTARTS in begun:
        fillers += [bytes((0xFF, mark)) + fillers[mark % _TRIED] for mark in range(0xD0, 0xD8)]
    try:
        whole = _decoded(begun + _END)
        pixels = whole.tobytes()
        if all(_decoded(begun + filler + _END).tobytes() == pixels for filler in fillers):
            return whole
    except (OSError, SyntaxError):
        pass
    return None


def _scans_are_there(data: bytes, components: int) -> bool:
    """Whether every coefficient of every component has its last bit in some scan (ITU-T T.81, B.2.3,
    G.1.1)."""
    needed = 64 * components
    covered: set[tuple[int, int]] = set()
    for scan in islice(_SCAN.finditer(data), _MOST_SCANS):
        length, count = scan[1][0], scan[2][0]
        begin, end = scan.end(), scan.end() + 2 * count
        if length == 6 + 2 * count <= 14 and end + 3 <= len(data) and not data[end + 2] & 15:
            places = range(data[end], min(data[end + 1], 63) + 1)
            covered |= {(name, place) for name in data[begin:end:2] for place in places}
    return len(covered) >= needed


def _decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["JPEG"])
    image.load()
    return image
