"""Weights files as lazily read tensors by name, whatever their container.

file ─► sniff ─┬─ safetensors ─────────► safetensors_file: header checked, tensors mapped when asked for
               ├─ PyTorch zip or pickle ─► pickle_file: read as descriptions, mapped
               └─ *.index.json ─────────► its shards, each as above

    checkpoint = open_checkpoint(path)
    checkpoint.shape("conv_in.weight")    nothing is read
    checkpoint["conv_in.weight"]          a view of the mapped file: no copy until it is converted or moved

Tensors of mapped files are views: a file that is overwritten in place while its tensors are in use changes
them. The store never does that; it replaces files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from latentcodec.errors import InvalidWeights, UnknownModel
from latentcodec.weights.checkpoints.pickle_file import read_pickle
from latentcodec.weights.checkpoints.safetensors_file import read_safetensors

Shape = tuple[int, ...]

MAX_NAME = 512  # characters; the longest of the families known here has 105
MAX_INDEX_BYTES = 8 << 20  # of a sharded checkpoint; SDXL's UNet needs 0.2 MB
_HEAD = 512  # bytes that show a file's kind
# What a download leaves in a weights file's place, by its first bytes.
_NO_WEIGHTS = (
    (b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull` where it came from"),
    (b"<!doctype html", "a web page: the download failed or needs a licence to be accepted"),
    (b"<html", "a web page: the download failed or needs a licence to be accepted"),
    (b"GGUF", "a GGUF file: quantised weights are not read by this version"),
)


class Checkpoint(Mapping[str, Tensor]):
    """Tensors by name; those of a file, or of a part of one. Shapes are known without reading any.

    path: the file or folder that error messages name. metadata: the file's own notes.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, Shape],
        read: Callable[[str], Tensor],
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.path = path
        self.metadata = dict(metadata or {})
        self._shapes = dict(shapes)
        self._read = read

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._shapes:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:  # Mapping's own would read the tensor
        return name in self._shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)

    def shape(self, name: str) -> Shape:
        """The shape of a tensor. Raises KeyError where there is none of that name."""
        return self._shapes[name]

    def within(self, prefix: str) -> Checkpoint:
        """The tensors whose names begin with `prefix`, which their new names lack."""
        shapes = {k.removeprefix(prefix): v for k, v in self._shapes.items() if k.startswith(prefix)}
        return Checkpoint(self.path, shapes, lambda name: self._read(prefix + name), self.metadata)


def joined(path: Path, parts: Mapping[str, Checkpoint]) -> Checkpoint:
    """One checkpoint of several: the names of each begin with its key."""
    places = {prefix + name: (part, name) for prefix, part in parts.items() for name in part}
    shapes = {whole: part.shape(name) for whole, (part, name) in places.items()}

    def read(whole: str) -> Tensor:
        part, name = places[whole]
        return part[name]

    return Checkpoint(path, shapes, read)


def is_index(path: Path) -> bool:
    """Whether a file is the index of a sharded one: *.index.json, or *.index.fp16.json of a variant."""
    return re.search(r"\.index(\.\w+)?\.json$", path.name) is not None


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a weights file: safetensors, PyTorch's own, or the index of a sharded one.

    The content decides, not the name. Nothing in the file is executed. Raises UnknownModel where there is no
    such file, InvalidWeights where it is damaged, truncated, of another kind or holds code, and OSError.
    """
    if is_index(path):
        return _read_shards(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InvalidWeights(f"{path}: this is no regular file; name the weights file itself")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError as error:
        raise UnknownModel(f"{path}: no such file") from error
    # safetensors begin with their header's length, 8 bytes that may look like another file's.
    opens_header = head[8:9] == b"{"
    if head[:4] == b"PK\x03\x04" or (head[:1] == b"\x80" and not (opens_header and head[4:8] == bytes(4))):
        return _with_plain_names(Checkpoint(path, *_shapes_and_reader(read_pickle(path))))
    if opens_header:
        return _with_plain_names(Checkpoint(path, *read_safetensors(path)))
    start = head.lstrip().lower()
    for magic, description in _NO_WEIGHTS:
        if start.startswith(magic.lower()):
            raise InvalidWeights(f"{path}: this is no weights file but {description}")
    raise InvalidWeights(f"{path}: neither a safetensors nor a PyTorch file; it begins {head[:8]!r}")


def _with_plain_names(checkpoint: Checkpoint) -> Checkpoint:
    """Messages repeat names: none may hold what a terminal obeys, or fill it."""
    for name in checkpoint:
        if not name.isprintable() or len(name) > MAX_NAME:
            raise InvalidWeights(
                f"{checkpoint.path}: a tensor is named {name[:80]!r}; names are printable and have at most "
                f"{MAX_NAME} characters"
            )
    return checkpoint


def _shapes_and_reader(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Shape], Callable[[str], Tensor]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}, tensors.__getitem__


def _read_shards(path: Path) -> Checkpoint:
    """A sharded checkpoint: {"weight_map": {tensor: file in the same folder}}."""
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise InvalidWeights(f"{path}: {path.stat().st_size} bytes; at most {MAX_INDEX_BYTES} are read")
        places = json.loads(path.read_bytes())["weight_map"]
        names = sorted(set(places.values()))
    except FileNotFoundError as error:
        raise UnknownModel(f"{path}: no such file") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidWeights(f"{path}: not the index of a sharded checkpoint ({error!r})") from error
    for name in names:
        if not isinstance(name, str) or name != Path(name).name or name.endswith(".json"):
            raise InvalidWeights(f"{path}: names the shard {name!r}, which is no file of its folder")
    shards = {name: open_checkpoint(path.parent / name) for name in names}
    indexed = {(shard, tensor) for tensor, shard in places.items()}
    stored = {(shard, tensor) for shard, checkpoint in shards.items() for tensor in checkpoint}
    for shard, tensor in sorted(indexed - stored):
        raise InvalidWeights(f"{path}: {tensor} is not in {shard}, where the index has it")
    for shard, tensor in sorted(stored - indexed):
        raise InvalidWeights(f"{path}: {shard} holds {tensor}, which the index does not name there")
    shapes = {tensor: shards[shard].shape(tensor) for tensor, shard in places.items()}
    return Checkpoint(path, shapes, lambda tensor: shards[places[tensor]][tensor])


def floating(checkpoint: Checkpoint, name: str) -> Tensor:
    """A tensor of a checkpoint. Raises InvalidWeights where its numbers are no floats (quantised weights)."""
    tensor = checkpoint[name]
    if not tensor.dtype.is_floating_point:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise InvalidWeights(
            f"{checkpoint.path}: {name} holds {kind}, not floats; quantised weights are not read"
        )
    return tensor
