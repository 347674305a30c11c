"""File bytes -> picture, whole or as much as is left of it.

bytes ─► unpack (or salvage) ─► model identity ─► tiles ─► Reader.decode_tile ─► latent plane
                                                  └─► alpha                      └─► synthesise ─► Picture

What differs between models stands behind `Reader`: each model has its own, in lossless.py, native/decoder.py
and autoencoder/reader.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from latentcodec.codec.alpha import unpack_alpha
from latentcodec.codec.planes import LatentPlane, empty_plane, latent_box
from latentcodec.codec.sidecar import unpack_metadata
from latentcodec.container.file import File, Limits, Tile, unpack
from latentcodec.container.header import Box
from latentcodec.container.salvage import Report, salvage
from latentcodec.errors import FormatError, LimitExceeded, TruncatedFile
from latentcodec.parallel import in_order
from latentcodec.picture.picture import Picture, Pixels


def read(data: bytes, limits: Limits, partial: bool) -> tuple[File, Report | None]:
    """The file, strictly, or what can be salvaged of it and a report."""
    return salvage(data, limits) if partial else (unpack(data, limits), None)


class Reader(Protocol):
    """A file's model, ready to read its tiles.

    patch: pixels of a latent position, along a side. latents: channels of the plane. blank: what the plane
    holds where a tile is missing. threads: how many may decode tiles at once.
    """

    patch: int
    latents: int
    blank: int
    threads: int

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[NDArray[np.signedinteger], bool]:
        """The tile's part (latents, height, width) of the plane, and whether its stream was whole."""

    def synthesise(self, plane: LatentPlane, missing: Collection[int]) -> Pixels:
        """Pixels (height, width, 3) of the plane (latents, h, w); `missing`: tiles without latents."""


def decode_with(
    reader: Reader, file: File, limits: Limits, report: Report | None
) -> tuple[Picture, Report | None]:
    """The picture of a file. With a report (partial decoding) damaged parts are left out and added to it.

    Missing tiles are mid gray and opaque. Raises FormatError, also where every tile is missing.
    """
    header, damage = file.header, _Damage(report)
    _check_rest(report, header.tile_count)
    # Zeros, not 255: the system commits their memory as tiles arrive, not for whatever size a header claims.
    plane = empty_plane(reader.latents, header.width, header.height, reader.patch)
    alpha = np.zeros((header.height, header.width), np.uint8) if header.has_alpha else None
    tiles = zip(header.tile_grid(), file.tiles, strict=True)
    decode = partial(_decode_tile, reader, header.has_alpha, damage)
    for number, box, decoded in in_order(decode, enumerate(tiles), reader.threads):
        with damage.noted(number):
            if isinstance(decoded, Exception):
                raise decoded
            if decoded is not None:
                _place_tile(reader, decoded, number, box, plane, alpha, damage)
                continue
        _leave_out(reader, box, plane, alpha)
    metadata = unpack_metadata(file, limits.max_metadata_bytes, damage.noted)
    report = damage.report()
    _check_rest(report, header.tile_count)
    pixels = reader.synthesise(plane, report.missing if report is not None else ())
    return Picture(pixels, alpha, header.channels <= 2, **metadata), report


def _check_rest(report: Report | None, tile_count: int) -> None:
    """Raise TruncatedFile where no tile is left: a header alone must not cost what it announces."""
    if report is not None and len(report.missing) == tile_count:
        cause = f" ({report.damaged[0]})" if report.damaged else ""
        raise TruncatedFile(f"none of the {tile_count} tile(s) is left{cause}: there is no picture to show")


@dataclass
class _Damage:
    """What a partial decoding finds damaged, to be added to the report; without one, errors are raised."""

    before: Report | None
    missing: set[int] = field(default_factory=set)
    incomplete: set[int] = field(default_factory=set)
    messages: list[str] = field(default_factory=list)

    @contextmanager
    def noted(self, tile: int | None = None) -> Iterator[None]:
        """Note an error of the file in here, and a tile as missing for it; without a report raise it."""
        try:
            yield
        except (FormatError, LimitExceeded) as error:
            if self.before is None:
                raise
            self.messages.append(str(error))
            self.missing |= set() if tile is None else {tile}

    def report(self) -> Report | None:
        """The report with what was added."""
        if self.before is None:
            return None
        missing = self.missing | set(self.before.missing)
        return replace(
            self.before,
            missing=tuple(sorted(missing)),
            incomplete=tuple(sorted((self.incomplete | set(self.before.incomplete)) - self.missing)),
            damaged=(*self.before.damaged, *self.messages),
        )


@dataclass(frozen=True)
class _DecodedTile:
    """A tile's latents, whether its stream was whole, and its alpha."""

    latents: NDArray[np.signedinteger]
    complete: bool
    opacity: NDArray[np.uint8] | None


def _decode_tile(
    reader: Reader, has_alpha: bool, damage: _Damage, numbered: tuple[int, tuple[Box, Tile | None]]
) -> tuple[int, Box, _DecodedTile | FormatError | LimitExceeded | None]:
    """A tile's number and box, and what it holds or what is wrong with it; None for one that is not there."""
    number, (box, tile) = numbered
    if tile is None:
        return number, box, None
    x0, y0, x1, y1 = latent_box(box, reader.patch)
    try:
        opacity = None
        if has_alpha:
            opacity = unpack_alpha(tile.alpha or b"", box.y1 - box.y0, box.x1 - box.x0)
        cut = damage.before is not None and not tile.complete
        latents, complete = reader.decode_tile(tile, y1 - y0, x1 - x0, partial=cut, name=f"tile {number}")
    except (FormatError, LimitExceeded) as error:
        return number, box, error
    return number, box, _DecodedTile(latents, complete, opacity)


def _place_tile(
    reader: Reader,
    decoded: _DecodedTile,
    number: int,
    box: Box,
    plane: LatentPlane,
    alpha: NDArray[np.uint8] | None,
    damage: _Damage,
) -> None:
    """Put a tile into plane and alpha."""
    x0, y0, x1, y1 = latent_box(box, reader.patch)
    if not decoded.complete:
        damage.incomplete.add(number)
    plane[:, y0:y1, x0:x1] = decoded.latents
    if alpha is not None and decoded.opacity is not None:
        alpha[box.y0 : box.y1, box.x0 : box.x1] = decoded.opacity


def _leave_out(reader: Reader, box: Box, plane: LatentPlane, alpha: NDArray[np.uint8] | None) -> None:
    """A tile that is missing: blank latents, opaque."""
    x0, y0, x1, y1 = latent_box(box, reader.patch)
    if reader.blank:
        plane[:, y0:y1, x0:x1] = reader.blank
    if alpha is not None:
        alpha[box.y0 : box.y1, box.x0 : box.x1] = 255
