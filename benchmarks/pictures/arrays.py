"""A picture as an array, from Pillow and back.

Pillow image of any mode ─► to_pixels ─► uint8 (H, W, 3) ─► to_png ─► bytes of a lossless file
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentcodec.picture.picture import Pixels

__all__ = ["Floats", "Pixels", "to_pixels", "to_png"]

Floats = NDArray[np.float64]
"""Measured or computed values, of any shape."""


def to_pixels(image: Image.Image) -> Pixels:
    """A Pillow image of any mode as uint8 (H, W, 3); of 16 bits a sample, the upper eight."""
    if image.mode.startswith("I"):
        gray = np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8
        return np.repeat(gray[..., None].astype(np.uint8), 3, axis=2)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def to_png(picture: Pixels) -> bytes:
    """The picture as a PNG file, without loss."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
