"""The zip archives that PyTorch writes: where in the file each entry's bytes are.

end of the file ─► end record [─► zip64's] ─► central directory ─► each entry's local header ─► {name: Entry}

Only archives of PyTorch's form are read: nothing compressed, no name twice, no byte in two entries, no
comment at the end. So an archive costs no more than its size, and all programs see the same entries in it.
Values stay in the file. The records are those of PKWARE's APPNOTE 6.3.10, sections 4.3 to 4.5.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from latentcodec.errors import InvalidWeights

MAGIC = b"PK\x03\x04"  # an archive begins with its first entry's local header
MAX_ENTRIES = 1 << 16  # one for each storage; SDXL has 2,600
MAX_DIRECTORY_BYTES = 16 << 20

_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_UNREADABLE = 0x61  # flags: encrypted, patched, strongly encrypted (4.4.4)
_STORED = 0  # the method of what is not compressed (4.4.5)
_MAX_VERSION = 63  # of the format, in tenths (4.4.3)
_LARGE = 0xFFFFFFFF  # in the place of a number that zip64's extra field has (4.5.3)
_PART = 1 << 22  # bytes read at a time


@dataclass(frozen=True)
class Entry:
    """An entry's bytes: where they start in the file, how many there are, and the CRC-32 noted for them."""

    start: int
    size: int
    crc: int


class _Listed(NamedTuple):
    """What the directory says of an entry; header: where its local header is."""

    name: bytes
    header: int
    size: int
    crc: int
    packed: bool


def read_archive(path: Path) -> dict[str, Entry]:
    """The entries of an archive by name.

    Raises InvalidWeights where it is damaged, truncated or of another form than PyTorch's; and OSError.
    """
    entries: dict[str, Entry] = {}
    spans: list[tuple[int, int, bytes]] = []
    with path.open("rb") as file:
        count, directory_start, directory = _read_directory(path, file)
        listed = list(_listed(path, directory, count))
        _check_form(path, listed)
        for name, header, size, crc, _ in listed:
            text = name.decode("utf-8", "backslashreplace")
            if text in entries:
                raise _damaged(path, f"the entry {_shown(name)} is there twice")
            start = _data_start(path, file, name, header)
            entries[text] = Entry(start, size, crc)
            spans.append((header, start + size, name))
    spans.sort()
    for (_, end, name), (following, _, other) in pairwise(spans):
        if end > following:
            raise _damaged(path, f"the entries {_shown(name)} and {_shown(other)} are in the same bytes")
    if spans and spans[-1][1] > directory_start:
        raise _damaged(path, f"an entry is longer than the file: {_shown(spans[-1][2])}")
    return entries


def check_sums(path: Path) -> None:
    """Compare all entries of an archive with their CRC-32s; other files have none.

    PyTorch itself does not. Raises InvalidWeights, OSError.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return
        for name, entry in read_archive(path).items():
            file.seek(entry.start)
            crc, left = 0, entry.size
            while left and (part := file.read(min(left, _PART))):
                crc, left = zlib.crc32(part, crc), left - len(part)
            if crc != entry.crc or left:
                raise InvalidWeights(
                    f"{path}: damaged: {_shown(name.encode())} in it has another CRC-32 than noted; "
                    "get it again"
                )


def _read_directory(path: Path, file: BinaryIO) -> tuple[int, int, bytes]:
    """The number of entries; where the central directory starts, and its bytes."""
    size = file.seek(0, 2)
    end_at = size - _END.size
    signature, _, _, _, count, length, start, comment = _unpack(path, file, _END, end_at)
    if signature != b"PK\x05\x06" or comment:
        raise _damaged(path, "it does not end with its directory")
    locator_at = end_at - _END64_LOCATOR.size
    locator = _unpack(path, file, _END64_LOCATOR, locator_at) if locator_at >= 0 else (b"",)
    if locator[0] == b"PK\x06\x07":
        end_at = locator[2]
        signature, *_, count, length, start = _unpack(path, file, _END64, end_at)
        if signature != b"PK\x06\x06":
            raise _damaged(path, "its zip64 record is not where it says")
    if start + length > end_at:
        raise _damaged(path, f"its directory ends at byte {start + length} of {end_at}")
    if count > MAX_ENTRIES or length > MAX_DIRECTORY_BYTES:
        raise InvalidWeights(
            f"{path}: {count} entries, listed in {length} bytes; at most {MAX_ENTRIES} entries in "
            f"{MAX_DIRECTORY_BYTES} bytes are read"
        )
    file.seek(start)
    return count, start, file.read(length)


def _check_form(path: Path, listed: list[_Listed]) -> None:
    """What is compressed could grow without bounds, and TorchScript's archives hold code."""
    if any(entry.name.rpartition(b"/")[2] == b"constants.pkl" for entry in listed):
        raise InvalidWeights(
            f"{path}: a TorchScript archive (it has constants.pkl), which holds code and is never loaded; "
            "use the model's .safetensors file, or a state dict saved by torch.save"
        )
    for entry in listed:
        if entry.packed:
            raise InvalidWeights(f"{path}: {_shown(entry.name)} is compressed, which PyTorch's files are not")


def _listed(path: Path, directory: bytes, count: int) -> Iterator[_Listed]:
    """The entries of the central directory."""
    place = 0
    for _ in range(count):
        if place + _CENTRAL.size > len(directory):
            raise _damaged(path, f"{count} entries are not in its directory")
        signature, _, version, flags, method, _, _, crc, packed, size, *rest = _CENTRAL.unpack_from(
            directory, place
        )
        name_length, extra_length, comment_length, _, _, _, header = rest
        place += _CENTRAL.size
        name = directory[place : place + name_length]
        place += name_length
        extra = directory[place : place + extra_length]
        place += extra_length + comment_length
        if signature != b"PK\x01\x02" or place > len(directory):
            raise _damaged(path, f"{count} entries are not in its directory")
        if version > _MAX_VERSION:
            raise _damaged(path, f"{_shown(name)} needs zip file version {version / 10}")
        if flags & _UNREADABLE:
            raise InvalidWeights(f"{path}: {_shown(name)} is encrypted or patched; PyTorch's files are not")
        large = _zip64_numbers(extra)
        size, packed, header = (
            next(large, _LARGE) if number == _LARGE else number for number in (size, packed, header)
        )
        yield _Listed(name, header, size, crc, method != _STORED or size != packed)


def _zip64_numbers(extra: bytes) -> Iterator[int]:
    """The numbers of zip64's extra field, for those of the directory that are too large for it."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        field = extra[place + 4 : place + 4 + length]
        if kind == 1:
            for at in range(0, len(field) - 7, 8):
                yield int.from_bytes(field[at : at + 8], "little")
        place += 4 + length


def _data_start(path: Path, file: BinaryIO, name: bytes, header: int) -> int:
    """Where an entry's bytes start: behind its local header, which has to name it too."""
    signature, *_, name_length, extra_length = _unpack(path, file, _LOCAL, header)
    if signature != MAGIC or name_length != len(name) or file.read(name_length) != name:
        raise _damaged(path, f"{_shown(name)} is not at byte {header}, where the directory has it")
    return header + _LOCAL.size + len(name) + int(extra_length)


def _unpack(path: Path, file: BinaryIO, record: struct.Struct, place: int) -> tuple[Any, ...]:
    """A record of the archive at a place in the file."""
    # Checked first: file systems refuse to seek beyond the longest file that they can have.
    if 0 <= place <= os.fstat(file.fileno()).st_size - record.size:
        file.seek(place)
        held = file.read(record.size)
        if len(held) == record.size:  # nobody has made the file shorter
            return record.unpack(held)
    raise _damaged(path, f"{record.size} bytes at {place} are not there")


def _shown(name: bytes) -> str:
    """A name for a message: the start of it, with nothing that a terminal obeys."""
    return ascii(name[:80].decode("utf-8", "backslashreplace"))[1:-1]


def _damaged(path: Path, what: str) -> InvalidWeights:
    return InvalidWeights(f"{path}: a damaged or truncated PyTorch file ({what}); get it again")
