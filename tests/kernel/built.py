"""The kernel as the tests need it: compiled from this checkout's sources, plain or with sanitisers.

sources, flags ─► their hash ─► build/kernel/HASH/libkernel.so, compiled where it is not there
"""

from __future__ import annotations

import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from hatch_build import FLAGS, LIBRARY, ROOT, NotCompiled, compile_kernel, compiler

SANITISED = ("-std=c11", "-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SOURCES = sorted(path for path in (ROOT / LIBRARY).parent.iterdir() if path.suffix in (".c", ".h"))


def has_compiler() -> bool:
    """Whether there is a C compiler."""
    try:
        compiler()
    except NotCompiled:
        return False
    return True


@cache
def kernel(flags: tuple[str, ...] = FLAGS) -> Path:
    """The library. Skips the test where there is no compiler; sources that do not compile fail it."""
    if not has_compiler():
        pytest.skip("no C compiler: set CC, or install cc, gcc or clang")
    told = sha256(repr((compiler(), flags)).encode())
    for path in (*SOURCES, ROOT / "hatch_build.py"):
        told.update(path.read_bytes())
    path = ROOT / "build" / "kernel" / told.hexdigest()[:16] / "libkernel.so"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        compile_kernel(path, flags)
    return path


def address_sanitiser() -> Path:
    """The library that a process must preload to open a sanitised kernel. Skips the test where it is not."""
    if not has_compiler():
        pytest.skip("no C compiler: set CC, or install cc, gcc or clang")
    ask = [*compiler(), "-print-file-name=libasan.so"]
    path = Path(subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip())
    if not path.is_absolute() or not path.is_file():
        pytest.skip(f"{compiler()[0]} has no libasan.so: GCC has one, on Linux")
    return path.resolve()
