"""latentcodec: photographs as small files that decode to the same symbols on every machine.

    encode(picture) -> bytes        decode(bytes) -> picture        info(bytes or path) -> Info
                                    decode_array(bytes) -> array of 8 or 16 bits
    compress(picture file, .lci file)        decompress(.lci file, picture file)
    compare(picture, picture) -> Comparison
    Codec(model=, device=)          the same, with the model kept loaded
    CleanupSettings(unet=)          diffusion clean-up of an autoencoder's latents

The errors are here at once; all else is looked up on first use, so that `import latentcodec` loads neither
PyTorch nor numpy, and a program that only catches the errors or asks for `info` starts in milliseconds.
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
    NotKept,
    NotLatentCodecFile,
    Superseded,
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
    from latentcodec.codec.api import Codec
    from latentcodec.codec.cleanup.settings import CleanupSettings
    from latentcodec.codec.functions import (
        Comparison,
        compare,
        compress,
        decode,
        decode_array,
        decompress,
        encode,
    )
    from latentcodec.codec.info import Info, info
    from latentcodec.container.chunks import Limits
    from latentcodec.container.salvage import Report

__version__ = "0.1.0"

__all__ = [
    "ChecksumMismatch",
    "CleanupSettings",
    "Codec",
    "Comparison",
    "FormatError",
    "ImageError",
    "Info",
    "InvalidArgument",
    "InvalidWeights",
    "LatentCodecError",
    "LimitExceeded",
    "Limits",
    "MalformedFile",
    "MissingDependency",
    "ModelError",
    "NotKept",
    "NotLatentCodecFile",
    "Report",
    "Superseded",
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
    "compare",
    "compress",
    "decode",
    "decode_array",
    "decompress",
    "encode",
    "info",
]

# Where each of the other names is.
_HOMES = {
    "Codec": "latentcodec.codec.api",
    **dict.fromkeys(
        ("Comparison", "compare", "compress", "decode", "decode_array", "decompress", "encode"),
        "latentcodec.codec.functions",
    ),
    **dict.fromkeys(("Info", "info"), "latentcodec.codec.info"),
    "CleanupSettings": "latentcodec.codec.cleanup.settings",
    "Limits": "latentcodec.container.chunks",
    "Report": "latentcodec.container.salvage",
}


def __getattr__(name: str) -> object:
    """A name of _HOMES, imported when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'latentcodec' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)  # found without this from now on
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
