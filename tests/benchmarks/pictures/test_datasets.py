"""pictures.datasets: which files are pictures, and how they become arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures.datasets import (
    DATA_SETS,
    digest,
    find_data_set,
    find_pictures,
    is_kodak,
    load,
    sha256,
)
from latentcodec.errors import InvalidArgument


def test_pictures_by_name(folder: Path) -> None:
    assert [path.name for path in find_pictures(folder)] == ["a.PNG", "b.png"]


def test_a_folder_is_a_data_set(folder: Path) -> None:
    data = find_data_set(str(folder))
    assert (data.name, [path.name for path in data.pictures]) == ("photographs", ["a.PNG", "b.png"])


def test_the_default_is_there_without_a_network() -> None:
    names = [path.name for path in find_data_set().pictures]
    assert names == sorted(set(names))
    assert {"astronaut.png", "badge.png", "chelsea.png", "coffee.png"} < set(names)  # samples/
    assert {"camera.png", "rocket.jpg"} < set(names)  # scikit-image's
    assert all(load(path).ndim == 3 for path in find_data_set().pictures)


def test_names_stand_for_folders_that_the_user_has(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_SETS, str(tmp_path))
    assert len(find_data_set("photographs").pictures) == 2
    with pytest.raises(InvalidArgument, match=f"{DATA_SETS} is .*, which has no folder kodak"):
        find_data_set("kodak")
    monkeypatch.delenv(DATA_SETS)
    with pytest.raises(InvalidArgument, match=f"{DATA_SETS} is not set. Name a folder of pictures, or set"):
        find_data_set("kodak")
    with pytest.raises(InvalidArgument, match="there is no folder"):
        find_data_set(str(tmp_path / "kodak"))


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"holds no picture; looked for \.bmp, "):
        find_pictures(tmp_path)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (7, 5), (255, 255, 255)).convert(mode).save(tmp_path / "x.png")
    pixels = load(tmp_path / "x.png")
    assert (pixels.shape, pixels.dtype) == ((5, 7, 3), np.uint8)
    assert (pixels == 255).all()


def test_sixteen_bits_lose_the_lower_eight(tmp_path: Path) -> None:
    samples = np.array([[0, 255, 256, 65535]], np.uint16)
    Image.fromarray(samples).save(tmp_path / "x.png")
    assert load(tmp_path / "x.png")[0, :, 0].tolist() == [0, 0, 1, 255]


def test_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (7, 5))
    image.getexif()[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "x.jpg", exif=image.getexif())
    assert load(tmp_path / "x.jpg").shape == (7, 5, 3)


def test_digest_follows_the_contents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert sha256(tmp_path / "a") == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"2")
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


def test_kodak_is_all_24_at_their_size() -> None:
    names = [(f"kodim{number:02}.png", 393216) for number in range(1, 25)]
    assert is_kodak(names)
    assert not is_kodak(names[:23])
    assert not is_kodak([*names, ("mine.png", 393216)])
    assert not is_kodak([*names[:23], ("kodim24.png", 100)])
