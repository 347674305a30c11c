"""Sets of pictures as 8-bit RGB arrays.

name or folder ─► find_data_set ─► names, in order ─► load ─► uint8 (H, W, 3)

    nothing     samples/ and the pictures that scikit-image ships: no network
    a folder    the pictures in it
    a name      the folder of that name in $LATENTCODEC_DATASETS: kodak, clic ...; nothing is fetched
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageOps

from benchmarks.pictures.arrays import Pixels, to_pixels
from latentcodec.errors import InvalidArgument
from latentcodec.picture.guard import open_image

__all__ = [
    "DATA_SETS",
    "DEFAULT",
    "DIGITS",
    "DataSet",
    "default_pictures",
    "digest",
    "find_data_set",
    "find_pictures",
    "is_kodak",
    "load",
    "sha256",
]

DEFAULT = "default"
DATA_SETS = "LATENTCODEC_DATASETS"
SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SAMPLES = Path(__file__).parents[2] / "samples"
# What scikit-image's wheels hold of photographs, scans and a page; three more are in samples/ already.
SCIKIT_IMAGE = (
    "camera.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "page.png",
    "retina.jpg",
    "rocket.jpg",
)
KODAK_PIXELS = 768 * 512
DIGITS = 16
"""Of a digest."""


@dataclass(frozen=True)
class DataSet:
    """Pictures in the order of their names, no two of one name."""

    name: str
    pictures: tuple[Path, ...]


def find_data_set(name: str = DEFAULT) -> DataSet:
    """The data set of that name, or of the folder that is called so.

    Raises InvalidArgument for a name of neither, saying where it was looked for, and for an empty folder.
    """
    if name == DEFAULT:
        return DataSet(name, tuple(default_pictures()))
    folder = Path(name)
    if folder.is_dir():
        return DataSet(folder.resolve().name, tuple(find_pictures(folder)))
    if folder.name != name:
        raise InvalidArgument(f"there is no folder {name}")
    home = os.environ.get(DATA_SETS)
    if home and (Path(home) / name).is_dir():
        return DataSet(name, tuple(find_pictures(Path(home) / name)))
    place = f"{DATA_SETS} is {home}, which has no folder {name}" if home else f"{DATA_SETS} is not set"
    raise InvalidArgument(
        f"no data set is called {name!r}: it is no folder here, and {place}. Name a folder of pictures, or "
        f"set {DATA_SETS} to the folder that {name}/ lies in; nothing is downloaded"
    )


def default_pictures() -> list[Path]:
    """The pictures of samples/ and those that come with scikit-image, by name."""
    package = find_spec("skimage")
    shipped = Path(package.origin).parent / "data" if package and package.origin else SAMPLES
    from_skimage = [path for name in SCIKIT_IMAGE if (path := shipped / name).is_file()]
    return sorted(find_pictures(SAMPLES) + from_skimage, key=lambda path: path.name)


def find_pictures(folder: Path) -> list[Path]:
    """The pictures that lie in `folder` itself, by name. Raises InvalidArgument if there are none."""
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not pictures:
        raise InvalidArgument(f"{folder} holds no picture; looked for {', '.join(sorted(SUFFIXES))}")
    return pictures


def load(path: Path) -> Pixels:
    """The picture at `path`, upright, gray replicated, transparency dropped. Raises what Pillow raises."""
    with path.open("rb") as file, open_image(file, str(path)) as image:
        return to_pixels(ImageOps.exif_transpose(image))


def digest(path: Path) -> str:
    """Names the file's contents: the first 16 hex digits of their SHA-256."""
    return sha256(path)[:DIGITS]


def sha256(path: Path) -> str:
    """Of the file's contents, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_kodak(pictures: Iterable[tuple[str, int]]) -> bool:
    """Whether these (file name, pixels) are the 24 Kodak pictures, for which there are published curves."""
    names = {f"kodim{number:02}" for number in range(1, 25)}
    return {(Path(name).stem, pixels) for name, pixels in pictures} == {
        (name, KODAK_PIXELS) for name in names
    }
