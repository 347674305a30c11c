"""A training set in tar files of a given size, to be copied to another machine.

    folder ─► pictures that are trained on ─► DIR/pictures-000.tar, pictures-001.tar, ...
           ─► names of those held out ──────► DIR/pack.json, with what the set is and what the tars hold

The same pictures give the same bytes. `train run DIR` trains on them (training.packed).
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from latentcodec.atomic import write_atomically
from latentcodec.errors import TrainingError
from latentcodec.training.data import find_pictures, is_held_out
from latentcodec.training.packed import MOST_BYTES
from latentcodec.training.provenance import describe_pictures

MANIFEST = "pack.json"
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_PIECE = 1 << 20


@dataclass(frozen=True)
class Pack:
    """A tar to be written: its name, and (place, path, bytes) of each picture in it."""

    name: str
    members: list[tuple[str, Path, int]]


def pack_pictures(folder: Path, out: Path, size: int) -> list[Path]:
    """Write the pictures below `folder` that are trained on into tars of at most `size` bytes; their paths.

    Raises TrainingError: no pictures, one that no tar of this size holds, an `out` that holds tars, a file
    that changes meanwhile.
    """
    paths = find_pictures(folder)
    held_out = [path for path in paths if is_held_out(path)]
    packs = _plan(folder, [path for path in paths if not is_held_out(path)], size)
    if any(out.glob("*.tar")):
        raise TrainingError(f"{out}: already holds tar files; name an empty folder")
    out.mkdir(parents=True, exist_ok=True)
    for pack in packs:
        write_atomically(out / pack.name, _tar(pack))
    manifest = {
        "pictures": describe_pictures(folder, paths),
        "held_out": [path.relative_to(folder).as_posix() for path in held_out],
        "tars": {pack.name: len(pack.members) for pack in packs},
    }
    write_atomically(out / MANIFEST, json.dumps(manifest, indent=1).encode())
    return [out / pack.name for pack in packs]


def _plan(folder: Path, paths: list[Path], size: int) -> list[Pack]:
    """The pictures in order, a new tar whenever the next one would not fit."""
    if not paths:
        raise TrainingError(f"{folder}: all of its pictures are held out for validation; add more")
    packs: list[Pack] = []
    room = 0
    for path in paths:
        place, length = path.relative_to(folder).as_posix(), path.stat().st_size
        if not 0 < length <= MOST_BYTES:
            raise TrainingError(f"{path}: {length} bytes; 1 to {MOST_BYTES} are read back; take it out")
        needed = len(_header(place, length)) + length + -length % _BLOCK
        if needed + len(_END) > size:
            raise TrainingError(
                f"{path}: takes {needed + len(_END)} bytes in a tar, more than {size} (--size); allow more, "
                "or take it out"
            )
        if needed > room:
            packs.append(Pack(f"pictures-{len(packs):03}.tar", []))
            room = size - len(_END)
        packs[-1].members.append((place, path, length))
        room -= needed
    return packs


def _header(place: str, length: int) -> bytes:
    """Nothing in it but name and length: no owner, no time."""
    member = tarfile.TarInfo(place)
    member.size = length
    return member.tobuf(tarfile.PAX_FORMAT)


def _tar(pack: Pack) -> Iterator[bytes]:
    for place, path, length in pack.members:
        yield _header(place, length)
        left = length
        with path.open("rb") as file:
            while piece := file.read(min(_PIECE, left)):
                left -= len(piece)
                yield piece
        if left:
            raise TrainingError(f"{path}: {left} of its {length} bytes went while it was packed; pack again")
        yield bytes(-length % _BLOCK)
    yield _END
