"""Drawn screens: a terminal, a spreadsheet, a web page, a page of text. Nothing to fetch, nobody's licence.

    seed ─► words of WORDS, Pillow's own font ─► uint8 (600, 800, 3)

Training's drawn crops (latentcodec.training.drawn) are random boxes of random letters; these are laid out as
programs lay them out, so that they are no picture of the kind that the model saw.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.pictures.arrays import Pixels

__all__ = ["SIZE", "page", "spreadsheet", "terminal", "web_page"]

SIZE = (800, 600)
TEXT = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from or had an "
    "they which one you were all her she there would their we him been has when who will no more if out so "
    "picture codec bytes latent quality screen window table colour block edge line letter paper ink value"
)
WORDS = TEXT.split()
Colour = tuple[int, int, int]


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _words(random: np.random.Generator, count: int) -> str:
    return " ".join(WORDS[index] for index in random.integers(len(WORDS), size=count))


def _paragraph(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    size: int,
    ink: Colour,
    random: np.random.Generator,
) -> None:
    """Ragged lines that fill the box (left, top, right, bottom)."""
    left, top, right, bottom = box
    font = _font(size)
    for y in range(top, bottom - size, round(1.45 * size)):
        line = _words(random, 1)
        while font.getlength(longer := f"{line} {_words(random, 1)}") < right - left:
            line = longer
        draw.text((left, y), line, ink, font)


def page(letters: int = 13, seed: int = 0, size: tuple[int, int] = SIZE) -> Pixels:
    """A page of text, black on white, `letters` pixels high."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    width, height = size
    draw.text((24, 16), _words(random, 3).capitalize(), (0, 0, 0), _font(2 * letters))
    _paragraph(draw, (24, 24 + 3 * letters, width - 24, height - 8), letters, (0, 0, 0), random)
    return np.array(image)


def terminal(seed: int = 0) -> Pixels:
    """A dark terminal: prompts, a listing in columns, coloured words, a progress bar."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", SIZE, (24, 26, 31))
    draw = ImageDraw.Draw(image)
    green, blue, red, plain = (126, 211, 33), (86, 156, 214), (244, 71, 71), (204, 204, 204)
    for row, y in enumerate(range(8, SIZE[1] - 20, 17)):
        if row % 9 == 0:
            draw.text((8, y), "user@host:~/pictures$", green, _font(13))
            draw.text((160, y), _words(random, 4), plain, _font(13))
        elif row % 9 == 8:
            share = int(random.integers(20, 100))
            draw.rectangle((8, y + 3, 8 + 4 * share, y + 13), blue)
            draw.text((430, y), f"{share}%", plain, _font(13))
        else:
            columns = ("-rw-r--r--", str(random.integers(10, 999_999)), _words(random, 1), _words(random, 2))
            colours = (plain, plain, red if random.random() < 0.2 else blue, plain)
            for x, text, colour in zip((8, 110, 200, 290), columns, colours, strict=True):
                draw.text((x, y), text, colour, _font(13))
    return np.array(image)


def spreadsheet(seed: int = 0) -> Pixels:
    """Thin gray lines, right-aligned figures, a coloured head, a selected cell."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", SIZE, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    line, head, font = (212, 212, 212), (33, 115, 70), _font(12)
    draw.rectangle((0, 0, SIZE[0], 42), head)
    draw.text((12, 10), _words(random, 4), (255, 255, 255), _font(16))
    for column, x in enumerate(range(0, SIZE[0], 80)):
        draw.rectangle((x, 43, x + 80, 63), (242, 242, 242), line)
        draw.text((x + 36, 46), chr(ord("A") + column), (80, 80, 80), font)
    for y in range(64, SIZE[1], 20):
        for x in range(0, SIZE[0], 80):
            draw.rectangle((x, y, x + 80, y + 20), None, line)
            kind = random.random()
            if kind < 0.6:
                text = f"{random.normal(0, 900):,.2f}"
                colour = (192, 0, 0) if text.startswith("-") else (0, 0, 0)
                draw.text((x + 75 - font.getlength(text), y + 3), text, colour, font)
            elif kind < 0.85:
                draw.text((x + 4, y + 3), _words(random, 1), (0, 0, 0), font)
    draw.rectangle((240, 204, 320, 224), None, head, 2)
    return np.array(image)


def web_page(seed: int = 0) -> Pixels:
    """A bar, a headline, two columns of text, buttons, links, and a picture of a shaded ball."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", SIZE, (250, 250, 252))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIZE[0], 48), (26, 35, 126))
    for x, text in zip((20, 480, 570, 660), ("Latents", "About", "Prices", "Sign in"), strict=True):
        draw.text((x, 14), text, (255, 255, 255), _font(18 if x == 20 else 14))
    draw.text((24, 66), _words(random, 4).capitalize(), (20, 20, 20), _font(30))
    _paragraph(draw, (24, 116, 500, 360), 14, (50, 50, 55), random)
    _paragraph(draw, (24, 430, 500, 590), 12, (50, 50, 55), random)
    for x, colour in ((24, (30, 136, 229)), (160, (229, 57, 53))):
        draw.rounded_rectangle((x, 374, x + 120, 410), 8, colour)
        draw.text((x + 22, 383), _words(random, 1).capitalize(), (255, 255, 255), _font(15))
    y, x = np.mgrid[:200, :252]
    light = np.clip(1.2 - np.hypot(x - 100, y - 70) / 140, 0, 1)[..., None]
    ball = (np.hypot(x - 126, y - 100) < 84)[..., None]
    shaded = np.where(ball, light * (250, 150, 60), (180, 200, 220) + 0.2 * y[..., None])
    image.paste(Image.fromarray(shaded.clip(0, 255).astype(np.uint8)), (524, 116))
    for y0 in range(340, 580, 24):
        draw.text((524, y0), _words(random, 4), (21, 101, 192), _font(13))
    return np.array(image)
