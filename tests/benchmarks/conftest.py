"""A small picture with something in it, a folder of such pictures, and a codec that costs no time."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures.arrays import Pixels


def make_picture(height: int = 96, width: int = 112, seed: int = 0) -> Pixels:
    """A gradient, some edges, a patch of noise at the lower right."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 / width, y * 255 / height, (x + y + 40 * seed) % 256], axis=2)
    picture[height // 4 : height // 2, width // 4 : width // 2] = (200, 30, 30)
    patch = picture[height * 5 // 8 :, width * 5 // 8 :]
    patch += random.normal(0, 60, patch.shape)
    return picture.clip(0, 255).astype(np.uint8)


class Coarse:
    """A codec of the tests: drops low bits and deflates. At setting `broken` it fails."""

    name = "coarse"
    version = "1"
    suffix = ".coarse"
    settings: tuple[float, ...] = (1, 2, 3, 4, 5, 6)

    def __init__(self, broken: float | None = None) -> None:
        self.broken = broken
        self.encoded: list[float] = []

    def encode(self, picture: Pixels, setting: float) -> bytes:
        if setting == self.broken:
            raise RuntimeError("out of order")
        self.encoded.append(setting)
        step = 2 ** (7 - int(setting))
        coarse = (picture // step * step + step // 2).astype(np.uint8)
        return bytes([picture.shape[0], picture.shape[1]]) + zlib.compress(coarse.tobytes())

    def decode(self, data: bytes) -> Pixels:
        return np.frombuffer(zlib.decompress(data[2:]), np.uint8).reshape(data[0], data[1], 3)


def psnr(reference: Pixels, distorted: Pixels) -> float:
    error = np.mean((reference.astype(float) - distorted.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


@pytest.fixture
def picture() -> Pixels:
    return make_picture()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, and a text file that is none."""
    place = tmp_path / "photographs"
    place.mkdir()
    for index, name in enumerate(("b.png", "a.PNG")):
        Image.fromarray(make_picture(seed=index)).save(place / name)
    (place / "SOURCES.md").write_text("made here")
    return place
