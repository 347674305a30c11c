"""Drawn training pictures: what screens and pages show and photographs lack.

    rng ─► text | windows | line art | patterns | gradients ─► uint8 (size, size, 3)

A model that has seen photographs alone smears letters, thin lines and flat areas. Everything here is made
from a random generator and Pillow's own font: there is nothing to fetch and no licence to heed.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from latentcodec.picture.picture import Pixels

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_LETTERS = string.ascii_lowercase * 4 + string.ascii_uppercase + string.digits + ".,:;()-+/%&@#"
_STREAM = 77  # apart from the generators of batches, which are (seed, step)
_FONT_SIZES = (8, 9, 10, 11, 12, 13, 14, 16, 18, 22, 28, 40, 64)
# Black on white and white on black, as most pages and terminals are.
_PAPERS = ((255, 255, 255), (250, 250, 245), (0, 0, 0), (30, 30, 34), (240, 240, 240))


def drawn_crop(size: int, rng: np.random.Generator) -> Pixels:
    """One drawn picture: uint8 (size, size, 3)."""
    kinds: tuple[Callable[[int, np.random.Generator], Image.Image], ...] = (
        _text,
        _windows,
        _lines,
        _pattern,
        _gradient,
    )
    kind = kinds[int(rng.choice(len(kinds), p=(0.35, 0.25, 0.2, 0.1, 0.1)))]
    if kind is not _pattern and rng.random() < 0.3:  # smoothed edges, as of scans and reduced screenshots
        factor = 1.3 + 1.7 * rng.random()
        large = kind(int(size * factor), rng)
        return np.asarray(large.resize((size, size), Image.Resampling.LANCZOS))
    return np.asarray(kind(size, rng))


def drawn_crops(size: int, seed: int, numbers: range) -> list[Pixels]:
    """The drawn pictures of these numbers: each is a function of the seed and its number alone."""
    return [drawn_crop(size, np.random.default_rng((seed, _STREAM, number))) for number in numbers]


@lru_cache(maxsize=len(_FONT_SIZES))
def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _colours(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """(paper, ink), well apart."""
    if rng.random() < 0.6:
        paper = _PAPERS[int(rng.integers(len(_PAPERS)))]
    else:
        paper = _colour(rng)
    ink = tuple(int(c) for c in (rng.integers(0, 90, 3) if sum(paper) > 380 else rng.integers(165, 256, 3)))
    if rng.random() < 0.5:
        ink = (0, 0, 0) if sum(paper) > 380 else (255, 255, 255)
    return paper, (ink[0], ink[1], ink[2])


def _colour(rng: np.random.Generator) -> Colour:
    """Any colour, often a saturated one."""
    values = rng.integers(0, 256, 3) if rng.random() < 0.5 else rng.choice((0, 64, 128, 192, 255), 3)
    return int(values[0]), int(values[1]), int(values[2])


def _words(rng: np.random.Generator, letters: int) -> str:
    text = "".join(_LETTERS[i] for i in rng.integers(len(_LETTERS), size=letters))
    spaces = set(np.cumsum(rng.integers(2, 10, size=letters)).tolist())
    return "".join(" " if place in spaces else letter for place, letter in enumerate(text))


def _write(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], ink: Colour, rng: np.random.Generator
) -> None:
    """Lines of text in one size, filling a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box
    size = _FONT_SIZES[int(rng.integers(len(_FONT_SIZES)))]
    spacing = int(size * (1.15 + 0.6 * rng.random()))
    top = y0 + int(rng.integers(-size, size // 2 + 1))
    for y in range(top, y1, spacing):
        draw.text((x0 + int(rng.integers(4)), y), _words(rng, 2 + 2 * (x1 - x0) // size), ink, _font(size))


def _text(size: int, rng: np.random.Generator) -> Image.Image:
    paper, ink = _colours(rng)
    image = Image.new("RGB", (size, size), paper)
    _write(ImageDraw.Draw(image), (0, 0, size, size), ink, rng)
    if rng.random() < 0.2:  # slanted, as a page that was photographed
        angle = float(rng.normal(0, 8))
        image = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=paper)
    return image


def _windows(size: int, rng: np.random.Generator) -> Image.Image:
    """Overlapping boxes with borders, titles and icons."""
    image = Image.new("RGB", (size, size), _colours(rng)[0])
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(2, 9))):
        x0, y0 = (int(v) for v in rng.integers(-size // 3, size, 2))
        x1, y1 = x0 + int(rng.integers(12, size)), y0 + int(rng.integers(8, size))
        paper, ink = _colours(rng)
        border = _colour(rng) if rng.random() < 0.7 else None
        width = int(rng.integers(1, 4))
        shape = draw.rectangle if rng.random() < 0.6 else draw.ellipse if rng.random() < 0.2 else None
        if shape is None:
            draw.rounded_rectangle((x0, y0, x1, y1), int(rng.integers(2, 12)), paper, border, width)
        else:
            shape((x0, y0, x1, y1), paper, border, width)
        if rng.random() < 0.7:
            inner = Image.new("RGB", (max(8, x1 - x0 - 8), max(8, y1 - y0 - 8)), paper)
            _write(ImageDraw.Draw(inner), (0, 0, *inner.size), ink, rng)
            image.paste(inner.crop((0, 0, max(1, x1 - x0 - 8), max(1, y1 - y0 - 8))), (x0 + 4, y0 + 4))
    return image


def _lines(size: int, rng: np.random.Generator) -> Image.Image:
    """Strokes, polygons and circles: drawings, maps, plots."""
    paper, ink = _colours(rng)
    image = Image.new("RGB", (size, size), paper)
    draw = ImageDraw.Draw(image)
    if rng.random() < 0.3:
        pitch = int(rng.integers(5, 40))
        for place in range(int(rng.integers(pitch)), size, pitch):
            draw.line((place, 0, place, size), ink)
            draw.line((0, place, size, place), ink)
    for _ in range(int(rng.integers(4, 30))):
        colour = ink if rng.random() < 0.6 else _colour(rng)
        points = [(int(x), int(y)) for x, y in rng.integers(-10, size + 10, (int(rng.integers(2, 6)), 2))]
        width = int(rng.integers(1, 4))
        choice = rng.random()
        if choice < 0.6:
            draw.line(points, colour, width, joint="curve")
        elif choice < 0.8:
            x, y = points[0]
            radius = int(rng.integers(2, size // 2))
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), None, colour, width)
        else:
            draw.polygon(points, _colour(rng), colour) if len(points) > 2 else draw.line(points, colour)
    return image


def _pattern(size: int, rng: np.random.Generator) -> Image.Image:
    """Stripes, checkerboards, dots and noise of one or a few pixels."""
    paper, ink = _colours(rng)
    y, x = np.indices((size, size))
    period, kind = int(rng.integers(1, 7)), int(rng.integers(5))
    if kind == 0:
        mask = (x // period + y // period) % 2 == 0
    elif kind == 1:
        mask = (x if rng.random() < 0.5 else y) // period % 2 == 0
    elif kind == 2:
        mask = (x * int(rng.integers(-3, 4)) + y * int(rng.integers(1, 4))) // period % 2 == 0
    elif kind == 3:
        mask = (x % (period + 2) == 0) & (y % (period + 2) == 0)
    else:
        mask = np.kron(rng.random((-(-size // period),) * 2) < rng.random(), np.ones((period, period), bool))
    return Image.fromarray(np.where(mask[:size, :size, None], ink, paper).astype(np.uint8))


def _gradient(size: int, rng: np.random.Generator) -> Image.Image:
    """Flat ramps between two or three colours, some with shapes on them."""
    y, x = np.indices((size, size)) / size
    angle = 2 * np.pi * rng.random()
    ramp = np.cos(angle) * x + np.sin(angle) * y if rng.random() < 0.6 else np.hypot(x - 0.5, y - 0.5)
    ramp = (ramp - ramp.min()) / max(float(np.ptp(ramp)), 1e-6)
    stops = np.array([_colour(rng) for _ in range(int(rng.integers(2, 4)))], float)
    if rng.random() < 0.5:  # a sky rather than a rainbow
        stops = stops[0] + 0.15 * (stops - stops[0])
    places = np.linspace(0, 1, len(stops))
    pixels = np.stack([np.interp(ramp, places, stops[:, c]) for c in range(3)], -1)
    image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    if rng.random() < 0.5:
        _write(ImageDraw.Draw(image), (int(rng.integers(size)), 0, size, size // 2), _colour(rng), rng)
    return image
