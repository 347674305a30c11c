"""The kinds of pictures that codecs find hard, each from drawings of our own and from photographs.

synthetic, screens, training.drawn (a seed that no training has) ─┬─► kinds ─► name ─► Kind: pictures by name
photographs ─► the square with the most detail, colour ...  ──────┘
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from benchmarks.pictures import screens, synthetic
from benchmarks.pictures.arrays import Floats, Pixels
from benchmarks.pictures.regions import activity, richest
from latentcodec.errors import InvalidArgument
from latentcodec.training.drawn import drawn_crop

__all__ = ["SIDE", "Kind", "kinds"]

SIDE = synthetic.SIDE
LEAST = 225  # pixels a side: SSIMULACRA2's smallest picture
SEED = 1
DRAWN_SEED = 20_221_110  # training draws with (its seed, step), and its seeds are small numbers
DRAWN = 6
FLAT = 8  # gray values: a pixel that differs less from its neighbours is no edge, and a smooth one counts


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of picture, and what a strip of it shows."""

    title: str
    pictures: Mapping[str, Pixels]
    """By name, each uint8 (H, W, 3) of at least LEAST pixels a side."""
    enlarged: tuple[str, ...]
    """The names of those that are shown, a detail of each enlarged."""
    contrast: int = 1
    """The factor by which differences from the middle gray of a detail are shown."""


def kinds(photographs: Mapping[str, Pixels]) -> dict[str, Kind]:
    """All kinds by name. Raises InvalidArgument for a photograph with a side under LEAST pixels."""
    for name, picture in photographs.items():
        if min(picture.shape[:2]) < LEAST:
            raise InvalidArgument(
                f"{name}: {picture.shape[1]}x{picture.shape[0]} pixels, but a picture needs {LEAST} a side; "
                "leave it out"
            )
    middle = {name: _cut(picture, _centred) for name, picture in photographs.items()}
    noisy = {
        name: synthetic.sensor_noise(square, index) for index, (name, square) in enumerate(middle.items())
    }
    texture = _drawn(synthetic.grass, synthetic.hair, synthetic.foliage, synthetic.fabric)
    lines = _drawn(synthetic.plot, synthetic.drawing, synthetic.contours)
    vivid = _drawn(synthetic.shapes, synthetic.neon)
    ramps = _drawn(synthetic.sky, synthetic.dusk, synthetic.shadow)
    windows = _drawn(screens.terminal, screens.spreadsheet, screens.web_page)
    pages = {f"{letters}-pixel": screens.page(letters, SEED, (400, 300)) for letters in (10, 14, 24)}
    random = [np.random.default_rng((DRAWN_SEED, index)) for index in range(DRAWN)]
    crops = {f"drawn-{index}": drawn_crop(SIDE, generator) for index, generator in enumerate(random)}
    last = list(photographs)[-1:]  # one photograph a strip, not always the same
    first = list(photographs)[:1]
    return {
        "texture": _kind("Fine texture", texture, _cuts(photographs, activity), "hair", *first),
        "lines": _kind("Line art", lines, {}, "plot", "contours"),
        "screens": _kind("Screenshots", windows, {}, "terminal", "web-page"),
        "text": _kind("Text", pages, {}, "10-pixel", "24-pixel"),
        "drawn": _kind("Drawn as in training, another seed", crops, {}, "drawn-0", "drawn-2"),
        "colour": _kind("Saturated colour", vivid, _cuts(photographs, _chroma), "shapes", *last),
        "noise": _kind("Sensor noise", {}, noisy, *dict.fromkeys((*first, *last))),
        "gradients": _kind(
            "Flat gradients", ramps, _cuts(photographs, _smoothness), "sky", "shadow", contrast=6
        ),
    }


def _kind(
    title: str,
    drawn: Mapping[str, Pixels],
    photographs: Mapping[str, Pixels],
    *enlarged: str,
    contrast: int = 1,
) -> Kind:
    return Kind(title, {**drawn, **photographs}, enlarged, contrast)


def _drawn(*makers: Callable[[int], Pixels]) -> dict[str, Pixels]:
    return {make.__name__.replace("_", "-"): make(SEED) for make in makers}


def _cuts(photographs: Mapping[str, Pixels], values: Callable[[Pixels], Floats]) -> dict[str, Pixels]:
    return {name: _cut(picture, values) for name, picture in photographs.items()}


def _cut(picture: Pixels, values: Callable[[Pixels], Floats]) -> Pixels:
    """The square of SIDE pixels over which the picture's values sum to most; of one that is larger than
    three such squares, made smaller to that."""
    height, width = picture.shape[:2]
    shrink = 3 * SIDE / max(height, width)
    if shrink < 1:
        size = (max(LEAST, round(width * shrink)), max(LEAST, round(height * shrink)))
        picture = np.array(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    left, top, right, bottom = richest(values(picture), SIDE)
    return picture[top:bottom, left:right].copy()


def _chroma(picture: Pixels) -> Floats:
    chroma: Floats = np.ptp(picture.astype(np.float64), axis=2)
    return chroma


def _smoothness(picture: Pixels) -> Floats:
    return -np.minimum(activity(picture), FLAT)


def _centred(picture: Pixels) -> Floats:
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    distance: Floats = np.hypot(y - height / 2, x - width / 2)
    return -distance
