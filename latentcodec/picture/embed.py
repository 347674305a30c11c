"""What stands beside the pixels, put where each format has a place for it; the rest is reported in one line.

Picture, format ─► prepared ─► Picture (in sRGB where there is no place for a profile), options of Image.save
bytes that Pillow wrote ─► finished ─► with what Pillow cannot write: boxes of JPEG 2000, code points of AVIF
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image, TiffTags

from latentcodec.picture.colour.points import name_of
from latentcodec.picture.colour.profiles import profile_of, to_srgb
from latentcodec.picture.deep_reading import EXTRA
from latentcodec.picture.formats.beside import Resolution
from latentcodec.picture.formats.boxes import with_jp2_boxes, with_nclx
from latentcodec.picture.formats.exif import resolution_of, without_orientation
from latentcodec.picture.formats.jpeg import jpeg_extra
from latentcodec.picture.formats.png import png_info
from latentcodec.picture.formats.tiff import DESCRIPTIVE, OF_THE_FILE
from latentcodec.picture.metadata import picture_tags, sound_exif
from latentcodec.picture.notices import ReducedDepthWarning, report
from latentcodec.picture.picture import Picture, with_depth
from latentcodec.picture.samples import MAX_DEPTH

__all__ = ["PLACES", "finished", "prepared"]

PLACES: dict[str, frozenset[str]] = {
    "PNG": frozenset({"profile", "cicp", "exif", "xmp", "text", "iptc", "dpi"}),
    "JPEG": frozenset({"profile", "exif", "xmp", "text", "iptc", "dpi"}),  # of text: comments
    "WEBP": frozenset({"profile", "exif", "xmp"}),
    "AVIF": frozenset({"profile", "cicp", "exif", "xmp"}),
    "TIFF": frozenset({"profile", "exif", "xmp", "iptc", "dpi"}),
    "JPEG2000": frozenset({"profile", "exif", "xmp", "iptc", "dpi"}),
    "TGA": frozenset(),
    "BMP": frozenset({"dpi"}),
    "PPM": frozenset(),
}
"""What each format that is written has a place for, by the fields of Picture."""

_XMP_TAG, _IPTC_TAG = 0x02BC, 0x83BB  # in TIFF
_MARKER = 65533  # the most bytes that a JPEG marker segment holds
_MOST_DOTS = 65535  # an inch, in JPEG


def prepared(picture: Picture, kind: str, name: str) -> tuple[Picture, dict[str, Any]]:
    """The picture that a format is to hold, and what `Image.save` takes to write what stands beside it.

    What the format has no place for is reported for the picture `name`.
    """
    picture = replace(picture, exif=sound_exif(picture.exif, name))
    picture = _coloured(picture, kind, name)
    if picture.dpi is None and "exif" not in PLACES[kind]:
        picture = replace(picture, dpi=resolution_of(picture.exif))
    picture = _without_place(picture, kind, name)
    options: dict[str, Any] = {"icc_profile": picture.profile} if picture.profile else {}
    if picture.dpi and kind != "JPEG2000":
        options["dpi"] = _dots(picture.dpi) if kind == "JPEG" else picture.dpi
    if kind == "BMP":
        options.setdefault("dpi", (0, 0))  # Pillow would claim 96
    exif = b"Exif\0\0" + picture.exif if picture.exif else b""
    xmp = picture.xmp or b""
    if kind == "TIFF":
        tags = _parsed(exif, kind, name) or Image.Exif()
        for tag, value in ((_XMP_TAG, xmp), (_IPTC_TAG, picture.iptc)):
            if value:
                tags[tag] = value
        return picture, options | {"exif": tags}
    if kind == "JPEG2000":
        return picture, {}
    if kind == "AVIF" and picture.exif:  # Pillow would make EXIF anew that has an orientation
        whole = _parsed(exif, kind, name) is not None
        exif = b"Exif\0\0" + without_orientation(picture.exif) if whole else b""
    if kind == "JPEG":
        if len(exif) > _MARKER:
            report(name, f"{len(exif)} bytes of EXIF are dropped, JPEG holds at most {_MARKER}")
            exif = b""
        xmp, options["extra"] = jpeg_extra(xmp, picture.text, picture.iptc, name)
    if kind == "PNG":
        options["pnginfo"] = png_info(xmp, picture.text, picture.iptc, picture.cicp, name)
        xmp = b""
    return picture, options | ({"exif": exif} if exif else {}) | ({"xmp": xmp} if xmp else {})


def finished(data: bytes, picture: Picture, kind: str) -> bytes:
    """The file that Pillow wrote, with what Pillow cannot write of a prepared picture."""
    if kind == "AVIF" and picture.cicp is not None:
        return with_nclx(data, picture.cicp)
    if kind == "JPEG2000":
        return with_jp2_boxes(data, picture.profile, picture.exif, picture.xmp, picture.iptc, picture.dpi)
    return data


def _coloured(picture: Picture, kind: str, name: str) -> Picture:
    """The picture with its colours said as the format can: code points, a profile, or sRGB pixels."""
    profile, cicp, gray = picture.profile, picture.cicp, picture.gray
    if (profile is None and cicp is None) or "cicp" in PLACES[kind]:
        return picture
    found = profile_of(profile, cicp, gray)
    if "profile" in PLACES[kind] and not (gray and kind == "WEBP"):  # WebP's pixels are always RGB
        if found is None and cicp is not None:
            report(name, f"{kind} has no place for code points, and no profile says {name_of(cicp)}")
        return replace(picture, profile=found, cicp=None)
    bare = replace(picture, profile=None, cicp=None)
    if picture.bit_depth > 8:
        deep = kind == "PPM" and find_spec("imagecodecs") is not None
        if not deep:
            words = f"{kind} has 8 bits a channel, the picture's {picture.bit_depth} are rounded"
            if kind == "PPM":
                words = (
                    f"its {picture.bit_depth} bits a channel are converted to sRGB in 8: {EXTRA} does in 16"
                )
            report(name, words, ReducedDepthWarning)
        picture = with_depth(picture, MAX_DEPTH if deep else 8)
        bare = bare if deep else with_depth(bare, 8)
    samples = picture.pixels[..., 0] if gray else picture.pixels
    planes = to_srgb(samples, profile, cicp, kind, name)
    if planes is samples:  # it is sRGB already, or cannot be converted
        return bare
    pixels = np.repeat(planes[..., None], 3, axis=2) if gray else planes
    return replace(picture, pixels=pixels, profile=None, cicp=None)


def _without_place(picture: Picture, kind: str, name: str) -> Picture:
    """The picture without what the format has no place for, which one report names."""
    places, gone = PLACES[kind], dict[str, str]()
    for field, words in (("exif", "EXIF"), ("xmp", "XMP"), ("iptc", "IPTC")):
        if getattr(picture, field) and field not in places:
            gone[field] = words
    if picture.text and "text" not in places:
        keys = list(dict.fromkeys(key for key, _ in picture.text))
        shown = ", ".join(repr(key[:40]) for key in keys[:6])
        gone["text"] = f"text ({shown}{' ...' if len(keys) > 6 else ''})"
    in_exif = "exif" in places and picture.dpi and _same(picture.dpi, resolution_of(picture.exif))
    if picture.dpi and "dpi" not in places and not in_exif:
        across, down = picture.dpi
        gone["dpi"] = f"a resolution ({across:g}{'' if across == down else f' x {down:g}'} dpi)"
    if gone:
        report(name, f"{kind} has no place for {', '.join(gone.values())}: left out")
    empty: dict[str, Any] = {field: () if field == "text" else None for field in gone}
    return replace(picture, **empty)


def _same(dpi: Resolution, other: Resolution | None) -> bool:
    return other is not None and all(abs(a - b) <= a / 100 for a, b in zip(dpi, other, strict=True))


def _dots(dpi: Resolution) -> tuple[int, int]:
    across, down = (min(max(1, round(each)), _MOST_DOTS) for each in dpi)
    return across, down


def _parsed(exif: bytes, kind: str, name: str) -> Image.Exif | None:
    """The tags for a format whose writer takes EXIF apart; None if there are none, or damaged ones."""
    if not exif:
        return None
    tags = Image.Exif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of damage and goes on, with half of a directory
            tags.load(exif)
            described = picture_tags(tags)
    except Exception as error:  # noqa: BLE001 - Pillow's EXIF parser raises almost anything on damaged data
        report(name, f"the EXIF is too damaged for {kind} ({error}) and is dropped")
        return None
    lost = sorted(tag for tag in tags if tag not in DESCRIPTIVE | OF_THE_FILE)
    if kind == "TIFF" and lost:
        shown = ", ".join(f"{tag} ({TiffTags.lookup(tag).name})" for tag in lost[:6])
        report(name, f"the EXIF's tags {shown}{' ...' if len(lost) > 6 else ''} are left out in a TIFF")
    return described
