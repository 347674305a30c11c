"""The alpha plane: kept losslessly, and the colours under it made cheap.

    alpha (H,W) ─► above 8 bits: the upper bytes, and below them the lower, as a plane of 2H rows
    alpha (H,W) ─► rows filtered: none | sub (minus the left) | up (minus the one above)
                     ─► H x (filter byte, W filtered bytes) ─► one zstandard frame = the payload
    payload ─► frame whose stated content size is H * (W + 1) ─► filters undone ─► alpha (H,W)

    pixels (H,W,3), alpha ─► where alpha is 0: mean colours of its surroundings ─► pixels that code well

The filters are PNG's 0, 1 and 2, in arithmetic modulo 256; outside the plane stands 0. PNG's other two
(average and Paeth) are not part of the format: they cannot be undone in whole-array operations, and gain
little on masks.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import zstandard

from latentcodec.errors import InvalidArgument, MalformedFile
from latentcodec.picture.picture import Pixels
from latentcodec.picture.samples import Plane

__all__ = ["fill_transparent", "pack_alpha", "unpack_alpha"]

Bytes = npt.NDArray[np.uint8]
FloatPlane = npt.NDArray[np.float64]
Number = TypeVar("Number", bound=np.generic)

_NONE, _SUB, _UP = 0, 1, 2  # as in PNG (ISO/IEC 15948, 9.2)
_TRIAL_LEVEL = 3  # of zstandard: enough to see which choice of filters is shortest
_FINAL_LEVEL = 19
_BLOCK = 8  # the side of the transform's blocks


def pack_alpha(alpha: Plane) -> bytes:
    """The payload of an alpha plane, uint8 or uint16 (H, W), H and W at least 1.

    Four choices of row filters are tried (none, sub, up, and for every row the one with the least sum of
    absolute values) and the shortest result is taken. Raises InvalidArgument for anything that is no such
    plane.
    """
    if alpha.dtype not in (np.uint8, np.uint16) or alpha.ndim != 2 or alpha.size == 0:
        raise InvalidArgument(
            f"an alpha plane is a non-empty uint8 or uint16 array (H, W), this is {alpha.dtype} {alpha.shape}"
        )
    if alpha.dtype == np.uint16:
        return pack_alpha(np.concatenate([alpha >> 8, alpha & 0xFF]).astype(np.uint8))
    height, filtered = len(alpha), np.stack([alpha.astype(np.uint8)] * 3)
    filtered[_SUB, :, 1:] -= alpha[:, :-1]
    filtered[_UP, 1:] -= alpha[:-1]
    cheapest = np.abs(filtered.view(np.int8).astype(np.int16)).sum(axis=2).argmin(axis=0)
    choices = [_rows(filtered, np.full(height, kind)) for kind in (_NONE, _SUB, _UP)]
    choices.append(_rows(filtered, cheapest))
    return _compress(min(choices, key=lambda rows: len(_compress(rows, _TRIAL_LEVEL))), _FINAL_LEVEL)


def _rows(filtered: Bytes, kinds: npt.NDArray[np.intp]) -> bytes:
    """Row y as kinds[y] filters it, behind its filter byte; `filtered` is (kinds, H, W)."""
    _, height, width = filtered.shape
    rows = np.empty((height, width + 1), np.uint8)
    rows[:, 0] = kinds
    rows[:, 1:] = filtered[kinds, np.arange(height)]
    return rows.tobytes()


def _compress(rows: bytes, level: int) -> bytes:
    # No checksum: the CRC of the chunk covers the payload.
    compressor = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
    return compressor.compress(rows)


def unpack_alpha(data: bytes, height: int, width: int, bits: int = 8) -> Plane:
    """The alpha plane (height, width) of so many bits, 8 to 16, of a payload that `pack_alpha` made.

    Allocates no more than a few times height * (width + 1) bytes, whatever the payload claims. Raises
    MalformedFile for everything that is not exactly one zstandard frame, without a dictionary, that states
    its content size, of `height` rows (twice as many above 8 bits) of `width` bytes behind a filter byte 0, 1
    or 2, or that holds a number of more bits; InvalidArgument for a height or width under 1.
    """
    if height < 1 or width < 1:
        raise InvalidArgument(f"an alpha plane has at least one pixel, {width}x{height} was asked for")
    if bits > 8:
        high, low = np.split(unpack_alpha(data, 2 * height, width).astype(np.uint16), 2)
        alpha: npt.NDArray[np.uint16] = (high << 8 | low).astype(np.uint16)
        if alpha.max() >> bits:
            raise MalformedFile(f"alpha payload: {alpha.max()} is no number of {bits} bits")
        return alpha
    expected = height * (width + 1)
    try:
        stated = zstandard.frame_content_size(data)
        if stated != expected:
            # Checked first: the decompressor allocates what the frame states, whatever limit it is given.
            claim = "does not state its size" if stated < 0 else f"states {stated} bytes"
            raise MalformedFile(f"alpha payload: its frame {claim}, {width}x{height} pixels take {expected}")
        plain = zstandard.ZstdDecompressor().decompress(
            data, max_output_size=expected, read_across_frames=False, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise MalformedFile(f"alpha payload: no intact zstandard frame ({error})") from error
    if len(plain) != expected:
        raise MalformedFile(f"alpha payload: {len(plain)} bytes, {width}x{height} pixels take {expected}")
    rows = np.frombuffer(plain, np.uint8).reshape(height, width + 1)
    return _unfilter(kinds=rows[:, 0], rows=rows[:, 1:])


def _unfilter(kinds: Bytes, rows: Bytes) -> Bytes:
    """Undo the row filters, with no loop over rows: a plane one pixel wide is as quick as any other."""
    if kinds.max() > _UP:
        row = int(np.argmax(kinds > _UP))
        raise MalformedFile(f"alpha payload: row {row} has filter {kinds[row]}, the format has 0 to {_UP}")
    plane = rows.copy()
    sub = kinds == _SUB
    plane[sub] = np.cumsum(plane[sub], axis=1, dtype=np.uint8)
    # An `up` row is the sum of all rows from the last row that is not `up`, its anchor, down to itself. Sums
    # from the top wrap modulo 256 and so does their difference; above row 0 stands 0, as if row -1 were an
    # anchor.
    index = np.arange(len(kinds))
    anchor = np.maximum.accumulate(np.where(kinds == _UP, 0, index))
    sums = np.cumsum(plane, axis=0, dtype=np.uint8)
    before = np.where((anchor > 0)[:, None], sums[anchor - 1], np.uint8(0))
    return np.subtract(sums, before, dtype=np.uint8)


def fill_transparent(pixels: Pixels, alpha: Plane, bits: int = 8) -> Pixels:
    """The colours with others wherever alpha is 0: those are invisible, so they may be what codes best.

    Each hidden pixel takes the mean of the visible ones in the smallest aligned block of 8, 16, 32 ... pixels
    that has any: flat blocks on the transform's grid have no detail to code. Pixels with alpha above 0 keep
    their values; a wholly hidden picture becomes mid gray.

    Args: (H, W, 3) and (H, W), of `bits` bits. Returns a new array, or `pixels` itself if nothing is hidden.
    """
    if pixels.shape[:2] != alpha.shape:
        raise InvalidArgument(f"pixels {pixels.shape} and alpha {alpha.shape} differ in size")
    if alpha.all():
        return pixels
    height, width = alpha.shape
    visible = (alpha > 0)[..., None]
    totals, counts = _block_sums(pixels * visible, _BLOCK), _block_sums(visible, _BLOCK)
    fill = np.rint(_spread(totals, counts, 1 << (bits - 1))).astype(pixels.dtype)
    filled: Pixels = np.where(visible, pixels, _enlarge(fill, _BLOCK)[:height, :width])
    return filled


def _spread(totals: FloatPlane, counts: FloatPlane, unseen: int) -> FloatPlane:
    """Mean colours (h, w, 3) of sums and counts (h, w, 1); where the count is 0, those of larger blocks.

    unseen: mid gray, where nothing is visible.
    """
    visible = counts > 0
    means = totals / np.maximum(counts, 1)
    if visible.all():
        return means
    if counts.size == 1:
        return np.full_like(totals, unseen)
    height, width = visible.shape[:2]
    larger = _enlarge(_spread(_block_sums(totals, 2), _block_sums(counts, 2), unseen), 2)
    return np.where(visible, means, larger[:height, :width])


def _block_sums(plane: npt.NDArray[Number], side: int) -> FloatPlane:
    """Sums (ceil(h / side), ceil(w / side), n) of aligned blocks; those at the far edges may be cut short."""
    height, width, channels = plane.shape
    padded = np.pad(plane, ((0, -height % side), (0, -width % side), (0, 0)))
    rows = padded.reshape(len(padded) // side, side, -1).sum(axis=1, dtype=np.float64)  # long runs: quick
    return np.asarray(rows.reshape(len(rows), -1, side, channels).sum(axis=2))


def _enlarge(plane: npt.NDArray[Number], side: int) -> npt.NDArray[Number]:
    return plane.repeat(side, axis=0).repeat(side, axis=1)
