"""Training pictures: folders in, batches of random crops out.

    folder ─► find, also inside tars ─► split by hash
        ─► load (uint8, in memory) ─► batch(seed, step): scale, crop, flip, turn
                                               drawn pictures ─┘

A batch is a pure function of (pictures, seed, step): nothing about the data needs to be in a checkpoint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from latentcodec.errors import TrainingError
from latentcodec.picture.guard import open_image
from latentcodec.picture.picture import Pixels
from latentcodec.training.drawn import drawn_crop
from latentcodec.training.packed import PackedPicture, read_pack

PictureFile = Path | PackedPicture
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".avif"}
HELD_OUT_PERCENT = 5
_MOST_THREADS = 16  # that decode pictures
MIRRORED_SHARE = 0.5
TURN_SHARES = (0.7, 0.1, 0.1, 0.1)  # of crops by their quarter turns
GRAY_SHARE = 0.03


def find_pictures(folder: Path) -> list[Path]:
    """All pictures below a folder, sorted. Raises TrainingError where there are none."""
    if not folder.is_dir():
        raise TrainingError(f"{folder}: not a folder; name the folder that holds the training pictures")
    paths = _loose_pictures(folder)
    if not paths:
        raise TrainingError(f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))}) below this folder")
    return paths


def find_training_pictures(folder: Path) -> list[PictureFile]:
    """find_pictures, and those inside the .tar files below the folder (training.pack writes such).

    Raises TrainingError where there are none, or a tar cannot be read.
    """
    archives = sorted(p for p in folder.rglob("*.tar") if p.is_file()) if folder.is_dir() else []
    packed = [picture for archive in archives for picture in read_pack(archive, SUFFIXES)]
    if not packed:
        return [*find_pictures(folder)]
    return [*_loose_pictures(folder), *packed]


def _loose_pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def is_held_out(path: PictureFile) -> bool:
    """Whether a picture belongs to the validation set: 5 % by SHA-256 of its file name."""
    return hashlib.sha256(path.name.encode()).digest()[0] * 100 // 256 < HELD_OUT_PERCENT


def unreadable(path: PictureFile, error: Exception) -> TrainingError:
    """The error for a file that is no picture, or a damaged one."""
    return TrainingError(f"{path}: not a readable picture ({error}); take it out of the folder")


def load_pictures(paths: Sequence[PictureFile], smallest: int = 128) -> list[Pixels]:
    """Decode pictures to uint8 (H, W, 3), leaving out those with a side under `smallest`.

    Raises TrainingError naming a file that is no picture, or where no picture is large enough.
    """

    def load(path: PictureFile) -> Pixels:
        try:
            with path.open("rb") as file, open_image(file, str(path)) as image:
                return np.asarray(image.convert("RGB"))
        except Exception as error:  # Pillow's decoders raise almost anything on damaged data
            raise unreadable(path, error) from error

    with ThreadPoolExecutor(max(2, min(_MOST_THREADS, os.cpu_count() or 1))) as pool:
        pictures = list(pool.map(load, paths))
    kept = [p for p in pictures if min(p.shape[:2]) >= smallest]
    if not kept:
        raise TrainingError(f"no picture of {len(paths)} has both sides of at least {smallest} pixels")
    return kept


def random_crop(pixels: Pixels, size: int, rng: np.random.Generator) -> Pixels:
    """A square crop at a random scale of 1/2 to 1, flipped and turned at random: uint8 (size, size, 3)."""
    height, width = pixels.shape[:2]
    largest = min(height, width, 2 * size)
    side = size if rng.random() < 0.5 else min(int(size * 2 ** rng.random()), largest)
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = pixels[top : top + side, left : left + side]
    if side != size:
        filters = (Image.Resampling.LANCZOS, Image.Resampling.BICUBIC, Image.Resampling.BOX)
        crop = np.asarray(Image.fromarray(crop).resize((size, size), filters[int(rng.integers(3))]))
    if rng.random() < MIRRORED_SHARE:
        crop = crop[:, ::-1]
    crop = np.rot90(crop, int(rng.choice(4, p=TURN_SHARES)))
    if rng.random() < GRAY_SHARE:
        crop = np.repeat(crop.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    return crop


def batch(pictures: list[Pixels], seed: int, step: int, count: int, size: int, drawn: float = 0.0) -> Tensor:
    """`count` crops of step `step`, a share `drawn` of them drawn: float (count, 3, size, size) in 0..1."""
    rng = np.random.default_rng((seed, step))
    chosen = rng.integers(len(pictures), size=count)
    crops = np.stack(
        [
            drawn_crop(size, rng) if drawn and rng.random() < drawn else random_crop(pictures[i], size, rng)
            for i in chosen
        ]
    )
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float().div_(255).contiguous()
