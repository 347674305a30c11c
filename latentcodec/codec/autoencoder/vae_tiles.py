"""Pieces: an autoencoder over a plane of any size, in bounded memory and without seams. Normative.

    |<------- 64 ------->|<------- 64 ------->|        cores, in latent positions
    |                  .-+-.                .-+-.
    |    piece 0     /   |   \\  piece 1   /  |   \\     each piece is run with 16 more on each side;
    |______________/_____|_____\\_________/____|        over 8 on each side of a border it fades into the next

Group norms and attention see a whole piece, so that what a piece shows depends on where it was cut: encoder
and decoder have to cut alike. Up to 9216 positions the plane is one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from latentcodec.codec.planes import LatentBox, squares

CORE = 64
HALO = 16
RAMP = 8  # positions on each side of a border in which two pieces are mixed
WHOLE = (CORE + 2 * HALO) ** 2

Samples = npt.NDArray[np.float32]


def blended(
    width: int, height: int, scale: int, channels: int, run: Callable[[LatentBox], Samples]
) -> Iterator[tuple[int, Samples]]:
    """Run pieces of a plane of width x height positions, and mix what they show.

    run(box) gives the box, which includes its halo, as (rows * scale, columns * scale, channels). Yields
    bands of the result from the top: the first row, and (rows, width * scale, channels).
    """
    if width * height <= WHOLE:
        yield 0, run((0, 0, width, height))
        return
    carried: Samples | None = None
    for y in range(0, height, CORE):
        top, bottom = max(y - RAMP, 0), min(y + CORE + RAMP, height)
        band = np.zeros(((bottom - top) * scale, width * scale, channels), np.float32)
        rows = _weights(y, top, bottom, height, scale)[:, None, None]
        for x in range(0, width, CORE):
            left, right = max(x - RAMP, 0), min(x + CORE + RAMP, width)
            x0, y0 = max(x - HALO, 0), max(y - HALO, 0)
            piece = run((x0, y0, min(x + CORE + HALO, width), min(y + CORE + HALO, height)))
            across = slice((left - x0) * scale, (right - x0) * scale)
            part = piece[(top - y0) * scale : (bottom - y0) * scale, across]
            weights = rows * _weights(x, left, right, width, scale)[None, :, None]
            band[:, left * scale : right * scale] += part * weights
        if carried is not None:
            band[: len(carried)] += carried
        last = y + CORE >= height
        finished = len(band) if last else (y + CORE - RAMP - top) * scale
        carried = band[finished:]
        yield top * scale, band[:finished]


def cores(width: int, height: int) -> list[LatentBox]:
    """The cores of a plane, in the order in which `blended` runs their pieces."""
    if width * height <= WHOLE:
        return [(0, 0, width, height)]
    return squares(width, height, CORE)


def _weights(start: int, low: int, high: int, size: int, scale: int) -> Samples:
    """What the piece with its core at `start` counts from position `low` to `high`, `scale` samples each."""
    place = (np.arange(low * scale, high * scale) + 0.5) / scale
    ramp = 2.0 * RAMP
    rising = np.ones_like(place) if start == 0 else (place - start + RAMP) / ramp
    falling = np.ones_like(place) if start + CORE >= size else (start + CORE + RAMP - place) / ramp
    return np.clip(np.minimum(rising, falling), 0, 1).astype(np.float32)
