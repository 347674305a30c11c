"""Pictures side by side, with a zoomed detail of each: what a table of figures cannot show.

┌──────────┬──────────┬──────────┐
│  label   │  label   │  label   │
│ picture  │ picture  │ picture  │   the box marks the detail
│  detail  │  detail  │  detail  │   3 times as large, pixels kept as they are
└──────────┴──────────┴──────────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.regions import busiest

__all__ = ["ZOOM", "Panel", "contact_sheet", "side_by_side"]

ZOOM = 3
LARGEST = 768  # a picture with a longer side is shown smaller; its detail is not
MARGIN = 12
LINE = 22
BACKGROUND, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)


@dataclass(frozen=True)
class Panel:
    """One column."""

    title: str
    caption: str
    picture: Pixels


def side_by_side(panels: Sequence[Panel]) -> Image.Image:
    """The panels as columns of one picture. All have one size; the first decides which detail is shown."""
    height, width = panels[0].picture.shape[:2]
    box = busiest(panels[0].picture)
    shrink = min(1.0, LARGEST / max(height, width))
    small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    detail = (ZOOM * (box[2] - box[0]), ZOOM * (box[3] - box[1]))
    column = max(small[0], detail[0], 240)
    head = MARGIN + 2 * LINE + 4
    size = (MARGIN + len(panels) * (column + MARGIN), head + small[1] + MARGIN + detail[1] + MARGIN)
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        left = MARGIN + index * (column + MARGIN)
        draw.text((left, MARGIN), panel.title, fill=INK, font=ImageFont.load_default(18))
        draw.text((left, MARGIN + LINE), panel.caption, fill=FAINT, font=ImageFont.load_default(15))
        image = Image.fromarray(panel.picture)
        whole = image if shrink == 1 else image.resize(small, Image.Resampling.LANCZOS)
        at = (left + (column - small[0]) // 2, head)
        canvas.paste(whole, at)
        if box != (0, 0, width, height):
            _frame(draw, [at[axis % 2] + round(edge * shrink) for axis, edge in enumerate(box)])
        zoomed = image.crop(box).resize(detail, Image.Resampling.NEAREST)
        canvas.paste(zoomed, (left + (column - detail[0]) // 2, head + small[1] + MARGIN))
    return canvas


def contact_sheet(rows: Sequence[Sequence[Panel]]) -> Image.Image:
    """Rows of panels, the pictures of one size and shown at it; texts shrink until they fit above them."""
    height, width = rows[0][0].picture.shape[:2]
    head = 2 * LINE + 4
    columns = max(len(row) for row in rows)
    size = (MARGIN + columns * (width + MARGIN), MARGIN + len(rows) * (head + height + MARGIN))
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for row, panels in enumerate(rows):
        for column, panel in enumerate(panels):
            left, top = MARGIN + column * (width + MARGIN), MARGIN + row * (head + height + MARGIN)
            draw.text((left, top), panel.title, fill=INK, font=_fitting(panel.title, 18, width))
            caption = _fitting(panel.caption, 15, width)
            draw.text((left, top + LINE), panel.caption, fill=FAINT, font=caption)
            canvas.paste(Image.fromarray(panel.picture), (left, top + head))
    return canvas


def _fitting(text: str, size: int, width: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The default font at the largest size, down from this one, in which the text is no wider."""
    font = ImageFont.load_default(size)
    while size > 8 and font.getlength(text) > width:
        size -= 1
        font = ImageFont.load_default(size)
    return font


def _frame(draw: ImageDraw.ImageDraw, edges: Sequence[int]) -> None:
    """A line around what lies within these edges, dark and light, so that it shows on every picture."""
    left, top, right, bottom = edges
    for distance, colour in ((1, BACKGROUND), (2, INK)):
        draw.rectangle(
            (left - distance, top - distance, right + distance - 1, bottom + distance - 1), None, colour
        )
