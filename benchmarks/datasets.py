"""A folder of pictures as 8-bit RGB arrays.

folder ─► find_pictures ─► names, in order ─► load ─► uint8 (H, W, 3)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from latentcodec.errors import InvalidArgument

__all__ = ["Pixels", "digest", "find_pictures", "is_kodak", "load", "to_pixels"]

Pixels = NDArray[np.uint8]
"""A picture: (height, width, 3), RGB, 0..255."""

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
KODAK_PIXELS = 768 * 512


def find_pictures(folder: Path) -> list[Path]:
    """The pictures that lie in `folder` itself, by name. Raises InvalidArgument if there are none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InvalidArgument(f"{folder} holds no picture; looked for {', '.join(sorted(SUFFIXES))}")
    return found


def load(path: Path) -> Pixels:
    """The picture at `path`, upright, gray replicated, transparency dropped. Raises what Pillow raises."""
    with Image.open(path) as image:
        return to_pixels(ImageOps.exif_transpose(image))


def to_pixels(image: Image.Image) -> Pixels:
    """A Pillow image of any mode as uint8 (H, W, 3)."""
    return np.array(image.convert("RGB"), dtype=np.uint8)


def digest(path: Path) -> str:
    """Names the file's contents: the first 16 hex digits of their SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def is_kodak(pictures: Iterable[tuple[str, int]]) -> bool:
    """Whether these (file name, pixels) are the 24 Kodak pictures, for which there are published curves."""
    names = {f"kodim{number:02}" for number in range(1, 25)}
    return {(Path(name).stem, pixels) for name, pixels in pictures} == {
        (name, KODAK_PIXELS) for name in names
    }
