"""Pictures that take fewer bytes without any loss: their tiles hold the pixels themselves, not latents.

    pixels ─► repetitive enough to try? ─► every tile: WebP's lossless bitstream (VP8L, RFC 9649), by Pillow
    above 8 bits ─► every tile: planes that values/interpolation.py codes, exactly or in steps
    stream ─► header checked against the tile ─► pixels ─► digest ─► plane of 3 channels ─► Picture

Screens, pages and drawings have few colours and parts that repeat: there a lossless coder beats every
transform. Smooth pictures of more than 8 bits are better off without networks, too (native/near.py). Such
files have the model number PIXELS.
"""

from __future__ import annotations

import io
import math
import warnings
import zlib
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from latentcodec.codec.alpha import fill_transparent
from latentcodec.codec.arguments import DEFAULT_EFFORT
from latentcodec.codec.encoder import BaseEncoder
from latentcodec.codec.planes import LatentPlane
from latentcodec.codec.targets import Encoded
from latentcodec.codec.values.interpolation import pack_planes, tables_hash, unpack_planes
from latentcodec.container.chunks import DEFAULT_LIMITS, Limits
from latentcodec.container.file import File, Tile, pack
from latentcodec.container.header import (
    MAX_QUALITY_LEVEL,
    PIXELS,
    WRITER_TILE,
    Box,
    Header,
    deep_tile_size,
    default_tile_size,
)
from latentcodec.errors import (
    InvalidArgument,
    LimitExceeded,
    MalformedFile,
    MissingDependency,
    TruncatedFile,
    WeightsMismatch,
)
from latentcodec.parallel import in_order, workers
from latentcodec.picture.picture import Picture, Pixels
from latentcodec.picture.samples import sample_type
from latentcodec.rans.coder import check_digest

NO_HASH = bytes(4)
LONGEST_SIDE = (1 << 14) - 1  # that libwebp writes
FEW_COLOURS = 256
REPEATING = 0.4  # share of pixels that are as a neighbour before them: of photographs 0.02 to 0.3
_SAMPLED = 64  # rows that are looked at, about
# Pillow's `method` and `quality`, which is effort here, by the codec's effort 1 to 9. Of drawn pages
# 4, 100 takes up to 2 % fewer bytes than 4, 90 in 1 to 3 times its 0.01 to 0.4 s; 6, 100 takes 2 to 4 s.
_EFFORTS = ((2, 50), (3, 75), *3 * ((4, 100),), *2 * ((5, 100),), *2 * ((6, 100),))
_ONE_NUMBER = np.array([1 << 16, 1 << 8, 1], np.int32)  # of a colour
_SIGNATURE = 0x2F
_GREEN_FIRST = (1, 0, 2)  # of red, green and blue: its own inverse
_STRIP = 256
_GENEROUS = 2


def worth_trying(pixels: Pixels) -> bool:
    """Whether (H, W, 3) may take fewer bytes without loss: decided in a moment, and generously."""
    numbers = np.arange(0, len(pixels), max(1, len(pixels) // _SAMPLED))
    rows, above = (pixels[at].astype(np.int32) @ _ONE_NUMBER for at in (numbers, numbers - 1))
    same = rows == above  # of the first row it is the last: no matter
    same[:, 1:] |= rows[:, 1:] == rows[:, :-1]
    same[:, 2:] |= rows[:, 2:] == rows[:, :-2]
    return bool(features.check("webp")) and (
        bool(same.mean() >= REPEATING) or len(np.unique(rows)) <= FEW_COLOURS
    )


def pixel_tiles(
    picture: Picture,
    effort: int,
    alpha: Callable[[int, Box], bytes | None],
    limit: float = math.inf,
    *,
    always: bool = False,
    hidden: bool = False,
) -> tuple[Header, list[Tile]] | None:
    """Header and tiles of the picture's own pixels; colours where alpha is 0 become black, unless `hidden`.

    alpha: the stored alpha of a tile. None where the tiles would take more than `limit` bytes and, unless
    `always`, where they hardly take few. Raises MissingDependency with `always` and without WebP.
    """
    if picture.bit_depth > 8:
        exact = deep_tiles(picture, 1, alpha, limit, hidden=hidden)
        return exact and exact[:2]
    pixels = picture.pixels
    if picture.alpha is not None and not hidden:  # nobody sees what is hidden, and zeros code best
        pixels = pixels * (picture.alpha > 0)[..., None]
    longest = max(picture.width, picture.height)
    default = default_tile_size(picture.width, picture.height)
    header = _header(picture, default if longest <= LONGEST_SIDE else WRITER_TILE)
    if not (always or worth_trying(pixels)):
        return None
    if picture.gray and (pixels != pixels[..., :1]).any():
        return None
    tiles, size = [], 0
    for number, box in enumerate(header.tile_grid()):
        stream, digest = pack_pixels(pixels[box.y0 : box.y1, box.x0 : box.x1], effort)
        tiles.append(Tile(number, digest, alpha(number, box), stream))
        size += len(stream)
        if size > limit:
            return None
    return header, tiles


def _header(picture: Picture, tile_size: int, step: int = 1) -> Header:
    return Header(
        width=picture.width,
        height=picture.height,
        channels=picture.channels,
        depth=picture.bit_depth,
        model_number=PIXELS,
        networks_hash=NO_HASH if picture.bit_depth == 8 else tables_hash(),
        synthesis_hash=NO_HASH,
        quality_level=MAX_QUALITY_LEVEL + 1 - step,
        tile_size=tile_size,
    )


def deep_tiles(
    picture: Picture,
    step: int,
    alpha: Callable[[int, Box], bytes | None],
    limit: float = math.inf,
    *,
    hidden: bool = False,
) -> tuple[Header, list[Tile], Pixels] | None:
    """Header and tiles of a picture of more than 8 bits, and the pixels that they decode to.

    step: odd, 1 for no loss; no sample is off by more than half of it. alpha: the stored alpha of a tile.
    Colours where alpha is 0 become others, unless `hidden`. None where the tiles take more than `limit`
    bytes.
    """
    pixels, bits = picture.pixels, picture.bit_depth
    if picture.alpha is not None and not hidden:
        pixels = fill_transparent(pixels, picture.alpha, bits)
    if not _smooth_enough(pixels, step, limit) or (picture.gray and (pixels != pixels[..., :1]).any()):
        return None
    header = _header(picture, deep_tile_size(picture.width, picture.height), step)
    order = _GREEN_FIRST[: 1 if picture.gray else 3]
    shown = np.empty_like(pixels)

    def coded(numbered: tuple[int, Box]) -> Tile:
        number, box = numbered
        part = slice(box.y0, box.y1), slice(box.x0, box.x1)
        planes = pixels[part][..., order].transpose(2, 0, 1).astype(np.int32)
        stream, decoded = pack_planes(planes, bits, step)
        shown[part] = _deep_pixels(decoded)
        return Tile(number, _deep_digest(shown[part]), alpha(number, box), stream)

    tiles, size = [], 0
    for tile in in_order(coded, enumerate(header.tile_grid()), workers()):
        tiles.append(tile)
        size += len(tile.stream)
        if size > limit:
            return None
    return header, tiles, shown


def _smooth_enough(pixels: Pixels, step: int, limit: float) -> bool:
    """Whether (H, W, 3) may take `limit` bytes in such steps: decided in a moment, and generously."""
    if limit == math.inf or pixels.shape[1] < 3:
        return True
    rows = pixels[:: max(1, len(pixels) // _SAMPLED)].astype(np.int32)
    values = np.abs(rows[:, 1:-1] - (rows[:, :-2] + rows[:, 2:]) // 2) // step
    # At least the digits of three of four samples, those of the finest spacing; channels may be alike.
    bits = np.log2(1 + 2 * values).mean() * 0.75 * len(pixels) * pixels.shape[1]
    return bool(bits / 8 <= _GENEROUS * limit)


def unpack_deep(stream: bytes, header: Header, height: int, width: int, name: str) -> Pixels:
    """The pixels (height, width, 3) of a tile of more than 8 bits. Raises MalformedFile and TruncatedFile."""
    channels, step = 1 if header.channels <= 2 else 3, MAX_QUALITY_LEVEL + 1 - header.quality_level
    return _deep_pixels(unpack_planes(stream, channels, height, width, header.depth, step, name))


def _deep_pixels(planes: NDArray[np.int32]) -> Pixels:
    order = _GREEN_FIRST if len(planes) == 3 else (0, 0, 0)
    return np.ascontiguousarray(planes[list(order)].transpose(1, 2, 0), np.uint16)


def _deep_digest(pixels: Pixels) -> int:
    return zlib.crc32(pixels.astype("<u2").tobytes())


def pack_pixels(pixels: Pixels, effort: int) -> tuple[bytes, int]:
    """(stream, digest) of a tile (H, W, 3) with sides of at most LONGEST_SIDE; effort: 1 to 9."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    # Most effort is not always fewest bytes.
    tries = {_EFFORTS[effort - 1], _EFFORTS[min(effort, DEFAULT_EFFORT) - 1]}
    streams = (_vp8l(image, method, quality) for method, quality in sorted(tries))
    return min(streams, key=len), zlib.crc32(pixels.tobytes())


def _vp8l(image: Image.Image, method: int, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=True, method=method, quality=quality)
    chunks = file.getvalue()
    if chunks[12:16] != b"VP8L":
        raise MissingDependency(f"Pillow wrote a {chunks[12:16]!r} chunk for a lossless WebP; update Pillow")
    return chunks[20 : 20 + int.from_bytes(chunks[16:20], "little")]


def unpack_pixels(stream: bytes, height: int, width: int, name: str) -> Pixels:
    """The pixels (height, width, 3) of a tile's stream.

    Raises MalformedFile, TruncatedFile, LimitExceeded where Pillow's own limit is lower than a tile, and
    MissingDependency where it was built without WebP.
    """
    if not features.check("webp"):
        raise MissingDependency(f"{name}: Pillow was built without WebP; install Pillow from PyPI")
    if len(stream) < 5:
        raise TruncatedFile(f"{name}: {len(stream)} bytes, a VP8L bitstream has at least 5")
    # 8 bits of signature, 14 each of width - 1 and height - 1, 1 of alpha, 3 of version.
    fields = int.from_bytes(stream[1:5], "little")
    size = (fields & 0x3FFF) + 1, (fields >> 14 & 0x3FFF) + 1
    if stream[0] != _SIGNATURE or fields >> 28:
        raise MalformedFile(f"{name}: {stream[:5].hex()} is no beginning of a VP8L bitstream without alpha")
    if size != (width, height):
        raise MalformedFile(
            f"{name}: its bitstream has {size[0]}x{size[1]} pixels, the tile {width}x{height}"
        )
    body = b"VP8L" + len(stream).to_bytes(4, "little") + stream + bytes(len(stream) % 2)
    riff = b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the tile has passed our limits
            with Image.open(io.BytesIO(riff), formats=("WEBP",)) as image:
                pixels = np.asarray(image.convert("RGB"))
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise LimitExceeded(
            f"{name}: {width * height} pixels, Pillow is set to take no more than "
            f"{2 * (Image.MAX_IMAGE_PIXELS or 0)}; raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except Exception as error:  # Pillow raises almost anything on damaged data
        raise MalformedFile(f"{name}: its VP8L bitstream is damaged or cut ({error})") from error
    if pixels.shape != (height, width, 3):
        raise MalformedFile(f"{name}: its bitstream decodes to {pixels.shape}, not {(height, width, 3)}")
    return pixels


class PixelEncoder(BaseEncoder):
    """A picture that is kept without loss because the caller says so, with the colours that alpha hides."""

    def __init__(
        self,
        picture: Picture,
        *,
        effort: int = DEFAULT_EFFORT,
        strip: bool = False,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """As BaseEncoder. effort: 1 to 9."""
        super().__init__(picture, PixelReader.patch, strip=strip, limits=limits)
        self.effort = effort

    def _encode(self, level: int, *, rough: bool = False) -> tuple[Encoded, LatentPlane]:
        """All levels are alike."""
        kept = pixel_tiles(self.picture, self.effort, self._alpha, always=True, hidden=True)
        if kept is None:
            raise InvalidArgument("the picture says that it is gray, and has colours")
        file = File(*kept, **self._metadata)
        return Encoded(file, pack(file)), PixelReader(file.header).plane(self.picture.pixels)

    def _synthesise(self, plane: LatentPlane, file: File) -> Pixels:
        return PixelReader(file.header).synthesise(plane, ())


class PixelReader:
    """Reads files whose tiles hold pixels, for decode_with."""

    patch, latents, blank = 1, 3, 0

    def __init__(self, header: Header) -> None:
        """Raises MalformedFile where the header names networks, WeightsMismatch for other tables."""
        if header.synthesis_hash != NO_HASH or (header.depth == 8 and header.networks_hash != NO_HASH):
            hashes = f"{header.networks_hash.hex()} and {header.synthesis_hash.hex()}"
            raise MalformedFile(f"header: hashes {hashes}, but files of model {PIXELS} need no networks")
        if header.depth > 8 and header.networks_hash != tables_hash():
            raise WeightsMismatch(
                f"the file was coded with tables of hash {header.networks_hash.hex()}, this version has "
                f"{tables_hash().hex()}: decode it with the latentcodec version that wrote it"
            )
        self.header, self.threads = header, 1 if header.depth == 8 else workers()
        # The plane holds samples minus this, so that what is missing, zeros, is mid gray, and 16 bits fit.
        self._middle = 1 << (header.depth - 1)

    def decode_tile(
        self, tile: Tile, height: int, width: int, *, partial: bool, name: str
    ) -> tuple[LatentPlane, bool]:
        """As decoder.Reader says; samples minus mid gray. Of a tile that was cut nothing is left."""
        if self.header.depth == 8:
            pixels = unpack_pixels(tile.stream, height, width, name)
            check_digest(zlib.crc32(pixels.tobytes()), tile.digest, name)
        else:
            pixels = unpack_deep(tile.stream, self.header, height, width, name)
            check_digest(_deep_digest(pixels), tile.digest, name)
        if self.header.channels <= 2 and (pixels != pixels[..., :1]).any():
            raise MalformedFile(f"{name}: its pixels have colours, but the picture is gray")
        return self.plane(pixels), True

    def plane(self, pixels: Pixels) -> LatentPlane:
        """Samples (H, W, 3) as a plane."""
        return (pixels.astype(np.int32) - self._middle).astype(np.int16).transpose(2, 0, 1)

    def synthesise(self, plane: LatentPlane, missing: Collection[int]) -> Pixels:
        """As decoder.Reader says."""
        out = np.empty((*plane.shape[1:], 3), sample_type(self.header.depth))
        for top in range(0, len(out), _STRIP):
            strip = plane[:, top : top + _STRIP].transpose(1, 2, 0)
            out[top : top + _STRIP] = strip.astype(np.int32) + self._middle
        return out
