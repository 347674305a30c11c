"""The header of a .lci file and the grid of its tiles (docs/format.md, "H: header").

    H payload ─► Header.unpack: fields read, each checked against the format, then against the caller's limits
                   ─► Header ─► tile_grid(): the box of every tile

Nothing is allocated by the size of the picture before the header has passed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from latentcodec.container.chunks import (
    DEFAULT_LIMITS,
    PREAMBLE,
    Fields,
    Limits,
    check_preamble,
    parse_chunk,
    write_varint,
)
from latentcodec.errors import LimitExceeded, MalformedFile

__all__ = [
    "EXTERNAL_MODEL",
    "PIXELS",
    "WRITER_TILE",
    "Box",
    "Header",
    "deep_tile_size",
    "default_tile_size",
    "read_header",
    "too_thin",
]

PIXELS = 2  # the model number of files whose tiles hold pixels, without loss
EXTERNAL_MODEL = 64  # the model number of files whose autoencoder the V chunk names
MAX_SIDE = 1 << 24  # pixels
MIN_TILE_SIDE = 256  # pixels: every tile costs time, however small, so a few bytes must not claim many
MAX_TILE_PIXELS = 1 << 23  # sides padded; bounds a decoder's memory
MAX_QUALITY_LEVEL = 4000
TILE_GRAIN = 32  # pixels: the coarsest grid of the model; the sides of a tile are padded to it

_TILE_UNIT = 8  # pixels, of the header's field
_ONE_TILE_PIXELS = 3 << 19  # 1.5 megapixels: up to here a writer makes one tile ...
WRITER_TILE = 1024  # ... and above, tiles with sides of so many pixels
# Networks work on whole cells of TILE_GRAIN pixels, and every tile costs time of its own: a picture one pixel
# high costs what one of 32 does, and more in small tiles. What they work on is at most
_MOST_WORK = 3  # times the picture's pixels ...
_LITTLE_WORK = 1 << 18  # ... or so few pixels that nobody minds
_DEEP_TILE_WORK = 1 << 15  # pixels: what a tile of deep samples costs at least, however small


class Box(NamedTuple):
    """A tile's rectangle in pixels: columns x0..x1 - 1, rows y0..y1 - 1."""

    x0: int
    y0: int
    x1: int
    y1: int


def _padded(side: int) -> int:
    return -(-side // TILE_GRAIN) * TILE_GRAIN


def default_tile_size(width: int, height: int) -> int:
    """The tile size that a writer chooses: 0 (one tile) up to 1.5 megapixels, sides padded, else 1024."""
    return 0 if _padded(width) * _padded(height) <= _ONE_TILE_PIXELS else WRITER_TILE


def _tiles(width: int, height: int, tile_size: int) -> int:
    return -(-width // (tile_size or width)) * -(-height // (tile_size or height))


def _work(width: int, height: int, tile_size: int) -> int:
    """The pixels that networks work on: with sides padded, and no fewer for a tile than the smallest has."""
    return max(_padded(width) * _padded(height), _tiles(width, height, tile_size) * MIN_TILE_SIDE**2)


def _most_work(width: int, height: int) -> int:
    return max(_MOST_WORK * width * height, _LITTLE_WORK)


def deep_tile_size(width: int, height: int) -> int:
    """The same of a picture of deep samples without networks: larger where it is thin."""
    size = default_tile_size(width, height)
    while size and _tiles(width, height, size) * _DEEP_TILE_WORK > _most_work(width, height):
        size *= 2
    return size


def too_thin(width: int, height: int) -> bool:
    """Whether a picture, in the tiles that a writer makes, is mostly padding for networks.

    Such pictures are stored as pixels, without loss.
    """
    return _work(width, height, default_tile_size(width, height)) > _most_work(width, height)


@dataclass(frozen=True)
class Header:
    """All that is needed before decoding.

    width, height: 1..2^24 pixels.
    channels: 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
    depth: 8 to 16 bits a sample, of colour and alpha alike.
    model_number: as registered, below 2^32.
    networks_hash: 4 bytes, of all that determines the symbols.
    synthesis_hash: 4 bytes, of the weights that turn symbols into pixels.
    quality_level: 0..4000.
    tile_size: pixels, a multiple of 32 from 256 to 2^24; 0 where the whole picture is one tile.
    """

    width: int
    height: int
    channels: int
    depth: int
    model_number: int
    networks_hash: bytes
    synthesis_hash: bytes
    quality_level: int
    tile_size: int

    @property
    def has_alpha(self) -> bool:
        """Whether the picture has an alpha plane."""
        return self.channels in (2, 4)

    @property
    def tile_columns(self) -> int:
        """How many tiles lie side by side."""
        return -(-self.width // (self.tile_size or self.width))

    @property
    def tile_count(self) -> int:
        """How many tiles the picture has."""
        return _tiles(self.width, self.height, self.tile_size)

    def tile_grid(self) -> list[Box]:
        """The box of every tile, row by row; those at the right and at the bottom are cut to the picture."""
        across, down = self.tile_size or self.width, self.tile_size or self.height
        return [
            Box(x, y, min(x + across, self.width), min(y + down, self.height))
            for y in range(0, self.height, down)
            for x in range(0, self.width, across)
        ]

    def validate(self, limits: Limits = DEFAULT_LIMITS) -> None:
        """Raise MalformedFile for a value that the format does not allow, LimitExceeded for one too large."""
        for name, value, low, high in (
            ("width", self.width, 1, MAX_SIDE),
            ("height", self.height, 1, MAX_SIDE),
            ("channels", self.channels, 1, 4),
            ("depth", self.depth, 8, 16),
            ("model number", self.model_number, 0, (1 << 32) - 1),
            ("quality level", self.quality_level, 0, MAX_QUALITY_LEVEL),
            ("tile size", self.tile_size, 0, MAX_SIDE),
        ):
            if not low <= value <= high:
                raise MalformedFile(f"header: {name} {value} is outside {low}..{high}")
        if self.tile_size % TILE_GRAIN:
            raise MalformedFile(f"header: tile size {self.tile_size} is no multiple of {TILE_GRAIN} pixels")
        if 0 < self.tile_size < MIN_TILE_SIDE:
            raise MalformedFile(
                f"header: tile size {self.tile_size} is below {MIN_TILE_SIDE} pixels; "
                "only 0, one tile, may be smaller"
            )
        for name, stored in (("networks", self.networks_hash), ("synthesis", self.synthesis_hash)):
            if len(stored) != 4:
                raise MalformedFile(f"header: the {name} hash has {len(stored)} bytes instead of 4")
        pixels = self.width * self.height
        if pixels > limits.max_pixels:
            raise LimitExceeded(
                f"header: {self.width} x {self.height} = {pixels} pixels, the limit is {limits.max_pixels}; "
                "raise Limits.max_pixels to read the file"
            )
        if self.model_number == EXTERNAL_MODEL and pixels > limits.max_autoencoder_pixels:
            raise LimitExceeded(
                f"header: {self.width} x {self.height} = {pixels} pixels, the limit for autoencoders is "
                f"{limits.max_autoencoder_pixels}; raise Limits.max_autoencoder_pixels to read the file"
            )
        across, down = (_padded(min(side, self.tile_size or side)) for side in (self.width, self.height))
        if across * down > MAX_TILE_PIXELS:
            raise LimitExceeded(
                f"header: a tile has {across} x {down} = {across * down} pixels, the limit of the format is "
                f"{MAX_TILE_PIXELS}; the picture needs smaller tiles"
            )
        if self.tile_count > limits.max_chunks:
            raise LimitExceeded(
                f"header: {self.tile_count} tiles, the limit is {limits.max_chunks}; "
                "raise Limits.max_chunks to read the file"
            )
        work, most = _work(self.width, self.height, self.tile_size), _most_work(self.width, self.height)
        if self.model_number == PIXELS and self.depth > 8 and self.tile_count * _DEEP_TILE_WORK > most:
            raise MalformedFile(
                f"header: {self.tile_count} tiles of deep samples, {most // _DEEP_TILE_WORK} are allowed for "
                f"{self.width} x {self.height} pixels"
            )
        if self.model_number != PIXELS and work > most:
            raise MalformedFile(
                f"header: {self.width} x {self.height} pixels in {self.tile_count} tile(s) are {work} for "
                f"networks, of {most} allowed; so thin a picture is stored as pixels, model {PIXELS}"
            )

    def pack(self) -> bytes:
        """The payload of the H chunk of a valid header."""
        fields = (
            write_varint(self.width),
            write_varint(self.height),
            bytes([self.channels, self.depth]),
            write_varint(self.model_number),
            self.networks_hash,
            self.synthesis_hash,
            write_varint(self.quality_level),
            write_varint(self.tile_size // _TILE_UNIT),
        )
        return b"".join(fields)

    @classmethod
    def unpack(cls, payload: bytes, limits: Limits = DEFAULT_LIMITS) -> Header:
        """The validated header of an H chunk's payload. Raises MalformedFile, LimitExceeded."""
        fields = Fields(payload, "header")
        header = cls(
            width=fields.varint("width"),
            height=fields.varint("height"),
            channels=fields.take(1, "channels")[0],
            depth=fields.take(1, "depth")[0],
            model_number=fields.varint("model number"),
            networks_hash=fields.take(4, "networks hash"),
            synthesis_hash=fields.take(4, "synthesis hash"),
            quality_level=fields.varint("quality level"),
            tile_size=fields.varint("tile size") * _TILE_UNIT,
        )
        fields.finish()
        header.validate(limits)
        return header


def read_header(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Header:
    """The header of a file, of which the first 64 bytes suffice.

    Raises NotLatentCodecFile, UnsupportedVersion, TruncatedFile, ChecksumMismatch, MalformedFile and
    LimitExceeded.
    """
    check_preamble(data)
    chunk, _ = parse_chunk(data, len(PREAMBLE))
    if chunk.type != "H":
        raise MalformedFile(f"the first chunk is {chunk.type!r}, it must be the header 'H'")
    return Header.unpack(chunk.payload, limits)
