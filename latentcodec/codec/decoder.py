"""File bytes -> picture, whole or as much as is left of it.

bytes ─► unpack (or salvage) ─► model identity ─► tiles: rANS + integer model ─► latent plane
                                                  └─► alpha                      └─► synthesise ─► Picture

What differs between models stands behind `Reader`: the native one's is here, latent_file.py has that of other
autoencoders, pixels.py that of files without loss.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentcodec.alpha import unpack_alpha
from latentcodec.codec.native import NativeCodec
from latentcodec.codec.planes import (
    PATCH,
    Box,
    empty_plane,
    latent_box,
    squares,
    synthesise_tile,
    with_halo,
)
from latentcodec.codec.sidecar import unpack_sidecar
from latentcodec.container import File, Header, Limits, Tile, unpack
from latentcodec.errors import FormatError, LimitExceeded
from latentcodec.image import Picture
from latentcodec.salvage import Report, salvage
from latentcodec.weights.native import check_identity

# Latents of a synthesised piece: the largest whole one-tile picture, and the side of larger ones' pieces.
PIECE_LATENTS = 3 << 13
PIECE_SIDE = 128
_GRAY = 128
Pixels = NDArray[np.uint8]


def read(data: bytes, limits: Limits, partial: bool) -> tuple[File, Report | None]:
    """The file, strictly, or what can be salvaged of it and a report."""
    return salvage(data, limits) if partial else (unpack(data, limits), None)


class Reader(Protocol):
    """A file's model, ready to read its tiles.

    patch: pixels of a latent position, along a side. latents: channels of the plane. blank: what the plane
    holds where a tile is missing.
    """

    patch: int
    latents: int
    blank: int

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[Tensor, bool]:
        """The tile's part (latents, height, width) of the plane, and whether its stream was whole."""

    def synthesise(self, plane: Tensor, missing: Collection[int]) -> Pixels:
        """Pixels (height, width, 3) of the plane (latents, h, w) int16; `missing`: tiles without latents."""


class NativeReader:
    """Reads the native model's files."""

    patch, blank = PATCH, 0

    def __init__(self, codec: NativeCodec, header: Header) -> None:
        """Raises WeightsMismatch."""
        check_identity(codec.weights, header.networks_hash, header.synthesis_hash)
        self.codec, self.header = codec, header
        self.latents = codec.weights.config.transform.latents

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[Tensor, bool]:
        """As Reader says, in sixteenths."""
        decoded = self.codec.decode_tile(
            tile.stream,
            tile.digest,
            self.header.quality_level,
            height,
            width,
            partial=partial,
            name=name,
        )
        return decoded.latents.cpu(), decoded.complete

    def synthesise(self, plane: Tensor, missing: Collection[int]) -> Pixels:
        """As Reader says."""
        return synthesise_picture(self.codec, plane, self.header, missing)


def decode_file(
    codec: NativeCodec, file: File, limits: Limits, report: Report | None
) -> tuple[Picture, Report | None]:
    """The picture of a file of the native model: see decode_with. Raises WeightsMismatch."""
    return decode_with(NativeReader(codec, file.header), file, limits, report)


def decode_with(
    reader: Reader, file: File, limits: Limits, report: Report | None
) -> tuple[Picture, Report | None]:
    """The picture of a file. With a report (partial decoding) damaged parts are left out and added to it.

    Missing tiles are mid gray and opaque. Raises FormatError.
    """
    header = file.header
    # Zeros, not 255: the system commits their memory as tiles arrive, not for whatever size a header claims.
    plane = empty_plane(reader.latents, header.width, header.height, reader.patch)
    alpha = np.zeros((header.height, header.width), np.uint8) if header.has_alpha else None
    missing, incomplete, damaged = set(), set(), []

    def leave_out(number: int) -> None:
        x0, y0, x1, y1 = latent_box(boxes[number], reader.patch)
        if reader.blank:
            plane[:, y0:y1, x0:x1] = reader.blank
        if alpha is not None:
            box = boxes[number]
            alpha[box.y0 : box.y1, box.x0 : box.x1] = 255

    boxes = header.tile_grid()
    for number, (box, tile) in enumerate(zip(boxes, file.tiles, strict=True)):
        if tile is None:
            leave_out(number)
            continue
        x0, y0, x1, y1 = latent_box(box, reader.patch)
        try:
            opacity = (
                None if alpha is None else unpack_alpha(tile.alpha or b"", box.y1 - box.y0, box.x1 - box.x0)
            )
            latents, complete = reader.decode_tile(
                tile,
                y1 - y0,
                x1 - x0,
                partial=report is not None and not tile.complete,
                name=f"tile {number}",
            )
            if not complete:
                incomplete.add(number)
            plane[:, y0:y1, x0:x1] = latents
            if alpha is not None and opacity is not None:
                alpha[box.y0 : box.y1, box.x0 : box.x1] = opacity
        except (FormatError, LimitExceeded) as error:
            if report is None:
                raise
            missing.add(number)
            damaged.append(str(error))
            leave_out(number)
    sidecars = {}
    for name, stored in (("profile", file.profile), ("exif", file.exif), ("xmp", file.xmp)):
        try:
            sidecars[name] = unpack_sidecar(stored, name, limits.max_metadata_bytes)
        except (FormatError, LimitExceeded) as error:
            if report is None:
                raise
            sidecars[name] = None
            damaged.append(str(error))
    if report is not None:
        report = replace(
            report,
            missing=tuple(sorted(missing | set(report.missing))),
            incomplete=tuple(sorted((incomplete | set(report.incomplete)) - missing)),
            damaged=(*report.damaged, *damaged),
        )
    pixels = reader.synthesise(plane, report.missing if report is not None else ())
    return Picture(pixels, alpha, header.channels <= 2, **sidecars), report


def synthesise_picture(
    codec: NativeCodec, plane: Tensor, header: Header, missing: Collection[int] = ()
) -> Pixels:
    """Pixels (height, width, 3) of a latent plane (C, h, w) in sixteenths; gray pictures have equal planes.

    missing: numbers of the tiles whose latents are not there. A piece that sees no other is left gray at
    once, so that a few bytes of a header cost no more than they bring.
    """
    halo = codec.weights.config.transform.synthesis_halo
    out = np.empty((header.height, header.width, 3), np.uint8)
    present = np.ones((header.tile_count // header.tile_columns, header.tile_columns), bool)
    present.flat[list(missing)] = False
    for box in pieces(plane.shape[2], plane.shape[1]):
        if missing and not _seen(present, box, halo, header):
            out[box[1] * PATCH : box[3] * PATCH, box[0] * PATCH : box[2] * PATCH] = _GRAY
            continue
        piece = synthesise_tile(
            plane, box, halo, lambda latents: codec.synthesise(latents.to(torch.int32), header.quality_level)
        )
        if header.channels <= 2:
            piece = np.repeat(np.rint(piece.mean(2, keepdims=True)).astype(np.uint8), 3, 2)
        x0, y0, x1, y1 = (side * PATCH for side in box)
        target = out[y0:y1, x0:x1]
        target[:] = piece[: target.shape[0], : target.shape[1]]
    return out


def _seen(present: NDArray[np.bool_], box: Box, halo: int, header: Header) -> bool:
    """Whether a piece (in latents) with its halo touches a tile that is there."""
    x0, y0, x1, y1 = (edge * PATCH for edge in with_halo(box, halo, 1 << 30, 1 << 30))
    across, down = header.tile_size or header.width, header.tile_size or header.height
    return bool(present[y0 // down : (y1 - 1) // down + 1, x0 // across : (x1 - 1) // across + 1].any())


def pieces(width: int, height: int) -> list[Box]:
    """Boxes of latents that are synthesised at once."""
    if width * height <= PIECE_LATENTS:
        return [(0, 0, width, height)]
    return squares(width, height, PIECE_SIDE)
