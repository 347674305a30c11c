"""Files of 9 to 16 bits a sample, which Pillow writes of gray at most: its 8-bit file, with deeper samples.

    Picture ─► PNG, AVIF: Pillow's file of one pixel ─► profile, EXIF ... ─┐
            └► deeper samples (zlib; imagecodecs) ─────────────────────────┴─► bytes
    Picture ─► TIFF: two bytes a sample as two pixels of one ─► Pillow's file, its width and depth set right
    Picture ─► PPM, JPEG 2000 (imagecodecs) ─► bytes

So all that stands beside the samples is what embed.py says of 8 bits.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from latentcodec.picture.deep_reading import EXTRA
from latentcodec.picture.notices import ReducedDepthWarning, report
from latentcodec.picture.picture import Picture, with_depth
from latentcodec.picture.samples import MAX_DEPTH

__all__ = ["Shell", "deep_bytes"]

Shell = Callable[[Picture], bytes]
"""The file of an 8-bit picture, with what stands beside the samples."""

_PNG_START = 8  # bytes of its signature
_UP = 2  # PNG's filter: minus the one above
_ZLIB_LEVEL = 6
_WIDTH_TAG, _BITS_TAG = 0x0100, 0x0102  # of TIFF
_SHORT = 3
_AVIF_DEPTHS = (10, 12)
_ILOC = b"\0\0\0\0\x44\0"  # version 0; offsets and sizes of four bytes, without a base
_MDAT = b"mdat"


def deep_bytes(picture: Picture, kind: str, shell: Shell, label: str, quality: int) -> bytes | None:
    """A picture of more than 8 bits in a format; None where the format, or this installation, has only 8.

    shell: writes 8-bit pictures. quality: of AVIF. A ReducedDepthWarning says what is lost.
    """
    if kind == "PNG":
        return _png(with_depth(picture, MAX_DEPTH), shell)
    if kind == "TIFF":
        return _tiff(with_depth(picture, MAX_DEPTH), shell)
    if kind == "PPM":
        return _ppm(picture)
    if kind not in ("AVIF", "JPEG2000"):
        _reduced(label, f"{kind} has 8 bits a channel, the picture's {picture.bit_depth} are rounded")
        return None
    try:
        imagecodecs = import_module("imagecodecs")
    except ImportError:
        _reduced(
            label,
            f"the picture's {picture.bit_depth} bits a channel are rounded to 8, which is what "
            f"Pillow writes of {kind}: {EXTRA} writes all of them, and so does PNG or TIFF",
        )
        return None
    return (
        _avif(picture, shell, imagecodecs, label, quality)
        if kind == "AVIF"
        else _jpeg2000(picture, imagecodecs)
    )


def _channels(picture: Picture, gray_alpha: bool) -> npt.NDArray[np.uint16]:
    """(H, W, n) uint16, n as the format has it: with `gray_alpha` also 2."""
    gray = picture.gray and (gray_alpha or picture.alpha is None)
    parts = [picture.pixels[..., :1] if gray else picture.pixels]
    parts += [] if picture.alpha is None else [picture.alpha[..., None]]
    return np.concatenate(parts, 2).astype(np.uint16)


def _one_pixel(picture: Picture) -> Picture:
    """A picture of one pixel of 8 bits, of the same kind and with the same metadata."""
    alpha = None if picture.alpha is None else np.zeros((1, 1), np.uint8)
    return replace(picture, pixels=np.zeros((1, 1, 3), np.uint8), alpha=alpha, bit_depth=8)


def _png(picture: Picture, shell: Shell) -> bytes:
    samples = _channels(picture, gray_alpha=True).astype(">u2")
    height, width = samples.shape[:2]
    rows = samples.view(np.uint8).reshape(height, -1)
    filtered = np.full((height, 1 + rows.shape[1]), _UP, np.uint8)
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]
    written, out = False, [b"\x89PNG\r\n\x1a\n"]
    for kind, payload in _png_chunks(shell(_one_pixel(picture))):
        if kind == b"IHDR":
            payload = struct.pack(">IIB", width, height, MAX_DEPTH) + payload[9:]
        elif kind == b"IDAT":
            if written:
                continue
            payload, written = zlib.compress(filtered.data, _ZLIB_LEVEL), True
        checksum = zlib.crc32(kind + payload)
        out += [struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", checksum)]
    return b"".join(out)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = _PNG_START
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        yield kind, data[place + 8 : place + 8 + size]
        place += 12 + size


def _tiff(picture: Picture, shell: Shell) -> bytes:
    samples = _channels(picture, gray_alpha=False).astype("<u2")  # Pillow reads no gray with alpha
    height, width, count = samples.shape
    bytes_ = samples.view(np.uint8).reshape(height, 2 * width, count)
    pixels = bytes_[..., :3] if count >= 3 else np.repeat(bytes_, 3, 2)
    alpha = bytes_[..., 3] if count == 4 else None
    doubled = replace(picture, pixels=pixels, alpha=alpha, gray=count == 1, bit_depth=8)
    data = bytearray(shell(doubled))
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, values, offset = struct.unpack_from("<HHII", data, place)
        if tag == _WIDTH_TAG:
            struct.pack_into("<H" if kind == _SHORT else "<I", data, place + 8, width)
        elif tag == _BITS_TAG:
            where = place + 8 if values <= 2 else offset
            struct.pack_into(f"<{values}H", data, where, *[MAX_DEPTH] * values)
    return bytes(data)


def _ppm(picture: Picture) -> bytes:
    samples = _channels(picture, gray_alpha=False).astype(">u2")
    height, width, count = samples.shape
    return f"{'P5' if count == 1 else 'P6'} {width} {height} {picture.peak}\n".encode() + samples.tobytes()


def _jpeg2000(picture: Picture, imagecodecs: ModuleType) -> bytes:
    samples = _channels(picture, gray_alpha=False)
    return bytes(
        imagecodecs.jpeg2k_encode(
            samples[..., 0].copy() if samples.shape[2] == 1 else samples,
            level=0,
            reversible=True,
            bitspersample=picture.bit_depth,
            codecformat="jp2",
        )
    )


def _avif(picture: Picture, shell: Shell, imagecodecs: Any, label: str, quality: int) -> bytes:
    bits = min((each for each in _AVIF_DEPTHS if each >= picture.bit_depth), default=_AVIF_DEPTHS[-1])
    if bits < picture.bit_depth:
        _reduced(label, f"AVIF has {bits} bits a channel, the picture's {picture.bit_depth} are rounded")
    coloured = replace(with_depth(picture, bits), gray=False)  # as files.py writes gray of 8 bits
    coded = bytes(
        imagecodecs.avif_encode(
            _channels(coloured, gray_alpha=False), level=quality, bitspersample=bits, pixelformat="444"
        )
    )
    try:
        return _grafted(shell(_one_pixel(coloured)), coded)
    except (KeyError, ValueError, struct.error) as error:
        _reduced(label, f"metadata are left out: imagecodecs and Pillow build AVIF differently ({error})")
        return coded


def _grafted(shell: bytes, coded: bytes) -> bytes:
    """Pillow's AVIF with the coded pictures, and what describes them, of another (ISO 14496-12, 8.11).

    Raises KeyError, ValueError and struct.error where one is not built as libavif builds it.
    """
    out = bytearray(shell)
    old, new = _boxes(shell), _boxes(coded)
    for kind in (b"ispe", b"pixi", b"av1C"):  # of colour and alpha, in this order
        for (begin, end), (first, last) in zip(old[kind], new[kind], strict=True):
            if end - begin != last - first:
                raise ValueError(f"boxes {kind!r} of {end - begin} and {last - first} bytes")
            out[begin:end] = coded[first:last]
    sources = dict(_extents(coded, new))
    data = b""
    for number, place in _places(shell, old):
        if number in sources:
            offset, size = sources[number]
            struct.pack_into(">II", out, place, len(shell) + 8 + len(data), size)
            data += coded[offset : offset + size]
    return bytes(out) + struct.pack(">I", len(data) + 8) + _MDAT + data


def _boxes(data: bytes) -> dict[bytes, list[tuple[int, int]]]:
    """Begin and end of the content of each box, by kind, inside the boxes that hold others too."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    waiting = [(0, len(data))]
    while waiting:
        place, end = waiting.pop(0)
        while place + 8 <= end:
            size, kind = struct.unpack_from(">I4s", data, place)
            size = size or end - place
            found.setdefault(kind, []).append((place + 8, place + size))
            if kind in (b"meta", b"iprp", b"ipco"):
                waiting.append((place + (12 if kind == b"meta" else 8), place + size))
            place += size
    return found


def _places(data: bytes, boxes: dict[bytes, list[tuple[int, int]]]) -> Iterator[tuple[int, int]]:
    """Number of each item, and where its offset and size stand: as libavif writes them."""
    ((place, _),) = boxes[b"iloc"]
    if data[place : place + 6] != _ILOC:
        raise ValueError("another kind of iloc")
    (count,) = struct.unpack_from(">H", data, place + 6)
    for entry in range(place + 8, place + 8 + 14 * count, 14):
        yield struct.unpack_from(">H", data, entry)[0], entry + 6


def _extents(data: bytes, boxes: dict[bytes, list[tuple[int, int]]]) -> Iterator[tuple[int, tuple[int, int]]]:
    for number, place in _places(data, boxes):
        yield number, struct.unpack_from(">II", data, place)


def _reduced(name: str, what: str) -> None:
    report(name, what, ReducedDepthWarning)
