"""The samples of a Pillow image of any mode as 8-bit planes.

I;16, I, F ─────────────────────► scaled and rounded to 8 bits ─► gray      (with a ReducedDepthWarning)
1, L, LA, La ───────────────────────────────────────────────────► gray
P, PA, RGBa, YCbCr, HSV, RGBX ... ─► Pillow's conversion ───────► RGB
CMYK ─► its ICC profile, else Pillow's formula ─────────────────► RGB
alpha: from the image, or from a transparent colour (PNG's tRNS)
"""

from __future__ import annotations

import io
import re

import numpy as np
import numpy.typing as npt
from PIL import Image

from latentcodec.errors import UnsupportedImage
from latentcodec.picture.notices import ReducedDepthWarning, report

__all__ = ["Plane", "ReducedDepthWarning", "stored_depth", "to_planes"]

Plane = npt.NDArray[np.uint8]
"""8-bit samples: one channel (height, width), or several (height, width, channels)."""
AnyPlane = npt.NDArray[np.generic]

_TRUE_16_BIT = re.compile(r"^I;16|;16[BLN]$")  # raw modes; "BGR;16" and "RGB;16" are 5-6-5 bits
_GRAY_STEP = {
    "L;2": 85,
    "L;4": 17,
}  # Pillow scales these samples to 8 bits but leaves their tRNS value as it is


def stored_depth(image: Image.Image) -> tuple[str, int | None]:
    """What the file of an image not yet loaded holds: Pillow's raw mode ("" if not known), and the largest
    value that a sample can have (None: 255, or not known)."""
    tiles = getattr(image, "tile", None)
    if not tiles:
        return "", None
    decoder, arguments = tiles[0][0], tiles[0][3]
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    rawmode = arguments[0] if arguments and isinstance(arguments[0], str) else ""
    deep_ppm = decoder in ("ppm", "ppm_plain") and isinstance(arguments[-1], int) and arguments[-1] > 255
    if deep_ppm or decoder == "SGI16" or _TRUE_16_BIT.search(rawmode):
        return rawmode, 65535
    return rawmode, 4095 if rawmode == "I;12" else None


def to_planes(image: Image.Image, rawmode: str, peak: int | None, name: str) -> tuple[Plane, Plane | None]:
    """Gray (H, W) or RGB (H, W, 3), and the alpha plane (H, W) or None, of a loaded image.

    `rawmode` and `peak` are what `stored_depth` said before it was loaded. Raises UnsupportedImage for
    samples outside every scale and for a mode that Pillow cannot convert.
    """
    mode, key = image.mode, image.info.get("transparency")
    if mode in ("I", "F") or mode.startswith("I;16"):
        samples = np.asarray(image)
        white = peak or (65535 if mode.startswith("I;16") else None)
        return _reduce(samples, white, mode, name), _gray_key(samples, key)
    if peak:
        report(name, "it has more than 8 bits a channel: they are reduced to 8", ReducedDepthWarning)
    if mode == "1":
        gray = np.array(image.convert("L"))
        return gray, _gray_key(gray, bool(key), 255) if isinstance(key, int) else None  # 1 or 255 is white
    if mode == "L":
        gray = np.array(image)
        return gray, _gray_key(gray, key, _GRAY_STEP.get(rawmode, 1))
    if mode in ("LA", "La") or rawmode.startswith("LA;16"):  # the last is RGBA to Pillow
        both = np.asarray(image.convert("LA") if mode == "La" else image)
        return both[..., 0], both[..., -1]
    if mode in ("P", "PA", "RGBA", "RGBa") and image.has_transparency_data:
        rgba = np.asarray(_converted(image, "RGBA", name))
        return rgba[..., :3], rgba[..., 3]
    rgb = np.array(_cmyk_to_rgb(image, name) if mode == "CMYK" else _converted(image, "RGB", name))
    if mode == "RGB" and isinstance(key, tuple) and len(key) == 3:
        # Of 16-bit samples Pillow hands out the upper bytes, so those are compared.
        return rgb, _opaque_unless((rgb == [(sample >> 8 if peak else sample) for sample in key]).all(axis=2))
    return rgb, None


def _gray_key(samples: AnyPlane, key: object, step: int = 1) -> Plane | None:
    """Alpha for a transparent gray value, in the samples' own scale once multiplied by `step`."""
    return _opaque_unless(samples == key * step) if isinstance(key, int) else None


def _opaque_unless(transparent: npt.NDArray[np.bool_]) -> Plane:
    return np.where(transparent, np.uint8(0), np.uint8(255))


def _reduce(samples: AnyPlane, peak: int | None, mode: str, name: str) -> Plane:
    """Integer or float samples (H, W) to 0 ... 255, rounded to nearest; `peak` is white, where known."""
    low, high = float(samples.min()), float(samples.max())
    if not 0 <= low <= high <= 65535:  # NaN, too, is not
        raise UnsupportedImage(
            f"{name}: its mode {mode} samples run from {low:g} to {high:g}: scale them to 0 ... 255 first"
        )
    whole = samples.dtype.kind != "f" or bool((np.rint(samples) == samples).all())
    if peak is None and high <= 255 and whole:
        return samples.astype(np.uint8)
    white = peak or (1 if high <= 1 else 255 if high <= 255 else 65535)
    report(name, f"its mode {mode}, taken as 0 ... {white}, is reduced to 8 bits", ReducedDepthWarning)
    if samples.dtype.kind == "f":
        return np.rint(samples.astype(np.float64) * (255 / white)).astype(np.uint8)
    wide = np.minimum(samples.astype(np.uint32), white)
    return ((wide * 255 + white // 2) // white).astype(np.uint8)


def _converted(image: Image.Image, mode: str, name: str) -> Image.Image:
    try:
        return image.convert(mode)
    except (ValueError, ImportError) as error:  # LAB needs a Pillow with LittleCMS
        raise UnsupportedImage(
            f"{name}: Pillow cannot convert mode {image.mode} to {mode} ({error})"
        ) from error


def _cmyk_to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Through the picture's own profile to sRGB; by Pillow's formula if there is none, or a broken one."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    try:
        from PIL import ImageCms  # Pillow may have been built without LittleCMS: then the first call raises

        converted = ImageCms.profileToProfile(
            image,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception as error:  # noqa: BLE001 - by its documentation PyCMSError, but OSError and others, too
        report(name, f"its CMYK profile cannot be used ({error}): colours are converted without it")
        return image.convert("RGB")
    return image.convert("RGB") if converted is None else converted  # None only when done in place
