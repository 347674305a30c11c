"""Reading the native model's files: tiles to latents, and the latent plane to pixels, piece by piece.

tile ─► NativeCodec.decode_tile ─► plane in sixteenths ─► for each piece: crop with halo ─► synthesise
                                                          ─► cut the halo off ─► pixels

The synthesis has a finite receptive field: with its halo a piece shows what the whole picture would, so that
there are no seams and memory is bounded by the piece.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from latentcodec.codec.decoder import decode_with
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.codec.planes import PATCH, LatentBox, LatentPlane, squares, with_halo
from latentcodec.container.file import File, Header, Limits, Tile
from latentcodec.container.salvage import Report
from latentcodec.parallel import in_order
from latentcodec.picture.picture import Picture, Pixels
from latentcodec.picture.samples import sample_type
from latentcodec.weights.native import check_identity

# Latents of a synthesised piece: the largest whole one-tile picture, and the side of larger ones' pieces.
PIECE_LATENTS = 3 << 13
PIECE_SIDE = 128


class NativeReader:
    """Reads the native model's files, for decode_with."""

    patch, blank = PATCH, 0

    def __init__(self, codec: NativeCodec, header: Header) -> None:
        """Raises WeightsMismatch."""
        check_identity(codec.weights, header.networks_hash, header.synthesis_hash)
        self.codec, self.header = codec, header
        self.latents = codec.weights.config.transform.latents
        self.threads = codec.threads

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[NDArray[np.int32], bool]:
        """As decoder.Reader says, in sixteenths."""
        decoded = self.codec.decode_tile(
            tile.stream,
            tile.digest,
            self.header.quality_level,
            height,
            width,
            partial=partial,
            name=name,
        )
        return decoded.latents, decoded.complete

    def synthesise(self, plane: LatentPlane, missing: Collection[int]) -> Pixels:
        """As decoder.Reader says."""
        return synthesise_picture(self.codec, plane, self.header, missing)


def decode_file(
    codec: NativeCodec, file: File, limits: Limits, report: Report | None
) -> tuple[Picture, Report | None]:
    """The picture of a file of the native model: see decode_with. Raises WeightsMismatch."""
    return decode_with(NativeReader(codec, file.header), file, limits, report)


def synthesise_picture(
    codec: NativeCodec, plane: LatentPlane, header: Header, missing: Collection[int] = ()
) -> Pixels:
    """Pixels (height, width, 3) of a latent plane (C, h, w) in sixteenths; gray pictures have equal planes.

    missing: numbers of the tiles whose latents are not there. A piece that sees no other is left gray at
    once, so that a few bytes of a header cost no more than they bring.
    """
    halo = codec.weights.config.transform.synthesis_halo
    bits = header.depth
    out = np.empty((header.height, header.width, 3), sample_type(bits))
    present = np.ones((header.tile_count // header.tile_columns, header.tile_columns), bool)
    present.flat[list(missing)] = False

    def synthesise(latents: LatentPlane) -> Pixels:
        return codec.synthesise(latents.astype(np.int32), header.quality_level, bits)

    def place(box: LatentBox) -> None:
        if missing and not _touches_present_tile(present, box, halo, header):
            out[box[1] * PATCH : box[3] * PATCH, box[0] * PATCH : box[2] * PATCH] = 1 << (bits - 1)
            return
        piece = synthesise_tile(plane, box, halo, synthesise)
        if header.channels <= 2:
            gray = (piece.sum(2, dtype=np.uint16 if bits == 8 else np.uint32, keepdims=True) + 1) // 3
            piece = np.repeat(gray.astype(piece.dtype), 3, 2)
        x0, y0, x1, y1 = (side * PATCH for side in box)
        target = out[y0:y1, x0:x1]
        target[:] = piece[: target.shape[0], : target.shape[1]]

    for _ in in_order(place, pieces(plane.shape[2], plane.shape[1]), codec.threads):
        pass
    return out


def synthesise_tile(
    plane: LatentPlane, box: LatentBox, halo: int, synthesise: Callable[[LatentPlane], Pixels]
) -> Pixels:
    """Pixels (8h, 8w, 3) of a tile from the latent plane (C, H, W); box and halo in latents."""
    height, width = plane.shape[1:]
    x0, y0, x1, y1 = with_halo(box, halo, width, height)
    pixels = synthesise(plane[:, y0:y1, x0:x1])
    top, left = (box[1] - y0) * PATCH, (box[0] - x0) * PATCH
    return pixels[top : top + (box[3] - box[1]) * PATCH, left : left + (box[2] - box[0]) * PATCH]


def _touches_present_tile(present: NDArray[np.bool_], box: LatentBox, halo: int, header: Header) -> bool:
    """Whether a piece (in latents) with its halo touches a tile that is there."""
    x0, y0, x1, y1 = (edge * PATCH for edge in with_halo(box, halo, 1 << 30, 1 << 30))
    across, down = header.tile_size or header.width, header.tile_size or header.height
    return bool(present[y0 // down : (y1 - 1) // down + 1, x0 // across : (x1 - 1) // across + 1].any())


def pieces(width: int, height: int) -> list[LatentBox]:
    """Boxes of latents that are synthesised at once."""
    if width * height <= PIECE_LATENTS:
        return [(0, 0, width, height)]
    return squares(width, height, PIECE_SIDE)
