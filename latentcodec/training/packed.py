"""Pictures inside tar files, read where they lie: nothing is extracted to disk.

    pictures-000.tar ─► headers ─► PackedPicture (name, offset, bytes) ─► open() ─► stream for Pillow

Only plain, uncompressed tars are read, and of these regular files alone: links, devices and sparse files with
a picture's name are refused, as is one that claims more bytes than its tar has or than MOST_BYTES. Names are
never paths here.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Literal

from latentcodec.errors import TrainingError

MOST_BYTES = 1 << 28  # of one picture file


@dataclass(frozen=True)
class PackedPicture:
    """A picture file inside a tar: `place` as the tar names it, `offset` and `size` in bytes."""

    archive: Path
    place: str
    offset: int
    size: int

    @property
    def name(self) -> str:
        """The last part of its place, as a path's."""
        return PurePosixPath(self.place).name

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Its bytes as a stream, as Path.open. Raises TrainingError where the tar is cut, OSError."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            data = file.read(self.size)
        if len(data) < self.size:
            raise TrainingError(f"{self}: cut after {len(data)} of {self.size} bytes; copy the tar again")
        return io.BytesIO(data)

    def __str__(self) -> str:
        return f"{self.archive}: {self.place}"


def read_pack(archive: Path, suffixes: set[str]) -> list[PackedPicture]:
    """The pictures in a tar by their names' suffixes, as they follow each other. Raises TrainingError."""
    pictures, last, length = [], -1, archive.stat().st_size
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if member.offset <= last:  # a header of negative length would lead round in circles
                    raise tarfile.ReadError("its headers do not follow each other")
                last = member.offset
                if member.isdir() or PurePosixPath(member.name).suffix.lower() not in suffixes:
                    continue
                if not member.isreg() or member.issparse():
                    raise _refused(archive, member.name, "not a regular file")
                if not 0 < member.size <= MOST_BYTES:
                    raise _refused(archive, member.name, f"{member.size} bytes; 1 to {MOST_BYTES} are read")
                if member.offset_data + member.size > length:
                    raise _refused(archive, member.name, f"{member.size} bytes, which the tar does not have")
                pictures.append(PackedPicture(archive, member.name, member.offset_data, member.size))
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise TrainingError(
            f"{archive}: not a plain tar file, or a damaged one ({error}); copy it again, or take it out of "
            "the folder"
        ) from error
    return pictures


def _refused(archive: Path, name: str, reason: str) -> TrainingError:
    return TrainingError(f"{archive}: {name}: {reason}; take it out, or pack the pictures again")
