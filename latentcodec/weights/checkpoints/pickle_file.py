"""PyTorch's own files (.ckpt, .pth, .bin), read with nothing in them executed.

file ─┬─ zip: data.pkl, an entry for each storage ─┬─► pytorch.scan: descriptions of tensors
      └─ before 2020: pickles, then the storages ──┘        │
                nested state_dicts unwrapped ◄──────────────┘
                  └─► views of the mapped file, each within its storage

No unpickler runs, nor does torch.load: the pickles are read as descriptions. So a file can do nothing,
whichever release of PyTorch is installed, and costs no more than its size.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcodec.errors import InvalidWeights
from latentcodec.weights.pytorch.archive import MAGIC, Entry, read_archive
from latentcodec.weights.pytorch.calls import MAX_INTEGER, Container, OddTensor, StoredTensor
from latentcodec.weights.pytorch.scan import Scan

MAX_PICKLE_BYTES = 16 << 20  # without tensors' values; SD 1.x's are under 1 MB
MAX_NESTING = 4
# Tensors may be views of the same numbers: tied weights. Copies of them all take at most this many times what
# the file stores. Stable Diffusion ties nothing, language models their first and last layers.
MAX_SHARING = 8
# Under these names trainers keep the tensors.
_WRAPPERS = ("state_dict", "model", "module")
# What files of before 2020 begin with (torch.serialization.MAGIC_NUMBER, PROTOCOL_VERSION).
_LEGACY = (0x1950A86A20F9469CFC6C, 1001)


@dataclass(frozen=True)
class _Content:
    """The value of a file's pickle; where its storages are, by key. big: their bytes are in that order."""

    value: Any
    storages: Mapping[str, Entry]
    big: bool = False


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file by name; their values stay in the mapped file until they are used.

    Raises InvalidWeights where the file is damaged or truncated, holds code or other objects, has no tensors,
    or a tensor claims more values than the file stores; and OSError.
    """
    with path.open("rb") as file:
        zipped = file.read(len(MAGIC)) == MAGIC
    content = _read_zip(path) if zipped else _read_legacy(path)
    described: dict[str, StoredTensor] = {}
    for name, value in _unwrapped(path, content.value).items():
        if not isinstance(value, StoredTensor | OddTensor):
            continue
        if not isinstance(name, str):
            raise InvalidWeights(f"{path}: the tensor name {name!r} is no text")
        described[name] = _checked(path, name, value, content.storages)
    if not described:
        raise InvalidWeights(f"{path}: holds no tensors")
    return _mapped(path, described, content)


def _read_zip(path: Path) -> _Content:
    entries = read_archive(path)
    pickles = [name for name in entries if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise InvalidWeights(f"{path}: a zip archive, and no PyTorch file: it has {len(pickles)} data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    size = entries[pickles[0]].size
    if size > MAX_PICKLE_BYTES:
        raise InvalidWeights(f"{path}: its pickle has {size} bytes; at most {MAX_PICKLE_BYTES} are read")
    big = f"{folder}byteorder" in entries and _bytes(path, entries[f"{folder}byteorder"], 16) == b"big"
    data = f"{folder}data/"
    storages = {name.removeprefix(data): entry for name, entry in entries.items() if name.startswith(data)}
    return _Content(Scan(path, _bytes(path, entries[pickles[0]], size)).read(), storages, big)


def _read_legacy(path: Path) -> _Content:
    """Five pickles, and after them each storage that the last one lists: how many numbers, and they."""
    with path.open("rb") as file:
        scan = Scan(path, file.read(MAX_PICKLE_BYTES))
        if (scan.read(), scan.read()) != _LEGACY:
            raise InvalidWeights(f"{path}: a pickle, and no PyTorch file: it does not begin as theirs do")
        scan.read()  # the machine that wrote it; what follows is little-endian always
        value, keys = scan.read(), scan.read()
        place, end = scan.place, file.seek(0, 2)
        storages = {}
        for key in keys.items if isinstance(keys, Container) else ():
            if not isinstance(key, str) or key not in scan.storages:
                raise InvalidWeights(f"{path}: a damaged PyTorch file (it stores what it does not use)")
            file.seek(place)
            numbers, place = int.from_bytes(file.read(8), "little"), place + 8
            storage = scan.storages[key]
            size = storage.numbers * _type(storage.dtype).itemsize
            if numbers != storage.numbers or place + size > end:
                raise InvalidWeights(
                    f"{path}: damaged or truncated: a storage of {storage.numbers} numbers, where the file "
                    f"has {numbers} in {end - place} bytes; get it again"
                )
            storages[key] = Entry(place, size, 0)
            place += size
    return _Content(value, storages)


def _bytes(path: Path, entry: Entry, most: int) -> bytes:
    with path.open("rb") as file:
        file.seek(entry.start)
        return file.read(min(entry.size, most))


def _unwrapped(path: Path, value: Any) -> Mapping[Any, Any]:
    for _ in range(MAX_NESTING):
        content = value.items if isinstance(value, Container) else value
        if not isinstance(content, dict):
            raise InvalidWeights(f"{path}: holds a {type(content).__name__}, not tensors by name")
        inner = (content[key] for key in _WRAPPERS if isinstance(content.get(key), Container))
        value = next((each for each in inner if isinstance(each.items, dict)), None)
        if value is None:
            return content
    raise InvalidWeights(f"{path}: state_dicts are nested more than {MAX_NESTING - 1} deep")


def _checked(
    path: Path, name: str, tensor: StoredTensor | OddTensor, storages: Mapping[str, Entry]
) -> StoredTensor:
    """A tensor, if all of its numbers are in its storage, and that in the file.

    One that repeats its numbers by strides of 0 would grow when it is copied.
    """
    shown = ascii(name[:80])[1:-1]
    if isinstance(tensor, OddTensor):
        raise InvalidWeights(
            f"{path}: {shown} is {tensor.kind}; only dense tensors of plain numbers are read"
        )
    for attribute in tensor.attributes:
        if hasattr(Tensor, attribute):
            raise InvalidWeights(
                f"{path}: {shown} has an attribute {attribute} in the place of PyTorch's own"
            )
    entry, storage = storages.get(tensor.storage.key), tensor.storage
    if entry is None:
        raise InvalidWeights(f"{path}: {shown} needs the storage {storage.key[:80]!a}, which the file lacks")
    stored = storage.numbers * _type(storage.dtype).itemsize
    if stored > entry.size:
        raise InvalidWeights(
            f"{path}: {shown} needs a storage of {stored} bytes, and the file has {entry.size}"
        )
    needed = _bytes_of(tensor)
    if needed > stored or math.prod(side or 1 for side in tensor.size) >= MAX_INTEGER:
        raise InvalidWeights(f"{path}: {shown} claims {needed} bytes, and the file stores {stored} for it")
    last = (
        sum((side - 1) * step for side, step in zip(tensor.size, tensor.stride, strict=True))
        if needed
        else -1
    )
    if (tensor.offset + last + 1) * _type(tensor.dtype).itemsize > stored:
        raise InvalidWeights(f"{path}: {shown} goes past the {stored} bytes that the file stores for it")
    return tensor


def _mapped(path: Path, described: Mapping[str, StoredTensor], content: _Content) -> dict[str, Tensor]:
    """Views of the mapped file. Storages whose bytes are at odd places, or in another order, are copied."""
    used = {tensor.storage.key for tensor in described.values()}
    claimed, stored = sum(map(_bytes_of, described.values())), sum(content.storages[key].size for key in used)
    if claimed > MAX_SHARING * stored:
        raise InvalidWeights(
            f"{path}: its tensors share their numbers so much that they claim {claimed} bytes, and the file "
            f"stores {stored}; at most {MAX_SHARING} times as many are read"
        )
    swapped = content.big != (sys.byteorder == "big")
    aligned: dict[str, torch.UntypedStorage] = {}
    storages: dict[tuple[str, str], torch.UntypedStorage] = {}
    tensors = {}
    try:
        whole = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)
        for name, tensor in described.items():
            key, dtype = (tensor.storage.key, tensor.dtype), _type(tensor.dtype)
            if key not in storages:
                entry = content.storages[tensor.storage.key]
                storage = whole[entry.start : entry.start + entry.size]
                if swapped:
                    storage = storage.clone()
                    storage.byteswap(dtype)
                elif entry.start % dtype.itemsize:  # one copy serves all types
                    if key[0] not in aligned:
                        aligned[key[0]] = storage.clone()
                    storage = aligned[key[0]]
                storages[key] = storage
            if not _bytes_of(tensor):
                tensors[name] = torch.empty(tensor.size, dtype=dtype)
            else:
                place = tensor.offset, tensor.size, tensor.stride
                tensors[name] = torch.empty(0, dtype=dtype).set_(storages[key], *place)
    except (RuntimeError, ValueError) as error:  # a file that became shorter, or sizes that PyTorch refuses
        raise InvalidWeights(
            f"{path}: cannot be mapped as tensors ({str(error).splitlines()[0][:200]})"
        ) from error
    return tensors


def _type(name: str) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _bytes_of(tensor: StoredTensor) -> int:
    return math.prod(tensor.size) * _type(tensor.dtype).itemsize
