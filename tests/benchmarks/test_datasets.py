"""benchmarks.datasets: which files are pictures, and how they become arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets import digest, find_pictures, is_kodak, load
from latentcodec.errors import InvalidArgument


def test_pictures_by_name(folder: Path) -> None:
    assert [path.name for path in find_pictures(folder)] == ["a.PNG", "b.png"]


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"holds no picture; looked for \.bmp, "):
        find_pictures(tmp_path)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (7, 5), (255, 255, 255)).convert(mode).save(tmp_path / "x.png")
    pixels = load(tmp_path / "x.png")
    assert (pixels.shape, pixels.dtype) == ((5, 7, 3), np.uint8)
    assert (pixels == 255).all()


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (7, 5))
    image.getexif()[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "x.jpg", exif=image.getexif())
    assert load(tmp_path / "x.jpg").shape == (7, 5, 3)


def test_digest_follows_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"2")
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_kodak_is_all_24_at_their_size() -> None:
    names = [(f"kodim{number:02}.png", 393216) for number in range(1, 25)]
    assert is_kodak(names)
    assert not is_kodak(names[:23])
    assert not is_kodak([*names, ("mine.png", 393216)])
    assert not is_kodak([*names[:23], ("kodim24.png", 100)])
