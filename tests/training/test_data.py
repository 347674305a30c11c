"""Training pictures: found, split and cut the same way every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentcodec.errors import TrainingError
from latentcodec.picture.picture import Pixels
from latentcodec.training.data import batch, find_pictures, is_held_out, load_pictures, random_crop
from tests.conftest import photograph
from tests.picture.tiff_bytes import ONE_PIXEL, claiming


def test_pictures_are_found_below_a_folder_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "deep/er/c.webp", "notes.txt", "d.png.bak"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [p.relative_to(tmp_path).as_posix() for p in find_pictures(tmp_path)] == [
        "a.JPG",
        "b.png",
        "deep/er/c.webp",
    ]


def test_folders_without_pictures(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no pictures"):
        find_pictures(tmp_path)
    with pytest.raises(TrainingError, match="not a folder"):
        find_pictures(tmp_path / "nothing")


def test_five_in_a_hundred_are_held_out_by_name_alone() -> None:
    paths = [Path(f"{number:06d}.png") for number in range(20_000)]
    share = sum(map(is_held_out, paths)) / len(paths)
    assert 0.045 < share < 0.057
    assert is_held_out(Path("a/x.png")) == is_held_out(Path("b/c/x.png"))


def test_small_pictures_are_left_out(tmp_path: Path) -> None:
    for side in (100, 128, 200):
        Image.new("RGB", (side, 300)).save(tmp_path / f"{side}.png")
    Image.new("LA", (150, 150)).save(tmp_path / "gray.png")
    paths = find_pictures(tmp_path)
    assert [p.shape for p in load_pictures(paths, 128)] == [(300, 128, 3), (300, 200, 3), (150, 150, 3)]
    with pytest.raises(TrainingError, match="at least 400 pixels"):
        load_pictures(paths, 400)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"text")
    with pytest.raises(TrainingError, match=r"broken\.png"):
        load_pictures([tmp_path / "broken.png"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 200\n", "cannot identify image file"),
        (claiming(range(0x9000, 0x9040), 2, 100_000, ONE_PIXEL), "they overlap"),
    ],
    ids=["PostScript", "TIFF"],
)
def test_pictures_are_opened_as_strictly_as_those_to_be_compressed(
    tmp_path: Path, data: bytes, reason: str
) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(TrainingError, match=rf"a\.png: not a readable picture \(.*{reason}"):
        load_pictures([tmp_path / "a.png"])


def test_crops_of_any_picture(one_thread: None) -> None:
    rng = np.random.default_rng(0)
    for pixels in (photograph(), photograph(width=128, height=128), photograph("chelsea", 130, 290)):
        for _ in range(40):
            crop = random_crop(pixels, 128, rng)
            assert crop.shape == (128, 128, 3)
            assert crop.dtype == np.uint8


def test_crops_vary() -> None:
    pixels = photograph()
    crops = [random_crop(pixels, 64, np.random.default_rng(seed)) for seed in range(200)]
    grays = sum(bool((c == c[..., :1]).all()) for c in crops)
    assert 0 < grays < 20  # some in a hundred teach it gray pictures
    assert len({c.tobytes() for c in crops}) == 200


def test_unscaled_crops_are_pieces_of_the_picture() -> None:
    """Half of all crops are pixels as they are, four turns and their mirror images."""
    pixels: Pixels = np.arange(20 * 24 * 3, dtype=np.uint16).reshape(20, 24, 3).astype(np.uint8)
    pixels[..., 1] = np.arange(24)  # a column's number
    pixels[..., 0] = np.arange(20)[:, None]
    found = 0
    for seed in range(60):
        crop = random_crop(pixels, 16, np.random.default_rng(seed))
        for turn in range(4):
            for view in (np.rot90(crop, turn), np.rot90(crop, turn)[:, ::-1]):
                top, left = int(view[0, 0, 0]), int(view[0, 0, 1])
                piece = pixels[top : top + 16, left : left + 16]
                if piece.shape == view.shape and np.array_equal(piece, view):
                    found += 1
                    break
            else:
                continue
            break
    assert 20 < found < 50


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    pictures = [photograph(), photograph("chelsea")]
    x = batch(pictures, 1, 5, 4, 64)
    assert x.shape == (4, 3, 64, 64)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert x.min() >= 0
    assert x.max() <= 1
    np.random.seed(0)  # noqa: NPY002 - no global state may matter
    torch.manual_seed(0)
    assert torch.equal(batch(pictures, 1, 5, 4, 64), x)
    assert not torch.equal(batch(pictures, 1, 6, 4, 64), x)
    assert not torch.equal(batch(pictures, 2, 5, 4, 64), x)
