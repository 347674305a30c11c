"""What a damaged or cut .lci file still holds (docs/format.md, "Error recovery").

    damaged bytes ─► header, which must be whole
                  ─► chunks one after the other, a damaged one skipped by its stated length
                  ─► after an index, every tile at its own place, whatever happened to its neighbours
                  ─► File with None for the lost tiles, and Report
    nothing damaged ─► unpack, which also looks at order and index: only what it takes is called intact

It reads each byte at most three times and never searches for a chunk's start: a hostile file takes no longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from latentcodec.container.chunks import DEFAULT_LIMITS, PREAMBLE, Chunk, Limits, parse_chunk, read_varint
from latentcodec.container.file import (
    File,
    Goal,
    Tile,
    check_known,
    check_metadata,
    gather,
    is_known,
    read_index,
    unpack,
)
from latentcodec.container.header import Header, read_header
from latentcodec.errors import ChecksumMismatch, FormatError, LimitExceeded, MalformedFile, TruncatedFile

__all__ = ["Report", "salvage"]


@dataclass(frozen=True)
class Report:
    """What `salvage` could not read.

    missing: numbers of the tiles of which nothing is left.
    incomplete: numbers of the tiles whose streams are cut.
    damaged: one line for each chunk that could not be read whole; or, where all could, one about what is
    wrong with their order or the index.
    truncated: whether the file seems to end before its chunks do.
    """

    missing: tuple[int, ...]
    incomplete: tuple[int, ...]
    damaged: tuple[str, ...]
    truncated: bool

    @property
    def intact(self) -> bool:
        """Whether everything was read."""
        return not (self.missing or self.incomplete or self.damaged or self.truncated)


def salvage(data: bytes, limits: Limits = DEFAULT_LIMITS) -> tuple[File, Report]:
    """All that can be read of a file, and what cannot; for a whole file the same as `unpack`.

    Still raises NotLatentCodecFile, UnsupportedVersion, UnsupportedChunk and LimitExceeded, and, where the
    header itself is cut or damaged, TruncatedFile, ChecksumMismatch or MalformedFile.
    """
    walk = _Walk(data, read_header(data, limits))
    walk.run(limits)
    check_metadata(walk.payloads, limits)
    if not walk.damaged and not walk.truncated:
        walk.check_whole(limits)
    numbered = list(enumerate(walk.tiles))
    report = Report(
        missing=tuple(number for number, tile in numbered if tile is None),
        incomplete=tuple(number for number, tile in numbered if tile and not tile.complete),
        damaged=tuple(walk.damaged),
        truncated=walk.truncated,
    )
    return gather(walk.header, walk.tiles, walk.payloads), report


class _Walk:
    """One pass over a file's chunks, gathering what it finds."""

    def __init__(self, data: bytes, header: Header) -> None:
        self.data = data
        self.header = header
        self.tiles: list[Tile | None] = [None] * header.tile_count
        self.payloads: dict[str, bytes] = {}
        self.damaged: list[str] = []
        self.truncated = False

    def run(self, limits: Limits) -> None:
        _, position = parse_chunk(self.data, len(PREAMBLE))  # the header
        count = 1
        while position < len(self.data):
            if count == limits.max_chunks:
                raise LimitExceeded(f"the file has over {limits.max_chunks} chunks; raise Limits.max_chunks")
            position = self._step(position)
            count += 1
        if None in self.tiles and not self.damaged:
            self.truncated = True  # between two chunks

    def check_whole(self, limits: Limits) -> None:
        """Note what a reader of whole files rejects where each chunk can be read: their order, the index."""
        try:
            unpack(self.data, limits)
        except FormatError as error:
            self.damaged.append(str(error))

    def _step(self, position: int) -> int:
        """Read the chunk at `position`; the position where to go on."""
        end = len(self.data)  # after a chunk of unknown length nothing can be found
        try:
            chunk, end = parse_chunk(self.data, position)
            return self._accept(chunk, end)
        except TruncatedFile as error:
            self._cut(position, error)
        except ChecksumMismatch as error:
            self.damaged.append(str(error))
            length, start = read_varint(self.data, position + 1, "length")
            end = start + length + 4
        except MalformedFile as error:
            self.damaged.append(str(error))
        return end

    def _accept(self, chunk: Chunk, end: int) -> int:
        """Take in an undamaged chunk that ends at `end`; the position where to go on."""
        check_known(chunk)
        if chunk.type == "T":
            self._place(Tile.unpack(chunk.payload, self.header.has_alpha))
        elif chunk.type.isupper() or is_known(chunk):
            if chunk.type in self.payloads or chunk.type == "H":
                raise MalformedFile(f"chunk {chunk.type!r} is repeated")
            if chunk.type == "g":
                Goal.unpack(chunk.payload)  # raises where `gather` would
            self.payloads[chunk.type] = chunk.payload
            if chunk.type == "X":
                return self._follow_index(chunk.payload, end)
        return end

    def _follow_index(self, payload: bytes, position: int) -> int:
        """Read every tile where the index says that it starts; the position after the last."""
        for number, length in enumerate(read_index(payload, self.header.tile_count)):
            end = position + length
            if end > len(self.data):
                self._cut(position, TruncatedFile(f"tile {number} ends at byte {end}, after the file"))
                return end
            try:
                chunk, stop = parse_chunk(self.data, position, end)
                tile = Tile.unpack(chunk.payload, self.header.has_alpha)
                if (chunk.type, tile.number, stop) != ("T", number, end):
                    raise MalformedFile(
                        f"chunk {chunk.type!r} at byte {position} is not the one of the index"
                    )
                self._place(tile)
            except FormatError as error:
                self.damaged.append(f"tile {number}: {error}")
            position = end
        return position

    def _cut(self, position: int, error: TruncatedFile) -> None:
        """Note a chunk that the end of the file cuts; of a tile, keep what is there."""
        self.truncated = True
        self.damaged.append(str(error))
        if self.data[position : position + 1] != b"T":
            return
        try:
            length, start = read_varint(self.data, position + 1, "length")
            payload = bytes(self.data[start : start + length])
            self._place(Tile.unpack(payload, self.header.has_alpha, complete=False))
        except FormatError:
            return  # cut before the stream

    def _place(self, tile: Tile) -> None:
        if tile.number >= len(self.tiles) or self.tiles[tile.number] is not None:
            raise MalformedFile(f"tile {tile.number} is there twice, or beyond the {len(self.tiles)} tiles")
        self.tiles[tile.number] = tile
