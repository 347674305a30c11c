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

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.datasets import Pixels

__all__ = [
    "DETAIL",
    "ZOOM",
    "Box",
    "Panel",
    "activity",
    "busiest",
    "contact_sheet",
    "richest",
    "side_by_side",
]

DETAIL = 96
ZOOM = 3
LARGEST = 768  # a picture with a longer side is shown smaller; its detail is not
MARGIN = 12
LINE = 22
BACKGROUND, INK, FAINT = (255, 255, 255), (20, 20, 20), (110, 110, 110)
Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""


@dataclass(frozen=True)
class Panel:
    """One column."""

    title: str
    caption: str
    picture: Pixels


def busiest(picture: Pixels, side: int = DETAIL) -> Box:
    """The square with the most detail; all of a picture that is smaller."""
    return richest(activity(picture), side)


def activity(picture: Pixels) -> NDArray[np.float64]:
    """(H, W): how much each pixel's luma differs from those to the left and above."""
    luma = picture.astype(np.float64) @ (0.299, 0.587, 0.114)
    differences = np.zeros(luma.shape)
    differences[:, 1:] += np.abs(np.diff(luma, axis=1))
    differences[1:, :] += np.abs(np.diff(luma, axis=0))
    return differences


def richest(values: NDArray[np.float64], side: int) -> Box:
    """The square of `side` pixels (or fewer, where there are fewer) over which values (H, W) sum to most."""
    height, width = values.shape
    high, wide = min(side, height), min(side, width)
    total = np.zeros((height + 1, width + 1))
    total[1:, 1:] = values.cumsum(0).cumsum(1)
    sums = total[high:, wide:] - total[:-high, wide:] - total[high:, :-wide] + total[:-high, :-wide]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return int(left), int(top), int(left) + wide, int(top) + high


def side_by_side(panels: Sequence[Panel]) -> Image.Image:
    """The panels as columns of one picture. All have one size; the first decides which detail is shown."""
    height, width = panels[0].picture.shape[:2]
    box = busiest(panels[0].picture)
    shrink = min(1.0, LARGEST / max(height, width))
    shown = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    detail = (ZOOM * (box[2] - box[0]), ZOOM * (box[3] - box[1]))
    column = max(shown[0], detail[0], 240)
    head = MARGIN + 2 * LINE + 4
    size = (MARGIN + len(panels) * (column + MARGIN), head + shown[1] + MARGIN + detail[1] + MARGIN)
    canvas = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for index, panel in enumerate(panels):
        left = MARGIN + index * (column + MARGIN)
        draw.text((left, MARGIN), panel.title, fill=INK, font=ImageFont.load_default(18))
        draw.text((left, MARGIN + LINE), panel.caption, fill=FAINT, font=ImageFont.load_default(15))
        image = Image.fromarray(panel.picture)
        whole = image if shrink == 1 else image.resize(shown, Image.Resampling.LANCZOS)
        at = (left + (column - shown[0]) // 2, head)
        canvas.paste(whole, at)
        if box != (0, 0, width, height):
            _frame(draw, [at[axis % 2] + round(edge * shrink) for axis, edge in enumerate(box)])
        zoomed = image.crop(box).resize(detail, Image.Resampling.NEAREST)
        canvas.paste(zoomed, (left + (column - detail[0]) // 2, head + shown[1] + MARGIN))
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
