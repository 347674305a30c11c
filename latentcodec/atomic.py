"""Files that appear whole or not at all.

data ─► temporary file in the destination's folder ─► fsync ─► os.replace ─► destination
             └─ on any failure: removed, and the destination is as before
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_atomically"]


def write_atomically(
    path: str | os.PathLike[str], data: bytes | bytearray | memoryview | Iterable[bytes]
) -> None:
    """Make `path` a file with this content: a reader finds the old content or the new, never a part.

    data: the bytes, or their parts in order, which are written as they come. The permissions stay those of
    the file that is replaced; a new file has those that the umask gives it. A symbolic link stays, and the
    file that it points to is replaced. What is no regular file (a device, a named pipe) cannot be replaced
    and is written to. Raises OSError, and whatever iterating over `data` raises.
    """
    parts = (data,) if isinstance(data, bytes | bytearray | memoryview) else data
    named = Path(path)  # /dev/stdout resolves to a name that does not exist where it is a pipe
    if named.exists() and not named.is_file() and not named.is_dir():
        with named.open("wb") as file:
            file.writelines(parts)
        return
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            with contextlib.suppress(FileNotFoundError):  # a new file
                shutil.copymode(target, temporary)  # before there is content that others might read
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt and other ends too: no half-written file may stay behind
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
