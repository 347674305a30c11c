"""The .lci file (docs/format.md): its chunks, their order, and the fields of all but the header (header.py).

    File ─► pack ─► H [V] [C] [N] [X] T T T ... [e] [x] [t] [i] [r] [l] [g] [d] ─► unpack ─► File
                                                                   (if damaged: salvage.py)

    H  header: all that is needed before decoding          T     one tile: symbol digest, alpha, stream
    V  the autoencoder, where the header names none        e, x  EXIF and XMP
    C  colour profile                                      t, i  text: keys and values; IPTC
    N  colour code points                                  r, l  resolution; what was left out
    X  index: the bytes of each tile's chunk               g     what the encoder was asked for, and achieved
                                                           d     clean-up of an autoencoder's latents

This module moves bytes. It neither decodes streams nor decompresses what it carries: codec/ does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from latentcodec.container.chunks import (
    DEFAULT_LIMITS,
    Chunk,
    Fields,
    Limits,
    chunk_size,
    read_chunks,
    write_chunks,
    write_varint,
)
from latentcodec.container.header import EXTERNAL_MODEL, MAX_SIDE, Box, Header, default_tile_size, read_header
from latentcodec.errors import (
    FormatError,
    InvalidArgument,
    LimitExceeded,
    MalformedFile,
    TruncatedFile,
    UnsupportedChunk,
)

__all__ = [
    "METADATA",
    "Box",
    "Chunk",
    "File",
    "Goal",
    "Header",
    "Limits",
    "Tile",
    "check_known",
    "check_metadata",
    "default_tile_size",
    "gather",
    "is_known",
    "pack",
    "read_chunks",
    "read_header",
    "read_index",
    "structure_bytes",
    "unpack",
    "write_chunks",
]

_ORDER = "HVCNXTextirlgd"

METADATA = {
    "profile": "C",
    "cicp": "N",
    "exif": "e",
    "xmp": "x",
    "text": "t",
    "iptc": "i",
    "dpi": "r",
    "left_out": "l",
}
"""Fields of File that hold stored metadata, and the letters of their chunks, in the order of the chunks."""

# Steps to one of each kind of goal; a kind's number is its place.
_GOAL_UNITS = {"quality": 40, "size": 1, "bpp": 1000, "psnr": 100, "ssimulacra2": 100}
_REACHED_UNIT = 100
_REACHED_CAP = 100.0


@dataclass(frozen=True)
class Tile:
    """One tile.

    number: its place in the grid, row by row from 0.
    digest: CRC-32 of the tile's symbols, or of its pixels.
    alpha: the payload of its alpha plane, exactly if the picture has one.
    stream: rANS, or the pixels themselves (model number PIXELS).
    complete: False where a truncated file cut the stream; only salvage makes such tiles.
    """

    number: int
    digest: int
    alpha: bytes | None
    stream: bytes
    complete: bool = True

    def pack(self) -> bytes:
        """The payload of the T chunk."""
        head = write_varint(self.number) + self.digest.to_bytes(4, "little")
        alpha = b"" if self.alpha is None else write_varint(len(self.alpha)) + self.alpha
        return head + alpha + self.stream

    @classmethod
    def unpack(cls, payload: bytes, has_alpha: bool, complete: bool = True) -> Tile:
        """The tile of a T chunk's payload. Raises MalformedFile."""
        fields = Fields(payload, "tile")
        number = fields.varint("number")
        digest = int.from_bytes(fields.take(4, "symbol digest"), "little")
        alpha = fields.take(fields.varint("alpha length"), "alpha") if has_alpha else None
        return cls(number, digest, alpha, fields.rest(), complete)


@dataclass(frozen=True)
class Goal:
    """What the encoder was asked for, and what it achieved; decoding does not need it.

    kind, target: "quality" 0-100, "size" in bytes, "bpp" in bits per pixel (stored to 0.001), "psnr" in dB,
    "ssimulacra2" (0 to 100). psnr, ssimulacra2: of the decoded picture, in dB or as that score (of the kind
    "ssimulacra2" alone), stored to 0.01 from 0.01 to 100; None where it was not measured.
    """

    kind: str
    target: float
    psnr: float | None = None
    ssimulacra2: float | None = None

    def pack(self) -> bytes:
        """The payload of the g chunk. Raises InvalidArgument."""
        if self.kind not in _GOAL_UNITS:
            raise InvalidArgument(f"goal: kind {self.kind!r} is none of {', '.join(_GOAL_UNITS)}")
        unit = _GOAL_UNITS[self.kind]
        measured = self.ssimulacra2 if self.kind == "ssimulacra2" else self.psnr
        reached = 0 if measured is None else max(1, round(min(measured, _REACHED_CAP) * _REACHED_UNIT))
        target = min(round(self.target * unit), (1 << 32) - 1)
        numbers = list(_GOAL_UNITS).index(self.kind), target, reached
        return b"".join(map(write_varint, numbers))

    @classmethod
    def unpack(cls, payload: bytes) -> Goal | None:
        """The goal of a g chunk's payload, None for a kind that this version does not know.

        Raises MalformedFile.
        """
        fields = Fields(payload, "goal")
        kind = fields.varint("kind")
        if kind >= len(_GOAL_UNITS):
            return None  # with fields that only a later version knows
        target, number = fields.varint("target"), fields.varint("achieved")
        fields.finish()
        name, unit = list(_GOAL_UNITS.items())[kind]
        reached = number / _REACHED_UNIT if number else None
        if name == "ssimulacra2":
            return cls(name, target / unit, ssimulacra2=reached)
        return cls(name, target / unit, reached)


@dataclass(frozen=True)
class File:
    """A file's content; the fields of METADATA are the payloads of their chunks.

    tiles: in the order of `header.tile_grid()`; only salvage leaves some None.
    autoencoder: the payload of the V chunk, exactly if the model number is EXTERNAL_MODEL.
    cleanup: the payload of the d chunk.
    """

    header: Header
    tiles: Sequence[Tile | None]
    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    goal: Goal | None = None
    autoencoder: bytes | None = None
    cleanup: bytes | None = None
    text: bytes | None = None
    cicp: bytes | None = None
    iptc: bytes | None = None
    dpi: bytes | None = None
    left_out: bytes | None = None


def pack(file: File) -> bytes:
    """The bytes of a file. Raises InvalidArgument where the content does not fit together."""
    header = file.header
    try:
        header.validate(Limits(max_pixels=MAX_SIDE**2, max_autoencoder_pixels=MAX_SIDE**2))
    except (FormatError, LimitExceeded) as error:
        raise InvalidArgument(str(error)) from error
    if len(file.tiles) != header.tile_count:
        raise InvalidArgument(f"file: {len(file.tiles)} tiles, but the header's grid has {header.tile_count}")
    if (file.autoencoder is not None) != (header.model_number == EXTERNAL_MODEL):
        raise InvalidArgument(f"file: the autoencoder and model number {header.model_number} disagree")
    tiles = []
    for number, tile in enumerate(file.tiles):
        if tile is None or tile.number != number or not tile.complete:
            raise InvalidArgument(f"file: tile {number} is missing, incomplete or out of place")
        if (tile.alpha is not None) != header.has_alpha:
            raise InvalidArgument(f"file: tile {number} and the header disagree about alpha")
        tiles.append(Chunk("T", tile.pack()))
    index = b"".join(write_varint(chunk_size(tile)) for tile in tiles) if len(tiles) > 1 else None
    goal = file.goal.pack() if file.goal else None
    payloads = {letter: getattr(file, name) for name, letter in METADATA.items()}
    payloads |= {"H": header.pack(), "V": file.autoencoder, "X": index, "g": goal, "d": file.cleanup}
    before, after = _ORDER.split("T")
    chunks = [*_present(payloads, before), *tiles, *_present(payloads, after)]
    if len(chunks) > DEFAULT_LIMITS.max_chunks:
        raise InvalidArgument(
            f"file: {len(chunks)} chunks, readers accept {DEFAULT_LIMITS.max_chunks}; choose larger tiles"
        )
    return write_chunks(chunks)


def _present(payloads: Mapping[str, bytes | None], letters: Iterable[str]) -> list[Chunk]:
    there = ((letter, payloads.get(letter)) for letter in letters)
    return [Chunk(letter, payload) for letter, payload in there if payload is not None]


def unpack(data: bytes, limits: Limits = DEFAULT_LIMITS) -> File:
    """The content of a whole, undamaged file; the header is validated before anything else is read.

    Raises NotLatentCodecFile, UnsupportedVersion, UnsupportedChunk, TruncatedFile, ChecksumMismatch,
    MalformedFile and LimitExceeded.
    """
    header = read_header(data, limits)
    chunks = read_chunks(data, limits)
    payloads: dict[str, bytes] = {}
    tiles: list[Tile] = []
    places: list[int] = []
    rank = 0
    for place, chunk in enumerate(chunks):
        if not is_known(chunk):
            check_known(chunk)
            continue
        previous, rank = rank, _ORDER.index(chunk.type)
        if rank < previous or chunk.type in payloads:
            raise MalformedFile(f"chunk {chunk.type!r} is repeated or out of order; the order is {_ORDER}")
        if chunk.type == "T":
            tiles.append(Tile.unpack(chunk.payload, header.has_alpha))
            places.append(place)
        else:
            payloads[chunk.type] = chunk.payload
    check_metadata(payloads, limits)
    count = header.tile_count
    if len(tiles) < count:
        raise TruncatedFile(f"the file holds {len(tiles)} of its {count} tiles")
    if [tile.number for tile in tiles] != list(range(count)):
        raise MalformedFile(f"the {len(tiles)} tiles are not numbered from 0 to {count - 1} in this order")
    lengths = read_index(payloads.get("X"), count)
    if lengths:
        if chunks[places[0] - 1].type != "X" or places[-1] - places[0] != count - 1:
            raise MalformedFile("index: another chunk stands between it and its last tile")
        if lengths != [chunk_size(chunks[place]) for place in places]:
            raise MalformedFile("index: its lengths are not those of the tiles")
    return gather(header, tiles, payloads)


def is_known(chunk: Chunk) -> bool:
    """Whether this version knows the chunk's type."""
    return chunk.type in _ORDER


def check_known(chunk: Chunk) -> None:
    """Raise UnsupportedChunk for a critical chunk that this version does not know."""
    if chunk.type.isupper() and not is_known(chunk):
        raise UnsupportedChunk(
            f"the file needs chunk {chunk.type!r}, which this release does not know: upgrade latentcodec"
        )


def check_metadata(payloads: dict[str, bytes], limits: Limits) -> None:
    """Raise LimitExceeded where the chunks of METADATA are together larger than the limits."""
    size = sum(len(payloads.get(letter, b"")) for letter in METADATA.values())
    if size > limits.max_metadata_bytes:
        raise LimitExceeded(
            f"metadata: {size} bytes, the limit is {limits.max_metadata_bytes} (Limits.max_metadata_bytes)"
        )


def read_index(payload: bytes | None, tile_count: int) -> list[int]:
    """The bytes of every tile's chunk; empty for one tile, which has no index. Raises MalformedFile."""
    if (payload is None) != (tile_count == 1):
        state = "missing" if payload is None else "there"
        raise MalformedFile(f"index: it is {state}, but the picture has {tile_count} tile(s)")
    if payload is None:
        return []
    fields = Fields(payload, "index")
    lengths = [fields.varint("length") for _ in range(tile_count)]
    fields.finish()
    return lengths


def gather(header: Header, tiles: Sequence[Tile | None], payloads: dict[str, bytes]) -> File:
    """The file of these parts; payloads: those of all chunks but H, X and T, by letter.

    Raises MalformedFile.
    """
    if ("V" in payloads) != (header.model_number == EXTERNAL_MODEL):
        state = "there" if "V" in payloads else "missing"
        raise MalformedFile(
            f"autoencoder: chunk 'V' is {state}, but the model number is {header.model_number}"
        )
    goal = Goal.unpack(payloads["g"]) if "g" in payloads else None
    metadata = {name: payloads.get(letter) for name, letter in METADATA.items()}
    return File(
        header, tiles, goal=goal, autoencoder=payloads.get("V"), cleanup=payloads.get("d"), **metadata
    )


def structure_bytes(data: bytes, limits: Limits = DEFAULT_LIMITS) -> int:
    """Bytes of a file that are neither coded tiles, nor alpha, nor the chunks of METADATA.

    At most 64 for one tile as a writer makes it. Raises as `unpack` does.
    """
    file = unpack(data, limits)
    coded = sum(len(tile.stream) + len(tile.alpha or b"") for tile in file.tiles if tile)
    metadata = {letter: getattr(file, name) for name, letter in METADATA.items()}
    return len(data) - coded - sum(map(chunk_size, _present(metadata, metadata)))
