"""write_atomically: the new content or the old, never a part, and nothing left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentcodec.atomic import write_atomically


@pytest.mark.parametrize(
    "data", [b"", b"abc", bytearray(b"abc"), memoryview(b"abc"), [b"a", b"", b"bc"], iter([b"ab", b"c"])]
)
def test_content(tmp_path: Path, data: bytes) -> None:
    write_atomically(tmp_path / "new", data)
    assert (tmp_path / "new").read_bytes() == (b"abc" if data else b"")
    assert os.listdir(tmp_path) == ["new"]


def test_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old and longer")
    write_atomically(str(path), b"new")
    assert path.read_bytes() == b"new"


def test_the_old_content_is_there_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def parts() -> Iterator[bytes]:
        yield b"n" * 100_000
        assert path.read_bytes() == b"old"
        yield b"ew"

    write_atomically(path, parts())
    assert path.read_bytes() == b"n" * 100_000 + b"ew"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existing", [True, False])
def test_failure_leaves_everything_as_it_was(
    tmp_path: Path, error: type[BaseException], existing: bool
) -> None:
    path = tmp_path / "file"
    if existing:
        path.write_bytes(b"old")

    def parts() -> Iterator[bytes]:
        yield b"new"
        raise error

    with pytest.raises(error):
        write_atomically(path, parts())
    assert os.listdir(tmp_path) == (["file"] if existing else [])
    assert not existing or path.read_bytes() == b"old"


def test_failure_to_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: object, target: object) -> None:
        raise PermissionError("in use")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(PermissionError):
        write_atomically(tmp_path / "file", b"new")
    assert os.listdir(tmp_path) == []


def test_missing_folder_and_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "file", b"new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_atomically(tmp_path / "folder", b"new")
    assert os.listdir(tmp_path) == ["folder"]


def test_longest_name(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="permissions and special files of POSIX")
class TestPosix:
    @pytest.mark.parametrize("umask", [0o022, 0o077])
    def test_permissions_of_a_new_file_are_the_umasks(self, tmp_path: Path, umask: int) -> None:
        before = os.umask(umask)
        try:
            write_atomically(tmp_path / "file", b"new")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
    def test_permissions_of_a_replaced_file_stay(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"old")
        path.chmod(mode)

        def parts() -> Iterator[bytes]:
            (temporary,) = set(tmp_path.iterdir()) - {path}
            assert stat.S_IMODE(temporary.stat().st_mode) == mode  # before there is anything to read
            yield b"new"

        write_atomically(path, parts())
        assert path.read_bytes() == b"new"
        assert stat.S_IMODE(path.stat().st_mode) == mode

    def test_a_link_stays(self, tmp_path: Path) -> None:
        (tmp_path / "target").write_bytes(b"old")
        (tmp_path / "link").symlink_to("target")
        write_atomically(tmp_path / "link", b"new")
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").read_bytes() == b"new"

    def test_a_pipe_is_written_to(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
        reader.start()
        write_atomically(pipe, [b"through ", b"the pipe"])
        reader.join(10)
        assert received == [b"through the pipe"]
        assert pipe.is_fifo()


def test_standard_output_that_is_a_pipe() -> None:
    code = "from latentcodec.atomic import write_atomically; write_atomically('/dev/stdout', b'bytes')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"bytes"


def test_like_another_file(tmp_path: Path) -> None:
    model, path = tmp_path / "model", tmp_path / "file"
    model.touch()
    model.chmod(0o4640)
    os.utime(model, ns=(10**18 + 1, 10**18 + 2))
    write_atomically(path, b"new", like=model.stat())
    found = path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o640  # without set-user-ID
    assert (found.st_atime_ns, found.st_mtime_ns) == (10**18 + 1, 10**18 + 2)


def test_a_protected_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    opened = os.open

    def protected(name: str, flags: int, *more: int) -> int:
        if Path(name) == path and flags & (os.O_WRONLY | os.O_RDWR):  # as for who is not root
            raise PermissionError(13, "Permission denied", str(name))
        return opened(name, flags, *more)

    monkeypatch.setattr(os, "open", protected)
    with pytest.raises(PermissionError, match="file"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
