"""Synthetic pictures of what codecs find hard, each a pure function of its seed: uint8 (256, 256, 3).

strokes ─► grass, hair, foliage, fabric      thin lines ─► plot, drawing, contours
vivid shapes on dark ─► shapes, neon         ramps ─► sky, dusk, shadow
photograph ─► sensor_noise
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.pictures.arrays import Floats, Pixels

__all__ = [
    "SIDE",
    "contours",
    "drawing",
    "dusk",
    "fabric",
    "foliage",
    "grass",
    "hair",
    "neon",
    "plot",
    "sensor_noise",
    "shadow",
    "shapes",
    "sky",
]

SIDE = 256
FINE = 3  # strokes are drawn so much larger, then made smaller: smooth edges
VIVID = ((255, 0, 0), (0, 40, 255), (255, 0, 180), (0, 255, 60), (255, 120, 0), (0, 220, 255))


def _canvas(colour: tuple[int, int, int], scale: int = FINE) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (scale * SIDE, scale * SIDE), colour)
    return image, ImageDraw.Draw(image)


def _finished(image: Image.Image) -> Pixels:
    return np.array(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def _shade(random: np.random.Generator, colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = (np.array(colour) * random.uniform(0.35, 1.3)).clip(0, 255).astype(int)
    return int(red), int(green), int(blue)


def grass(seed: int) -> Pixels:
    """Blades of many greens, from the back to the front."""
    random = np.random.default_rng(seed)
    image, draw = _canvas((30, 50, 20))
    for root in np.sort(random.uniform(0, FINE * SIDE * 1.15, 4000)):
        x, length, lean = random.uniform(0, FINE * SIDE), random.uniform(25, 90), random.normal(0, 18)
        points = [(x, root), (x + lean / 3, root - length / 2), (x + lean, root - length)]
        draw.line(points, _shade(random, (110, 150, 50)), int(random.integers(2, 5)), joint="curve")
    return _finished(image)


def hair(seed: int) -> Pixels:
    """Long strands that run nearly side by side."""
    random = np.random.default_rng(seed)
    image, draw = _canvas((40, 25, 15))
    along = np.linspace(-20, FINE * SIDE + 20, 40)
    for start in random.uniform(-200, FINE * SIDE + 200, 1500):
        bend = 60 * np.sin(along / 260 + start / 300) + random.normal(0, 6)
        strand = list(zip((start + bend).tolist(), along.tolist(), strict=True))
        draw.line(strand, _shade(random, (170, 115, 70)), int(random.integers(1, 4)))
    return _finished(image)


def foliage(seed: int) -> Pixels:
    """Small leaves over each other."""
    random = np.random.default_rng(seed)
    image, draw = _canvas((15, 30, 12))
    for _ in range(3500):
        x, y = random.uniform(0, FINE * SIDE, 2)
        angle, length, width = random.uniform(0, np.pi), random.uniform(8, 26), random.uniform(4, 9)
        turn = np.exp(1j * angle)
        corners = [complex(x, y) + turn * edge for edge in (-length, width * 1j, length, -width * 1j)]
        colour = _shade(random, (90, 140, 45))
        draw.polygon([(corner.real, corner.imag) for corner in corners], colour)
    return _finished(image)


def fabric(seed: int) -> Pixels:
    """A weave of four pixels a thread, with uneven threads and two colours."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    warp, weft = (random.normal(1, 0.13, SIDE // 4 + 1)[(axis // 4).astype(int)] for axis in (x, y))
    over = ((x // 4 + y // 4) % 2 == 0)[..., None]
    threads = np.where(over, warp[..., None] * (70, 90, 150), weft[..., None] * (190, 180, 160))
    across = np.where(over[..., 0], x, y) % 4
    relief = (0.7 + 0.3 * np.sin((across + 0.5) * np.pi / 4))[..., None]
    return _rounded(threads * relief + random.normal(0, 4, (SIDE, SIDE, 1)))


def plot(seed: int) -> Pixels:
    """Axes, ticks, figures and three curves of one or two pixels."""
    random = np.random.default_rng(seed)
    image, draw = _canvas((255, 255, 255), 1)
    font = ImageFont.load_default(10)
    for place in range(30, SIDE, 32):
        draw.line((30, place, SIDE - 8, place), (225, 225, 225))
        draw.line((place, 8, place, SIDE - 26), (225, 225, 225))
        draw.text((4, place - 6), f"{256 - place}", (60, 60, 60), font)
        draw.text((place - 8, SIDE - 20), f"{place - 30}", (60, 60, 60), font)
    draw.line([(30, 8), (30, SIDE - 26), (SIDE - 8, SIDE - 26)], (0, 0, 0))
    x = np.arange(30, SIDE - 8)
    for colour, width in (((31, 119, 180), 2), ((214, 39, 40), 1), ((44, 160, 44), 2)):
        phase, speed, height = random.uniform(0, 6), random.uniform(0.02, 0.12), random.uniform(20, 80)
        curve = 115 + height * np.sin(speed * x + phase)
        draw.line(list(zip(x.tolist(), curve.tolist(), strict=True)), colour, width)
    return np.array(image)


def drawing(seed: int) -> Pixels:
    """A technical drawing: outlines, circles, hatching and measures in black on white."""
    random = np.random.default_rng(seed)
    image, draw = _canvas((255, 255, 255), 2)
    for _ in range(7):
        x, y, width, height = (int(value) for value in random.integers(20, 260, 4))
        draw.rectangle((x, y, x + width, y + height), None, (0, 0, 0), 2)
        for offset in range(0, min(width, height), 9):
            draw.line((x + offset, y, x, y + offset), (0, 0, 0), 1)
        draw.line((x, y + height + 10, x + width, y + height + 10), (90, 90, 90), 1)
        draw.text((x + 8, y + height + 12), str(width), (0, 0, 0), ImageFont.load_default(18))
    for _ in range(5):
        x, y, radius = (int(value) for value in random.integers(30, 400, 3))
        draw.circle((x, y), radius // 4, None, (0, 0, 0), 2)
    return _finished(image)


def contours(seed: int) -> Pixels:
    """A map: thin brown lines of equal height, a blue river, on cream."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.normal(0, 1, (6, 6)).astype(np.float32))
    heights = 9 * np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float64)
    steep = np.hypot(*np.gradient(heights)) + 1e-6
    distance = np.abs(heights - np.round(heights)) / steep  # to the nearest line, in pixels
    line = np.clip(1.2 - distance, 0, 1)[..., None]
    river = np.clip(3 - np.abs(heights + 4) / steep, 0, 1)[..., None]
    land = (1 - line) * (250, 246, 230) + line * (150, 90, 40)
    return _rounded((1 - river) * land + river * (70, 130, 200))


def shapes(seed: int) -> Pixels:
    """Red, blue and other vivid discs, bars and letters on near black."""
    random = np.random.default_rng(seed)
    image, draw = _canvas((8, 8, 12))
    for index in range(26):
        x, y = (int(value) for value in random.integers(0, FINE * SIDE, 2))
        radius, colour = int(random.integers(12, 80)), VIVID[index % len(VIVID)]
        if index % 3 == 0:
            draw.circle((x, y), radius, colour)
        elif index % 3 == 1:
            draw.line((x, y, x + 4 * radius, y + radius), colour, int(random.integers(4, 16)))
        else:
            draw.text((x - 60, y), "Open 24 h", colour, ImageFont.load_default(int(30 + radius)))
    return _finished(image)


def neon(seed: int) -> Pixels:
    """Glowing tubes in red and blue on dark."""
    random = np.random.default_rng(seed)
    image, draw = _canvas((0, 0, 0))
    for index in range(9):
        points = [(int(x), int(y)) for x, y in random.integers(30, FINE * SIDE - 30, (4, 2))]
        draw.line(points, VIVID[index % 3], 12, joint="curve")
    glow = np.asarray(image.filter(ImageFilter.GaussianBlur(24)), np.float64)
    return _finished(Image.fromarray((np.asarray(image) + 0.9 * glow + 10).clip(0, 255).astype(np.uint8)))


def sky(seed: int) -> Pixels:
    """Blue to pale with the glow of a sun: steps of one value, tens of pixels wide."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    sun = np.random.default_rng(seed).uniform(0.2, 0.8, 2)
    glow = np.exp(-6 * ((x - sun[0]) ** 2 + (y - sun[1]) ** 2))[..., None]
    return _rounded((70, 120, 190) + y[..., None] * np.array((70, 55, 30)) + glow * (40, 30, 10))


def dusk(seed: int) -> Pixels:
    """Orange to violet, slanted."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    slope = np.random.default_rng(seed).uniform(-0.4, 0.4)
    share = np.clip((y + slope * x) / (1 + max(slope, 0)), 0, 1)[..., None]
    return _rounded((1 - share) * (60, 40, 110) + share * (235, 130, 70))


def shadow(seed: int) -> Pixels:
    """A dark wall under a dim lamp: grays of 4 to 40."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    lamp = np.random.default_rng(seed).uniform(0.3, 0.7, 2)
    light = 1 / (1 + 5 * ((x - lamp[0]) ** 2 + (y - lamp[1]) ** 2))
    return _rounded(4 + 36 * light[..., None] * np.ones(3))


def _rounded(values: Floats) -> Pixels:
    return values.round().clip(0, 255).astype(np.uint8)


def sensor_noise(picture: Pixels, seed: int) -> Pixels:
    """The picture with noise as of a small sensor at high gain: its variance grows with the light (standard
    deviation 5 in the dark, 12 in the light)."""
    random = np.random.default_rng(seed)
    deviation = np.sqrt(25 + 0.47 * picture.astype(np.float64))
    return (picture + deviation * random.standard_normal(picture.shape)).round().clip(0, 255).astype(np.uint8)
