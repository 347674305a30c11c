"""PyTorch files made opcode by opcode, for what torch.save does not write."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

LEGACY_HEAD = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
ORDERED = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    """A text on the stack."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    """An integer on the stack."""
    held = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(held)]) + held


def call(name: str, *arguments: bytes) -> bytes:
    """The result of a call on the stack. name: "module name"."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(arguments) + b"tR"


def tuple_of(*values: int) -> bytes:
    """A tuple of integers on the stack."""
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str = "0", numbers: int = 4, kind: str = "torch FloatStorage", *more: bytes) -> bytes:
    """A storage on the stack."""
    name = b"c" + kind.replace(" ", "\n").encode() + b"\n"
    return b"(" + text("storage") + name + text(key) + text("cpu") + number(numbers) + b"".join(more) + b"tQ"


def tensor(
    held: bytes | None = None, offset: int = 0, size: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,)
) -> bytes:
    """A tensor on the stack: by default of the storage "0" of four numbers."""
    places = (number(offset), tuple_of(*size), tuple_of(*stride))
    return call("torch._utils _rebuild_tensor_v2", held or storage(), *places, b"\x89", ORDERED)


def state(**values: bytes) -> bytes:
    """A pickle of a dict."""
    return b"\x80\x02}(" + b"".join(text(name) + value for name, value in values.items()) + b"u."


def save_zip(path: Path, program: bytes, entries: Mapping[str, bytes] | None = None) -> Path:
    """An archive of a pickle and its storages; by default "0", four zeros."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {
            "version": b"3\n",
            "data.pkl": program,
            **(entries or {"data/0": bytes(16)}),
        }.items():
            archive.writestr(f"model/{name}", data)
    return path


def save_legacy(path: Path, program: bytes) -> Path:
    """A file as before 2020, of a pickle and the storage "0" of four zeros."""
    program = program.replace(b"\x8a\x01\x04tQ", b"\x8a\x01\x04NtQ")
    keys = b"\x80\x02]" + text("0") + b"a."
    path.write_bytes(LEGACY_HEAD + program + keys + struct.pack("<Q", 4) + bytes(16))
    return path
