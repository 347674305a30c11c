"""What the colours of a picture mean: its profile, or one made of what its file says instead.

PNG: cICP ─► Cicp   iCCP ─► profile   sRGB ─► nothing   gAMA, cHRM ─► a profile   (the first that is there)
EXIF: Adobe RGB ─► a profile
profile ─► sound_profile ─► itself, or None and a line: broken, or of another space
profile, code points ─► profile_of ─► one profile ─► to_srgb ─► pixels for formats that hold none
"""

from __future__ import annotations

import io
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from latentcodec.picture.colour.cicp import icc_of
from latentcodec.picture.colour.icc import ADOBE_RGB, REC709, SRGB_CURVE, Chromaticities, make_profile
from latentcodec.picture.colour.points import Cicp, name_of
from latentcodec.picture.notices import report

if TYPE_CHECKING:
    from PIL import ImageCms

Pixels = npt.NDArray[np.uint8 | np.uint16]

__all__ = ["adobe_rgb_profile", "is_gray", "png_profile", "profile_of", "sound_profile", "to_srgb"]

_SRGB_GAMA = 45455  # hundred-thousandths, of 1 / 2.2: what goes with sRGB (PNG, 11.3.2.5)
_SRGB_CHRM = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)  # white, red, green, blue
_ROUNDING = 5  # hundred-thousandths that writers differ by
_ADOBE_GAMMA = 563 / 256  # Adobe RGB (1998), 4.3.4.2
_SPACES = {b"GRAY": "gray", b"RGB ": "RGB", b"CMYK": "CMYK", b"Lab ": "Lab"}  # ICC.1, 7.2.6
_MOST_TAGS = 256
_ROUNDED_16 = 64  # of 65535: what profiles of sRGB differ by, since their numbers are rounded


def png_profile(gama: int | None, chrm: tuple[int, ...] | None, gray: bool, name: str) -> bytes | None:
    """A profile of PNG's gAMA and cHRM, in hundred-thousandths; None where they say sRGB, or nothing.

    A curve alone goes with sRGB's primaries, and primaries alone with sRGB's curve. What makes no sense is
    reported.
    """
    chrm = None if gray or not chrm or _close(chrm, _SRGB_CHRM) else chrm
    if gama is not None and _close((gama,), (_SRGB_GAMA,)):
        if chrm is None:
            return None
    elif gama is None and chrm is None:
        return None
    curve = SRGB_CURVE if gama is None else 100_000 / gama if gama else 0.0
    words = "sRGB curve" if gama is None else f"gamma {curve:.4g}"
    try:
        if isinstance(curve, float) and not 0.05 <= curve <= 20:
            raise ValueError(f"the gamma would be {curve:g}")
        if chrm is None:
            return make_profile(f"PNG {words}", curve, None if gray else REC709)
        xy = [value / 100_000 for value in chrm]
        white, red, green, blue = zip(xy[::2], xy[1::2], strict=True)
        return make_profile(f"PNG {words}, primaries", curve, Chromaticities(red, green, blue, white))
    except ValueError as error:
        report(name, f"its gAMA and cHRM make no colour space ({error}): the colours count as sRGB")
        return None


def _close(values: tuple[int, ...], others: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= _ROUNDING for a, b in zip(values, others, strict=True))


def adobe_rgb_profile() -> bytes:
    """What EXIF means by InteroperabilityIndex R03 (DCF 2.0)."""
    return make_profile("Adobe RGB (1998) by EXIF", _ADOBE_GAMMA, ADOBE_RGB)


def is_gray(profile: bytes | None) -> bool:
    """Whether a profile is for gray, by its header."""
    return profile is not None and _SPACES.get(profile[16:20]) == "gray"


def sound_profile(profile: bytes | None, gray: bool, name: str) -> bytes | None:
    """The profile of a picture's colours; None, and a report, where it is broken or of another space."""
    if not profile:
        return None
    kind = "gray" if gray else "RGB"
    space = _SPACES.get(profile[16:20], "another space")
    problem = _structure(profile)
    if not problem and space != kind:
        report(name, f"its ICC profile is for {space}, the picture is {kind}: it is dropped")
        return None
    problem = problem or _unusable(profile, gray)
    if problem:
        report(name, f"its ICC profile is broken ({problem}): it is dropped, and the colours count as sRGB")
        return None
    return profile


def _structure(profile: bytes) -> str:
    """What is wrong with a profile's header or the places of its tags, in words (ICC.1, 7.2 and 7.3)."""
    size = len(profile)
    if size < 132 or profile[36:40] != b"acsp":
        return f"{size} bytes without a profile's signature"
    claimed, count = int.from_bytes(profile[:4], "big"), int.from_bytes(profile[128:132], "big")
    if claimed > size:
        return f"it claims {claimed} bytes and has {size}"
    if count > _MOST_TAGS or 132 + 12 * count > size:
        return f"it claims {count} tags"
    for place in range(132, 132 + 12 * count, 12):
        begin, length = (int.from_bytes(profile[at : at + 4], "big") for at in (place + 4, place + 8))
        if begin + length > size:
            return f"a tag ends at byte {begin + length}, there are {size}"
    return ""


def _unusable(profile: bytes, gray: bool) -> str:
    """What littleCMS says against the profile, in words; nothing where Pillow was built without it."""
    try:
        _transform(profile, gray, quick=True)
    except ImportError:
        return ""
    except Exception as error:  # noqa: BLE001 - by its documentation PyCMSError, but OSError and others, too
        return str(error) or "it cannot be used"
    return ""


def _transform(profile: bytes, gray: bool, *, quick: bool = False) -> ImageCms.ImageCmsTransform:
    """littleCMS's transform of 8-bit samples to sRGB (gray: to its curve). Raises what Pillow raises."""
    from PIL import ImageCms

    mode = "L" if gray else "RGB"
    target = ImageCms.ImageCmsProfile(io.BytesIO(make_profile("sRGB", SRGB_CURVE, None if gray else REC709)))
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if quick or gray:  # with its short cuts littleCMS is up to 4 % off for dark gray
        flags |= ImageCms.Flags.NOOPTIMIZE
    return ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        target,
        mode,
        mode,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=flags,
    )


def _converted(pixels: Pixels, profile: bytes) -> Pixels:
    """By littleCMS: Pillow's for 8 bits, that of imagecodecs for 16. Raises what these raise."""
    gray = pixels.ndim == 2
    if pixels.dtype == np.uint8:
        transform = _transform(profile, gray)
        from PIL import ImageCms

        return np.array(ImageCms.applyTransform(Image.fromarray(pixels), transform))
    cms: Any = import_module("imagecodecs")
    space = "gray" if gray else "rgb"
    converted: Pixels = cms.cms_transform(
        pixels,
        profile,
        make_profile("sRGB", SRGB_CURVE, None if gray else REC709),
        colorspace=space,
        outcolorspace=space,
        intent=cms.CMS.INTENT.RELATIVE_COLORIMETRIC,
        flags=cms.CMS.FLAGS.BLACKPOINTCOMPENSATION | cms.CMS.FLAGS.NOOPTIMIZE,  # or dark gray is 4 % off
    )
    return converted


def profile_of(profile: bytes | None, cicp: Cicp | None, gray: bool) -> bytes | None:
    """The profile, or one that says what the code points do; None: sRGB, or code points that none can say."""
    return profile if profile is not None or cicp is None else icc_of(cicp, gray)


def to_srgb(pixels: Pixels, profile: bytes | None, cicp: Cicp | None, kind: str, name: str) -> Pixels:
    """Colours (H, W, 3), or gray (H, W), in sRGB, for a format `kind` that holds no profile; with a report.

    Of 8 bits, or of 16 where imagecodecs is there. Pixels that conversion leaves as they are come back
    themselves.

    Where they cannot be converted they stay as they are, which is reported instead.
    """
    meaning = name_of(cicp) if cicp is not None and profile is None else "its profile"
    found = profile_of(profile, cicp, pixels.ndim == 2)
    try:
        if found is None:
            raise ValueError("no profile says it")
        converted = _converted(np.ascontiguousarray(pixels), found)
    except Exception as error:  # noqa: BLE001 - as in _unusable; and Pillow may lack littleCMS
        report(name, f"{kind} can hold no profile, and colours of {meaning} cannot be converted ({error})")
        return pixels
    most = np.abs(converted.astype(np.int32) - pixels).max()
    if most <= (0 if pixels.dtype == np.uint8 else _ROUNDED_16):  # sRGB by another name
        return pixels
    report(name, f"{kind} can hold no profile: colours are converted from {meaning} to sRGB")
    return converted
