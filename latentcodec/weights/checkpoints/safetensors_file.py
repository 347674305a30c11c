"""safetensors files: the header checked, tensors mapped when they are asked for.

file ─► the header's length ─► safetensors' own checks ─► names once, shapes that tensors can have ─► Header

The package safetensors refuses ranges that overlap, leave holes or lead out of the file. It lets a name stand
twice, shapes have any number of sides, and headers 100 MB: checked here, before anything goes by them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from latentcodec.errors import InvalidWeights
from latentcodec.weights.pytorch.calls import MAX_DIMENSIONS, MAX_INTEGER

MAX_HEADER_BYTES = 8 << 20  # SDXL's 2,500 tensors take 0.3 MB; authors' notes may take more
MAX_TENSORS = 1 << 16
_LENGTH = 8  # bytes that say how long the header is
_NOTES = "__metadata__"


class Safetensors(NamedTuple):
    """A file's tensors: their shapes by name, what maps one (raises InvalidWeights), the file's own notes."""

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], Any]
    notes: Mapping[str, str]


def read_safetensors(path: Path, framework: str = "pt") -> Safetensors:
    """Open a safetensors file; no values are read.

    framework: "pt" for PyTorch's tensors, "np" for numpy's arrays, without PyTorch. Raises InvalidWeights
    where it is damaged, truncated or out of bounds, and OSError.
    """
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(_LENGTH), "little")
        if length > MAX_HEADER_BYTES:
            raise InvalidWeights(
                f"{path}: not a safetensors file, or one with a header of {length} bytes; at most "
                f"{MAX_HEADER_BYTES} are read"
            )
        header = handle.read(length)
    try:
        file: Any = safe_open(path, framework=framework)
        if len(file.keys()) > MAX_TENSORS:
            raise InvalidWeights(f"{path}: {len(file.keys())} tensors; at most {MAX_TENSORS} are read")
        # safetensors has looked at it by now: objects of texts and numbers, at most four levels deep.
        described = json.loads(header, object_pairs_hook=_once)
        notes = file.metadata()
    except (SafetensorError, ValueError) as error:
        reason = _shown(str(error), 200)  # it may repeat names
        raise InvalidWeights(f"{path}: a damaged or truncated safetensors file ({reason})") from error
    shapes = {name: tuple(entry["shape"]) for name, entry in described.items() if name != _NOTES}
    for name, shape in shapes.items():
        if len(shape) > MAX_DIMENSIONS or math.prod(side or 1 for side in shape) >= MAX_INTEGER:
            raise InvalidWeights(
                f"{path}: {_shown(name)} has {len(shape)} sides of up to {max(shape)}; they have "
                f"at most {MAX_DIMENSIONS}, and their product is below 2^63"
            )

    def read(name: str) -> Any:
        try:
            tensor = file.get_tensor(name)
        except (SafetensorError, RuntimeError, KeyError, AttributeError, TypeError) as error:  # unknown types
            reason = _shown(str(error), 200)
            raise InvalidWeights(f"{path}: {_shown(name)} cannot be read ({reason})") from error
        return tensor

    return Safetensors(shapes, read, notes or {})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no key may stand twice: programs differ in which one counts."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name stands twice in its header")
    return values


def _shown(text: str, most: int = 80) -> str:
    """The start of a text from the file, with nothing that a terminal obeys."""
    return ascii(text[:most])[1:-1]
