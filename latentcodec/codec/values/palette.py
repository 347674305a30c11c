"""The palette quantiser: latents as pictures of 256 colours. The method of 2022, kept for comparison.

    latents ─► bytes ─► groups of 4 channels ─► 256 colours by k-means ─► Floyd-Steinberg ─► indices
    palette + indices of all groups ─► zstandard

M. Bühlmann, "Stable Diffusion based image compression" (2022): a latent is stored as a byte with a step of
0.18215 of the unscaled latent, 0.18215^2 of the scaled one, around 0. The dither is why that method had to
clean the latents up with a diffusion model.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np
import numpy.typing as npt
import zstandard

from latentcodec.codec.values.coder import CodedTile, Floats, Values
from latentcodec.container.autoencoder import NO_NETWORKS
from latentcodec.errors import MalformedFile
from latentcodec.rans.coder import check_digest

COLOURS = 256
GROUP = 4  # channels
# Half a byte's step, 0.18215^2 / 2, in units of 2^-20: a byte b is the latent (2 b - 255) * 17395 / 2^20.
HALF_STEP = 17395
_UNIT = float(1 << 20)
_LEVEL = 19  # of zstandard
_ROUNDS = 12  # of k-means
_SAMPLES = 1 << 14  # positions that k-means sees

Bytes = npt.NDArray[np.uint8]


class PaletteCoder:
    """A ValueCoder of latents of `channels`. Values are bytes; the symbols depend on no networks."""

    blank = COLOURS // 2
    networks_hash = NO_NETWORKS

    def __init__(self, channels: int) -> None:
        self.channels = channels

    def encode(self, latents: Floats) -> CodedTile:
        """As ValueCoder says."""
        stream, values = _quantise(latents)
        return CodedTile(stream, _digest(values), values.astype(np.int64))

    def decode(
        self,
        stream: bytes,
        digest: int,
        height: int,
        width: int,
        *,
        partial: bool = False,
        name: str = "tile",
    ) -> tuple[Values, bool]:
        """As ValueCoder says; without its end a stream holds nothing, whatever `partial` is."""
        values = _unpack(stream, self.channels, height, width)
        check_digest(_digest(values), digest, name)
        return values.astype(np.int64), True

    def dequantise(self, values: npt.NDArray[np.integer]) -> Floats:
        """As ValueCoder says."""
        return (2 * values.astype(np.int64) - 255) * HALF_STEP / _UNIT


def _quantise(latents: Floats) -> tuple[bytes, Bytes]:
    """The stream of latents (channels, h, w), and the bytes (channels, h, w) that it decodes to."""
    exact = np.clip((latents * _UNIT / HALF_STEP + 255) / 2, 0, 255)
    content, values = [], []
    for group in (exact[first : first + GROUP] for first in range(0, len(exact), GROUP)):
        palette = _palette(group.reshape(len(group), -1).T)
        indices = _dither(group.transpose(1, 2, 0), palette.astype(np.float64))
        content += [palette.tobytes(), indices.tobytes()]
        values.append(palette[indices].transpose(2, 0, 1))
    return zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(content)), np.concatenate(values)


def _unpack(stream: bytes, channels: int, height: int, width: int) -> Bytes:
    """The bytes (channels, height, width) of a stream. Raises MalformedFile."""
    groups = [min(GROUP, channels - first) for first in range(0, channels, GROUP)]
    size = sum(COLOURS * count + height * width for count in groups)
    try:
        if (stored := zstandard.frame_content_size(stream)) != size:
            raise MalformedFile(f"palette: the stream holds {stored} bytes, the tile needs {size}")
        reader = zstandard.ZstdDecompressor()
        content = reader.decompress(stream, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedFile(f"palette: not a whole zstandard frame ({error})") from error
    values, place = [], 0
    for count in groups:
        palette = np.frombuffer(content, np.uint8, COLOURS * count, place).reshape(COLOURS, count)
        place += palette.size
        indices = np.frombuffer(content, np.uint8, height * width, place).reshape(height, width)
        place += indices.size
        values.append(palette[indices].transpose(2, 0, 1))
    return np.concatenate(values)


def _digest(values: Bytes) -> int:
    """CRC-32 of the bytes, each as a signed 32-bit integer, little endian."""
    return crc32(values.astype("<i4").tobytes())


def _palette(colours: Floats) -> Bytes:
    """256 colours (256, channels) for (n, channels): k-means from cuts at the median."""
    some = colours[:: -(-len(colours) // _SAMPLES)]
    boxes = [some]
    while len(boxes) < COLOURS:
        spreads = [float(np.ptp(box, axis=0).max()) if len(box) > 1 else 0.0 for box in boxes]
        widest = int(np.argmax(spreads))
        if spreads[widest] == 0:
            break
        box = boxes.pop(widest)
        axis = int(np.argmax(np.ptp(box, axis=0)))
        order = box[np.argsort(box[:, axis], kind="stable")]
        boxes += [order[: len(order) // 2], order[len(order) // 2 :]]
    centres = np.stack([box.mean(0) for box in boxes])
    for _ in range(_ROUNDS):
        nearest = _nearest(some, centres)
        count = np.bincount(nearest, minlength=len(centres))
        total = np.stack([np.bincount(nearest, some[:, c], len(centres)) for c in range(some.shape[1])], 1)
        centres = np.where(count[:, None] > 0, total / np.maximum(count, 1)[:, None], centres)
    palette = np.zeros((COLOURS, colours.shape[1]), np.uint8)
    palette[: len(centres)] = np.rint(centres)
    palette[len(centres) :] = palette[0]
    return palette


def _nearest(colours: Floats, palette: Floats) -> npt.NDArray[np.int64]:
    """Indices (n,) of the nearest colours of the palette."""
    distance = (palette * palette).sum(1) - 2 * colours @ palette.T
    indices: npt.NDArray[np.int64] = distance.argmin(1)
    return indices


def _dither(picture: Floats, palette: Floats) -> Bytes:
    """Indices (h, w) of (h, w, channels), errors spread as Floyd and Steinberg do.

    Positions with the same x + 2y do not see each other, and go together.
    """
    height, width, _ = picture.shape
    targets = np.pad(picture, ((0, 1), (1, 1), (0, 0)))
    indices = np.zeros((height, width), np.uint8)
    for diagonal in range(width + 2 * (height - 1)):
        y = np.arange(max(0, -(-(diagonal - width + 1) // 2)), min(height, diagonal // 2 + 1))
        x = diagonal - 2 * y
        colours = np.clip(targets[y, x + 1], 0, 255)
        chosen = _nearest(colours, palette)
        indices[y, x] = chosen
        error = colours - palette[chosen]
        for dy, dx, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
            targets[y + dy, x + 1 + dx] += error * share / 16
    return indices
