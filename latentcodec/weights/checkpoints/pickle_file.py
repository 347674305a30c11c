"""PyTorch's own files (.ckpt, .pth, .bin), read with nothing in them executed.

file ─► zip: stored, not compressed; pickle of bounded size ─► torch.load(weights_only, mmap)
          ─► nested state_dicts unwrapped ─► tensors that fit their storages

PyTorch's restricted unpickler builds tensors and plain containers and refuses every other name. Old training
checkpoints also hold their trainer's callbacks: those names, listed here, become empty objects.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentcodec.errors import InvalidWeights

MAX_PICKLE_BYTES = 64 << 20  # without tensors' values; SD 1.x's are under 1 MB
_UNREADABLE = 0x61  # zip's flags: encrypted, patched, strongly encrypted (APPNOTE 4.4.4)
MAX_NESTING = 4
# Under these names trainers keep the tensors.
_WRAPPERS = ("state_dict", "model", "module")
# Classes that Lightning's checkpoints name beside the weights (sd-v1-4.ckpt's callbacks): never imported.
_INERT = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
    "pytorch_lightning.utilities.enums.AttributeDict",
)


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file by name; their values stay in the mapped file until they are used.

    Raises InvalidWeights where the file is damaged or truncated, holds code or other objects, has no tensors,
    or a tensor claims more values than the file stores; and OSError.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        _check_archive(path)
    try:
        with _inert_classes(), warnings.catch_warnings(), path.open("rb") as file:
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # _refusal tells of it
            # PyTorch maps only what is given by name, and goes by that name's suffix.
            mapped = zipped and path.suffix != ".safetensors"
            source = path if mapped else file
            found = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise InvalidWeights(f"{path}: {_refusal(error)}") from error
    except Exception as error:  # whatever an unpickler meets in damaged bytes
        raise InvalidWeights(f"{path}: a damaged PyTorch file ({_first_line(error)})") from error
    tensors = {name: value for name, value in _unwrapped(path, found).items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise InvalidWeights(f"{path}: the tensor name {name!r} is no text")
        _check_tensor(path, name, tensor)
    if not tensors:
        raise InvalidWeights(f"{path}: holds no tensors")
    return tensors


def check_sums(path: Path) -> None:
    """Compare all that a PyTorch file stores with its own CRC-32s; other files have none.

    PyTorch itself does not. Raises InvalidWeights, OSError.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
    _check_archive(path)
    with zipfile.ZipFile(path) as archive:
        try:
            damaged = archive.testzip()
        except EOFError as error:
            raise InvalidWeights(
                f"{path}: damaged: an entry is longer than the file; get it again"
            ) from error
    if damaged is not None:
        raise InvalidWeights(f"{path}: damaged: {damaged} in it has another CRC-32 than noted; get it again")


def _check_archive(path: Path) -> None:
    """What is compressed, or claims another size than it has, could grow without bounds."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise InvalidWeights(f"{path}: a damaged or truncated PyTorch file ({error})") from error
    pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
    if len(pickles) != 1:
        raise InvalidWeights(f"{path}: a zip archive, and no PyTorch file: it has no data.pkl")
    for entry in entries:
        if entry.flag_bits & _UNREADABLE:
            raise InvalidWeights(f"{path}: {entry.filename} is encrypted or patched; PyTorch's files are not")
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise InvalidWeights(f"{path}: {entry.filename} is compressed, which PyTorch's files are not")
    if pickles[0].file_size > MAX_PICKLE_BYTES:
        raise InvalidWeights(
            f"{path}: its pickle has {pickles[0].file_size} bytes; at most {MAX_PICKLE_BYTES} are read"
        )


def _inert_classes() -> AbstractContextManager[Any]:
    """Within it, the names of _INERT stand for classes that keep nothing and do nothing."""

    def ignore(self: object, *_: object, **__: object) -> None: ...

    classes: list[Any] = []
    for name in _INERT:
        module, _, short = name.rpartition(".")
        body = {"__module__": module, "__qualname__": short, "__init__": ignore, "__setstate__": ignore}
        classes.append(type(short, (), body))
    return torch.serialization.safe_globals(classes)


def _refusal(error: Exception) -> str:
    """PyTorch's own advice is to load the file unrestricted; ours is not."""
    named = re.search(r"\b(?:GLOBAL|class) ([\w.]+)", str(error))
    if named:
        return (
            f"holds Python objects ({named[1]}), which could run code and are never loaded; "
            "use the model's .safetensors file"
        )
    said = str(error).partition("WeightsUnpickler error: ")[2].strip() or "not what PyTorch writes"
    if said.startswith("Unsupported operand"):
        return (
            "a pickle in another form than PyTorch's, or a damaged one: such could run code and are never "
            "loaded; use the model's .safetensors file"
        )
    return f"a damaged PyTorch file, or one with objects other than tensors ({said.splitlines()[0][:200]})"


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).strip().splitlines()[0][:200]


def _unwrapped(path: Path, found: object) -> Mapping[Any, Any]:
    for _ in range(MAX_NESTING):
        if not isinstance(found, Mapping):
            break
        inner = next((found[key] for key in _WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            return found
        found = inner
    if isinstance(found, Mapping):
        raise InvalidWeights(f"{path}: state_dicts are nested more than {MAX_NESTING - 1} deep")
    raise InvalidWeights(f"{path}: holds a {type(found).__name__}, not tensors by name")


def _check_tensor(path: Path, name: str, tensor: Tensor) -> None:
    """A tensor that repeats its values by strides of 0 would grow when it is copied."""
    if tensor.layout != torch.strided:
        raise InvalidWeights(f"{path}: {name} is a sparse tensor; only dense ones are read")
    needed, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if needed > stored:
        raise InvalidWeights(f"{path}: {name} claims {needed} bytes, and the file stores {stored} for it")
