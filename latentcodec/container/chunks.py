"""Signature, varints and checksummed chunks: the outer layer of a .lci file (docs/format.md, "File layout").

    bytes ─► signature, version, [type | length | payload | CRC-32] ... ─► list[Chunk]     read_chunks
    list[Chunk] ─► bytes                                                                   write_chunks

This layer knows no chunk's meaning: header.py and container.py give the chunks their fields and their order,
and salvage.py walks damaged files with `parse_chunk`. Tools that change a file on purpose go through
`read_chunks` and `write_chunks`, which computes the checksums anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from zlib import crc32

from latentcodec.errors import (
    ChecksumMismatch,
    InvalidArgument,
    LimitExceeded,
    MalformedFile,
    NotLatentCodecFile,
    TruncatedFile,
    UnsupportedVersion,
)

__all__ = [
    "DEFAULT_LIMITS",
    "PREAMBLE",
    "SIGNATURE",
    "VERSION",
    "Chunk",
    "Fields",
    "Limits",
    "check_preamble",
    "chunk_size",
    "parse_chunk",
    "read_chunks",
    "read_varint",
    "write_chunks",
    "write_varint",
]

# As in PNG, bytes that a bad transfer changes: one with the high bit set (a 7-bit channel), a name, CR LF
# (newline conversion), ^Z (the end of a text file on DOS), LF (the reverse conversion).
SIGNATURE = b"\x8bLCI\r\n\x1a\n"
VERSION = 1
PREAMBLE = SIGNATURE + bytes([VERSION])

_CRC_BYTES = 4
_VARINT_BYTES = 5  # 32 bits are five groups of seven


@dataclass(frozen=True)
class Limits:
    """What a reader accepts; beyond it, reading raises `LimitExceeded` before anything is allocated.

    max_pixels: width times height. The default is the size above which Pillow, too, opens no picture.
    max_autoencoder_pixels: the same, of files whose model is an autoencoder, where a pixel costs up to a
        hundred times as much as with the native model.
    max_chunks: chunks of one file, and tiles of one picture. The default leaves room for 16,384 tiles, those
        of a picture of 2^24 x 1 pixels in tiles of 1024, and for all other chunks.
    max_metadata_bytes: stored bytes of the colour profile, EXIF, XMP, text and IPTC together. Code that
        decompresses them bounds each result by the same number.
    """

    max_pixels: int = 178_956_970
    max_autoencoder_pixels: int = 1 << 26
    max_chunks: int = (1 << 14) + 16
    max_metadata_bytes: int = 16 << 20


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Chunk:
    """One chunk: an ASCII letter (upper case: critical, lower case: ancillary) and the payload."""

    type: str
    payload: bytes


def write_varint(value: int) -> bytes:
    """LEB128: 7 bits a byte, low bits first, the high bit set on all but the last. `value` in 0..2^32 - 1."""
    if not 0 <= value < 1 << 32:
        raise InvalidArgument(f"a varint holds 0..{(1 << 32) - 1}, not {value}")
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, position: int, field: str) -> tuple[int, int]:
    """The varint at `position` of `data`, and the position after it; `field` names it in the errors.

    Raises TruncatedFile where the data end inside it, and MalformedFile where it is longer than needed or has
    more than 32 bits.
    """
    value = 0
    for count in range(_VARINT_BYTES):
        if position + count >= len(data):
            raise TruncatedFile(f"{field}: the data end after {len(data)} bytes, inside a number")
        byte = data[position + count]
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >= 1 << 32 or (byte == 0 and count > 0):
                break
            return value, position + count + 1
    raise MalformedFile(f"{field}: the number at byte {position} is no shortest-form varint below 2^32")


class Fields:
    """Reads the fields of a payload in order, and names chunk and field in the errors: MalformedFile."""

    def __init__(self, payload: bytes, chunk: str) -> None:
        self._payload = payload
        self._chunk = chunk
        self._position = 0

    def varint(self, name: str) -> int:
        """The next number."""
        try:
            value, self._position = read_varint(self._payload, self._position, f"{self._chunk}: {name}")
        except TruncatedFile as error:  # the chunk is whole, its content is not
            raise MalformedFile(str(error)) from error
        return value

    def take(self, count: int, name: str) -> bytes:
        """The next `count` bytes."""
        end = self._position + count
        if end > len(self._payload):
            raise MalformedFile(
                f"{self._chunk}: {name} ends at byte {end} of the payload, which has {len(self._payload)}"
            )
        taken = self._payload[self._position : end]
        self._position = end
        return taken

    @property
    def left(self) -> int:
        """How many bytes are left."""
        return len(self._payload) - self._position

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.left, "rest")

    def finish(self) -> None:
        """Raise MalformedFile where bytes are left."""
        if self._position != len(self._payload):
            raise MalformedFile(
                f"{self._chunk}: {len(self._payload)} bytes of payload, its fields end at {self._position}"
            )


def check_preamble(data: bytes) -> None:
    """Check signature and version.

    Raises NotLatentCodecFile, TruncatedFile, UnsupportedVersion, MalformedFile.
    """
    start = bytes(data[: len(SIGNATURE)])
    if start != SIGNATURE:
        if start and SIGNATURE.startswith(start):
            raise TruncatedFile(f"the file ends after {len(start)} bytes, inside its signature")
        if start[1:4] == SIGNATURE[1:4]:
            raise NotLatentCodecFile(
                f"the signature is {start.hex(' ')}, not {SIGNATURE.hex(' ')}: the file was changed, "
                "probably by a transfer in text mode; fetch it again in binary mode"
            )
        raise NotLatentCodecFile(
            f"not a latentcodec file: it starts with {start.hex(' ') or 'nothing'}, not {SIGNATURE.hex(' ')}"
        )
    if len(data) < len(PREAMBLE):
        raise TruncatedFile(f"the file ends after {len(data)} bytes, before its version")
    version = data[len(SIGNATURE)]
    if version > VERSION:
        raise UnsupportedVersion(
            f"the file has format version {version}, this release reads up to {VERSION}: upgrade latentcodec"
        )
    if version != VERSION:
        raise MalformedFile(f"format version {version}: there is none below {VERSION}")


def parse_chunk(data: bytes, position: int, limit: int | None = None) -> tuple[Chunk, int]:
    """The chunk at `position` of `data`, and the position after it, which must not pass `limit`.

    Raises TruncatedFile, ChecksumMismatch, or MalformedFile where no chunk can start.
    """
    limit = len(data) if limit is None else limit
    if position >= limit:
        raise TruncatedFile(f"the data end at byte {limit}, a chunk would start at byte {position}")
    letter = chr(data[position])
    if not (letter.isascii() and letter.isalpha()):
        raise MalformedFile(f"byte {position} is 0x{data[position]:02x}, a chunk would start with a letter")
    length, start = read_varint(data, position + 1, f"length of chunk {letter!r}")
    end = start + length
    if end + _CRC_BYTES > limit:
        raise TruncatedFile(
            f"chunk {letter!r} at byte {position} ends at byte {end + _CRC_BYTES}, the data at {limit}"
        )
    stored = int.from_bytes(data[end : end + _CRC_BYTES], "little")
    computed = crc32(memoryview(data)[position:end])
    if stored != computed:
        raise ChecksumMismatch(
            f"chunk {letter!r} at byte {position} is damaged: CRC {computed:08x}, stored is {stored:08x}"
        )
    return Chunk(letter, bytes(data[start:end])), end + _CRC_BYTES


def read_chunks(data: bytes, limits: Limits = DEFAULT_LIMITS) -> list[Chunk]:
    """Every chunk of a file, checksums verified, meaning and order not.

    Raises NotLatentCodecFile, UnsupportedVersion, TruncatedFile, ChecksumMismatch, MalformedFile and
    LimitExceeded.
    """
    check_preamble(data)
    chunks: list[Chunk] = []
    position = len(PREAMBLE)
    while position < len(data):
        if len(chunks) == limits.max_chunks:
            raise LimitExceeded(f"the file has over {limits.max_chunks} chunks; raise Limits.max_chunks")
        chunk, position = parse_chunk(data, position)
        chunks.append(chunk)
    return chunks


def write_chunks(chunks: Iterable[Chunk]) -> bytes:
    """The file of these chunks: signature, version, and the chunks with their checksums."""
    parts = [PREAMBLE]
    for chunk in chunks:
        if not (len(chunk.type) == 1 and chunk.type.isascii() and chunk.type.isalpha()):
            raise InvalidArgument(f"a chunk's type is one ASCII letter, not {chunk.type!r}")
        head = chunk.type.encode() + write_varint(len(chunk.payload))
        parts += [head, chunk.payload, crc32(chunk.payload, crc32(head)).to_bytes(_CRC_BYTES, "little")]
    return b"".join(parts)


def chunk_size(chunk: Chunk) -> int:
    """Bytes of the chunk in a file: type, length, payload and checksum."""
    return 1 + len(write_varint(len(chunk.payload))) + len(chunk.payload) + _CRC_BYTES
