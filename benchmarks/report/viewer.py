"""What the page's viewer shows: originals and decoded files, as data addresses, within a bound on their size.

    rows of a picture ─► sizes at which the codecs' files lie close ─► the largest file at or under each
      OUT/pictures/<digest>.png ─────────────────────────────────────────► lossless WebP ─┐
      OUT/streams/<stream>, JPEG, WebP or AVIF: as it is, browsers decode it ─────────────┼─► data:image/...
      OUT/streams/<stream>, any other ─► its peer's decoder ─► lossless WebP ─────────────┘

Nothing in the folder is taken at its word: a file that is gone, cannot be decoded, or decodes to another
quality than its row says is left out, and named.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.metrics.standard import psnr
from benchmarks.peers import Peer, make_peer
from benchmarks.pictures.arrays import Pixels, to_pixels
from benchmarks.pictures.regions import busiest
from benchmarks.runs.rows import PICTURES, STREAMS, Row

__all__ = ["LEVELS", "Gallery", "pick_sizes", "show"]

LEVELS = (0.1, 0.2, 0.4, 0.8)
"""Bits per pixel near which a picture's sizes are chosen."""
REACH = math.sqrt(2)  # a size lies within this factor of its level
BUDGET = 24_000_000  # characters of all addresses: a page of more than 25 MB opens slowly
MOST_PIXELS = 8_000_000  # of a picture that is worth its place on a page
MOST_PICTURES = 24
SAME_PSNR = 0.1  # dB between what was measured and what is shown


@dataclass(eq=False)
class Gallery:
    """The pictures for the page, and what is not on it, in words."""

    pictures: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def show(out: Path, rows: Sequence[Row], order: Sequence[str], *, budget: int = BUDGET) -> Gallery:
    """As many pictures as `budget` has room for, in this order; fewer sizes where one picture is large."""
    gallery = Gallery()
    with_files = {row.picture for row in rows if row.stream}
    if not with_files:
        gallery.notes.append(
            "There is nothing to look at: these results hold no coded files. Measure again with "
            "`python -m benchmarks run`, which keeps them in OUT/streams."
        )
        return gallery
    decoders = _Decoders()
    room = budget
    names = [name for name in order if name in with_files]
    left_out: list[str] = []
    for name in names:
        own = [row for row in rows if row.picture == name and row.stream and row.bytes and not row.error]
        if len(gallery.pictures) == MOST_PICTURES or room < budget / 50 or not own:
            left_out.append(name)
            continue
        try:
            picture = _picture(out, own, decoders, room, gallery.notes)
        except (OSError, ValueError) as error:
            gallery.notes.append(f"{name} cannot be shown: {_why(error)}")
            continue
        if picture is None:
            left_out.append(name)
        else:
            room -= _length(picture)
            gallery.pictures.append(picture)
    if left_out:
        gallery.notes.append(
            f"{len(gallery.pictures)} of {len(names)} pictures are shown, so that the page stays under "
            f"{(budget + 1_000_000) // 1_000_000} MB. Not shown: {', '.join(sorted(left_out))}."
        )
    return gallery


def pick_sizes(sizes: Mapping[str, Sequence[int]], pixels: int) -> list[int]:
    """Sizes in bytes, ascending, near LEVELS, each where the codecs' largest files at or under it are close.

    sizes: the bytes of every codec's files. A codec that has none that small counts as REACH below.
    """
    everything = sorted({size for own in sizes.values() for size in own})
    picked = []
    for level in LEVELS:
        target = level * pixels / 8
        near = [size for size in everything if target / REACH <= size <= target * REACH]
        if near:
            picked.append(min(near, key=lambda size: sum(_gap(own, size) for own in sizes.values())))
    return sorted(set(picked))


def _gap(sizes: Sequence[int], limit: int) -> float:
    under = [size for size in sizes if size <= limit]
    return math.log(limit / max(under)) if under else math.log(REACH)


class _Decoders:
    """The peers that decode what browsers cannot, each made when it is first needed."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer | Exception] = {}

    def decode(self, codec: str, data: bytes) -> Pixels:
        """Raises what the peer raises, also if it cannot be had."""
        if codec not in self._peers:
            try:
                self._peers[codec] = make_peer(codec)
            except Exception as error:  # noqa: BLE001 - an absent codec is a remark on the page
                self._peers[codec] = error
        peer = self._peers[codec]
        if isinstance(peer, Exception):
            raise peer
        return peer.decode(data)


def _picture(
    out: Path, rows: Sequence[Row], decoders: _Decoders, room: int, notes: list[str]
) -> dict[str, Any] | None:
    """One picture with as many sizes as there is room for; None if there is none.

    Raises OSError or ValueError if its original is not there or not what the rows say.
    """
    original = _original(out / PICTURES / f"{_plain(rows[0].digest)}.png", rows[0])
    height, width = original.shape[:2]
    left, top, right, bottom = busiest(original)
    picture: dict[str, Any] = {
        "name": rows[0].picture,
        "width": width,
        "height": height,
        "detail": [(left + right) // 2, (top + bottom) // 2],
        "address": _lossless(original),
    }
    files: dict[str, dict[int, Row]] = {}
    for row in rows:
        files.setdefault(row.codec, {})[row.bytes or 0] = row
    sizes = pick_sizes({codec: sorted(by_size) for codec, by_size in files.items()}, width * height)
    images: dict[str, dict[str, Any] | None] = {}
    while sizes:
        chosen = {codec: [_at_or_under(by_size, size) for size in sizes] for codec, by_size in files.items()}
        picture["sizes"] = sizes
        picture["shown"] = {codec: [_key(row) for row in own] for codec, own in chosen.items()}
        picture["images"] = {}
        for row in (row for own in chosen.values() for row in own):
            key = _key(row)
            if key not in images:
                images[key] = _image(out, row, original, decoders, notes)
            if images[key]:
                picture["images"][key] = images[key]
            if _length(picture) > room:
                break
        else:
            return picture
        sizes = sizes[: len(sizes) // 2]
    return None


def _image(
    out: Path, row: Row, original: Pixels, decoders: _Decoders, notes: list[str]
) -> dict[str, Any] | None:
    """One file, decoded by the browser or here; None, and a remark, if it cannot be shown."""
    try:
        data = (out / STREAMS / _plain(row.stream or "")).read_bytes()
        if len(data) != row.bytes:
            raise ValueError(f"the file has {len(data)} bytes, the row says {row.bytes}")
        kind = _browser_type(data)
        if kind:
            with Image.open(io.BytesIO(data)) as image:
                pixels = to_pixels(image)
        else:
            pixels = decoders.decode(row.codec, data)
        quality = psnr(original, pixels)
        if abs(quality - row.metrics.get("psnr", quality)) > SAME_PSNR:
            raise ValueError(f"it decodes to {quality:.2f} dB, the row says {row.metrics['psnr']:.2f}")
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises, the page says so and goes on
        notes.append(f"{row.picture}, {row.codec} {row.setting:g} cannot be shown: {_why(error)}")
        return None
    return {
        "codec": row.codec,
        "setting": row.setting,
        "bytes": row.bytes,
        "bpp": row.bpp,
        "metrics": {name: value if math.isfinite(value) else None for name, value in row.metrics.items()},
        "address": _address(kind, data) if kind else _lossless(pixels),
    }


def _why(error: Exception) -> str:
    """The error without the folders of this machine."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.strerror}: {Path(error.filename).name}"
    return str(error)


def _at_or_under(files: Mapping[int, Row], limit: int) -> Row:
    """The largest file of at most `limit` bytes, else the smallest: the page says that it is over."""
    under = [size for size in files if size <= limit]
    return files[max(under) if under else min(files)]


def _key(row: Row) -> str:
    return f"{row.codec} {row.setting:g}"


def _original(path: Path, row: Row) -> Pixels:
    with Image.open(path) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width}x{image.height}, more than {MOST_PIXELS // 1_000_000} megapixels")
        pixels = to_pixels(image)
    if pixels.shape[0] * pixels.shape[1] != row.pixels:
        raise ValueError(
            f"{path.name} has {pixels.shape[0] * pixels.shape[1]} pixels, the row says {row.pixels}"
        )
    return pixels


def _plain(name: str) -> str:
    """The name, if it is one: a row is data, and no path out of the folder."""
    if not name or Path(name).name != name:
        raise ValueError(f"{name!r} is no file name")
    return name


def _browser_type(data: bytes) -> str | None:
    """The media type of a file that browsers decode, by its first bytes."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return "image/avif" if data[4:12] in {b"ftypavif", b"ftypmif1"} else None


def _lossless(pixels: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True, quality=40, method=3)
    return _address("image/webp", buffer.getvalue())


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _length(picture: Mapping[str, Any]) -> int:
    """Characters that a picture's addresses take."""
    return len(picture["address"]) + sum(len(image["address"]) for image in picture["images"].values())
