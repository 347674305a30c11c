"""latentcodec: photographs as small files that decode to the same symbols on every machine.

    encode(picture) -> bytes        decode(bytes) -> picture        info(bytes or path) -> Info
    compress(picture file, .lci file)        decompress(.lci file, picture file)
    Codec(model=, device=)          the same, with the model kept loaded

The errors are here at once; all else is looked up on first use, so that `import latentcodec` loads neither
PyTorch nor numpy, and a program that only catches the errors or prints its help starts in milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from latentcodec.errors import (
    ChecksumMismatch,
    FormatError,
    ImageError,
    InvalidArgument,
    InvalidWeights,
    LatentCodecError,
    LimitExceeded,
    MalformedFile,
    MissingDependency,
    ModelError,
    NotLatentCodecFile,
    TargetUnreachable,
    TrainingError,
    TruncatedFile,
    UnknownModel,
    UnreadableImage,
    UnsupportedChunk,
    UnsupportedImage,
    UnsupportedVersion,
    WeightsMismatch,
)

if TYPE_CHECKING:
    from latentcodec.codec.api import Codec, Info, compress, decode, decompress, encode, info

__version__ = "0.1.0"

__all__ = [
    "ChecksumMismatch",
    "Codec",
    "FormatError",
    "ImageError",
    "Info",
    "InvalidArgument",
    "InvalidWeights",
    "LatentCodecError",
    "LimitExceeded",
    "MalformedFile",
    "MissingDependency",
    "ModelError",
    "NotLatentCodecFile",
    "TargetUnreachable",
    "TrainingError",
    "TruncatedFile",
    "UnknownModel",
    "UnreadableImage",
    "UnsupportedChunk",
    "UnsupportedImage",
    "UnsupportedVersion",
    "WeightsMismatch",
    "__version__",
    "compress",
    "decode",
    "decompress",
    "encode",
    "info",
]

_API = frozenset({"Codec", "Info", "compress", "decode", "decompress", "encode", "info"})


def __getattr__(name: str) -> object:
    """The codec's names, imported when the first of them is asked for."""
    if name not in _API:
        raise AttributeError(f"module 'latentcodec' has no attribute {name!r}")
    api = import_module("latentcodec.codec.api")
    globals().update({each: getattr(api, each) for each in _API})  # from now on found without this function
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(set(globals()) | _API)
