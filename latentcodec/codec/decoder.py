"""File bytes -> picture, whole or as much as is left of it.

bytes ─► unpack (or salvage) ─► model identity ─► tiles: rANS + integer model ─► latent plane
                                                  └─► alpha                      └─► synthesise ─► Picture
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentcodec.alpha import unpack_alpha
from latentcodec.codec.native import NativeCodec
from latentcodec.codec.planes import PATCH, Box, empty_plane, latent_box, synthesise_tile, with_halo
from latentcodec.codec.sidecar import unpack_sidecar
from latentcodec.container import File, Header, Limits, unpack
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


def decode_file(
    codec: NativeCodec, file: File, limits: Limits, report: Report | None
) -> tuple[Picture, Report | None]:
    """The picture of a file. With a report (partial decoding) damaged parts are left out and added to it.

    Missing tiles are mid gray and opaque. Raises WeightsMismatch, FormatError.
    """
    header = file.header
    check_identity(codec.weights, header.networks_hash, header.synthesis_hash)
    # Zeros, not 255: the system commits their memory as tiles arrive, not for whatever size a header claims.
    plane = empty_plane(codec.weights.config.transform.latents, header.width, header.height)
    alpha = np.zeros((header.height, header.width), np.uint8) if header.has_alpha else None
    missing, incomplete, damaged = set(), set(), []
    for number, (box, tile) in enumerate(zip(header.tile_grid(), file.tiles, strict=True)):
        x0, y0, x1, y1 = latent_box(box)
        shown = None if alpha is None else alpha[box.y0 : box.y1, box.x0 : box.x1]
        if tile is None:
            if shown is not None:
                shown[:] = 255
            continue
        try:
            opacity = (
                None if alpha is None else unpack_alpha(tile.alpha or b"", box.y1 - box.y0, box.x1 - box.x0)
            )
            decoded = codec.decode_tile(
                tile.stream,
                tile.digest,
                header.quality_level,
                y1 - y0,
                x1 - x0,
                partial=report is not None and not tile.complete,
                name=f"tile {number}",
            )
            if not decoded.complete:
                incomplete.add(number)
            plane[:, y0:y1, x0:x1] = decoded.latents.cpu()
            if shown is not None and opacity is not None:
                shown[:] = opacity
        except (FormatError, LimitExceeded) as error:
            if report is None:
                raise
            missing.add(number)
            damaged.append(str(error))
            if shown is not None:
                shown[:] = 255
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
    pixels = synthesise_picture(codec, plane, header, report.missing if report is not None else ())
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
    return [
        (x, y, min(x + PIECE_SIDE, width), min(y + PIECE_SIDE, height))
        for y in range(0, height, PIECE_SIDE)
        for x in range(0, width, PIECE_SIDE)
    ]
