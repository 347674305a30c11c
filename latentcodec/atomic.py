"""Files that appear whole or not at all.

data ─► temporary file in the destination's folder ─► fsync ─► os.replace ─► destination
             └─ on any failure: removed, and the destination is as before
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_atomically"]

_PERMISSIONS = 0o777  # without set-user-ID and the like, which would go to another owner


def write_atomically(
    path: str | os.PathLike[str],
    data: bytes | bytearray | memoryview | Iterable[bytes],
    *,
    like: os.stat_result | None = None,
) -> None:
    """Make `path` a file with this content: a reader finds the old content or the new, never a part.

    data: the bytes, or their parts in order, which are written as they come. The permissions stay those of
    the file that is replaced; a new file has those that the umask gives it. like: of a file whose permissions
    and times the new one is to have. A symbolic link stays, and the file that it points to is replaced. What
    is no regular file (a device, a named pipe) cannot be replaced and is written to. Raises OSError, also for
    a file that may not be written to, and whatever iterating over `data` raises.
    """
    parts = (data,) if isinstance(data, bytes | bytearray | memoryview) else data
    named = Path(path)  # /dev/stdout resolves to a name that does not exist where it is a pipe
    if named.exists() and not named.is_file() and not named.is_dir():
        with named.open("wb") as file:
            file.writelines(parts)
        return
    target = Path(os.path.realpath(path))
    with contextlib.suppress(FileNotFoundError):  # a new file
        os.close(
            os.open(target, os.O_WRONLY)
        )  # a protected one could be replaced, but its owner did not mean it
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            # Permissions come before the content, which others might read.
            if like is not None:
                temporary.chmod(stat.S_IMODE(like.st_mode) & _PERMISSIONS)
            else:
                with contextlib.suppress(FileNotFoundError):
                    shutil.copymode(target, temporary)
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        if like is not None:
            os.utime(temporary, ns=(like.st_atime_ns, like.st_mtime_ns))
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt and other ends too: no half-written file may stay behind
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
