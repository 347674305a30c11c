"""What Pillow found beside the pixels of an image that it opened, or that somebody made in memory.

image.info, image.text, the tags of a TIFF, the resources of a PSD ─► read_info ─► Beside
"""

from __future__ import annotations

from typing import Any

from PIL import Image

from latentcodec.picture.colour.points import Cicp
from latentcodec.picture.formats.beside import Beside, Resolution, joined, sound_resolution
from latentcodec.picture.formats.photoshop import iptc_of
from latentcodec.picture.formats.png import RAW_PROFILE, take_raw_profile
from latentcodec.picture.formats.tiff import read_psd, read_tags
from latentcodec.picture.text import Text, bounded, decoded

__all__ = ["read_info"]

_XMP = "XML:com.adobe.xmp"
_ENCODERS = ("Created by OpenJPEG", "Creator: JasPer", "Kakadu")  # comments that encoders make on themselves


def read_info(image: Image.Image, name: str, *, text: bool = True) -> Beside:
    """What Pillow knows of a loaded image, without `text` all else; what is not kept is reported."""
    info, tagged = image.info, hasattr(image, "tag_v2")
    resources = info.get("photoshop")
    iptc = resources.get(0x0404) if isinstance(resources, dict) else info.get("iptc")
    cicp, profile = info.get("cicp"), info.get("icc_profile")
    said = Beside(
        profile=profile if isinstance(profile, bytes) else None,
        iptc=iptc_of(iptc) if isinstance(iptc, bytes) else None,
        dpi=None if tagged else _resolution(info),
        cicp=Cicp(*cicp) if isinstance(cicp, tuple) and len(cicp) == 4 else None,
        gama=_hundred_thousandths(info.get("gamma")),
        chrm=_chrm(info.get("chromaticity")),
        srgb="srgb" in info,
    )
    said.text = _text(image, said, name) if text else ()
    if tagged:
        return joined(read_tags(image, name), said)
    return joined(read_psd(image, name), said) if image.format == "PSD" else said


def _text(image: Image.Image, said: Beside, name: str) -> Text:
    """Text of a PNG, or as `to_pillow` gives it, and comments of other formats."""
    found = image.info.get("text")
    if not isinstance(found, tuple):
        found = tuple(getattr(image, "text", {}).items()) if image.format == "PNG" else ()
    pairs = []
    for key, value in ((str(key), str(value)) for key, value in found):
        if key.startswith(RAW_PROFILE):
            take_raw_profile(said, key, value, name)
        elif key != _XMP:
            pairs.append((key, value))
    comment = image.info.get("comment")
    if isinstance(comment, bytes | str) and image.format != "PNG":
        words = decoded(comment) if isinstance(comment, bytes) else comment
        if words and not words.startswith(_ENCODERS):
            pairs.append(("Comment", words))
    return bounded(pairs, name)


def _resolution(info: dict[Any, Any]) -> Resolution | None:
    dpi = info.get("dpi")
    invented = "jfif_unit" in info and info["jfif_unit"] not in (1, 2)  # of EXIF, which has it itself, or 72
    if invented or not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    return sound_resolution(*dpi)


def _hundred_thousandths(value: object) -> int | None:
    return round(value * 100_000) if isinstance(value, float) and 0 <= value < 40_000 else None


def _chrm(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, tuple) or len(value) != 8:
        return None
    whole = tuple(_hundred_thousandths(each) for each in value)
    return None if None in whole else whole  # type: ignore[return-value]
