"""The exception tree. Imports nothing.

LatentCodecError
├── FormatError               the bytes are not a file that this version can decode
│   ├── NotLatentCodecFile    the signature is missing (or was damaged by a text-mode transfer)
│   ├── UnsupportedVersion    written by a newer version of the format
│   ├── UnsupportedChunk      holds an unknown critical chunk
│   ├── TruncatedFile         ends before its data does
│   ├── ChecksumMismatch      a chunk's CRC-32 or a tile's symbol digest is wrong
│   └── MalformedFile         a field holds a value that the format does not allow
├── LimitExceeded             well formed, but larger than the caller's limits
├── ModelError
│   ├── UnknownModel          the file names a model that is not installed
│   ├── WeightsMismatch       the model is installed with other weights
│   └── InvalidWeights        a weights file is damaged or breaks a proved bound
├── ImageError
│   ├── UnreadableImage       not a picture, or a damaged one
│   ├── UnsupportedImage      a picture of a kind that cannot be stored (an animation, say)
│   └── NotKept               something of a picture would not be kept, and `strict` forbids it
├── TargetUnreachable         no quality reaches the target; names the reachable bound
├── TrainingError             a run that cannot start, resume or export
├── InvalidArgument           (also a ValueError) an argument out of its range
└── MissingDependency         (also an ImportError) an optional package is not installed
"""

from __future__ import annotations

__all__ = [
    "ChecksumMismatch",
    "FormatError",
    "ImageError",
    "InvalidArgument",
    "InvalidWeights",
    "LatentCodecError",
    "LimitExceeded",
    "MalformedFile",
    "MissingDependency",
    "ModelError",
    "NotKept",
    "NotLatentCodecFile",
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
]


class LatentCodecError(Exception):
    """The root: catching it catches everything that this package raises on purpose."""


class FormatError(LatentCodecError):
    """The bytes are not a file that this version can decode."""


class NotLatentCodecFile(FormatError):
    """The signature is missing."""


class UnsupportedVersion(FormatError):
    """The file was written by a newer version of the format."""


class UnsupportedChunk(FormatError):
    """The file holds an unknown critical chunk."""


class TruncatedFile(FormatError):
    """The file ends before its data does."""


class ChecksumMismatch(FormatError):
    """A chunk's CRC-32 or a tile's symbol digest is wrong."""


class MalformedFile(FormatError):
    """A field holds a value that the format does not allow."""


class LimitExceeded(LatentCodecError):
    """The file is well formed, but larger than the caller's limits."""


class ModelError(LatentCodecError):
    """A model cannot be used."""


class UnknownModel(ModelError):
    """The file names a model that is not installed."""


class WeightsMismatch(ModelError):
    """The model is installed, with other weights than the file was made with."""


class InvalidWeights(ModelError):
    """A weights file is damaged or breaks a proved bound."""


class ImageError(LatentCodecError):
    """A picture cannot be used."""


class UnreadableImage(ImageError):
    """Not a picture, or a damaged one."""


class UnsupportedImage(ImageError):
    """A picture of a kind that cannot be stored."""


class NotKept(ImageError):
    """Something of a picture would not be kept, and `strict` forbids it."""


class TargetUnreachable(LatentCodecError):
    """No quality reaches the target; the message names the reachable bound."""


class Superseded(LatentCodecError):
    """A newer request has taken the place of this one."""


class TrainingError(LatentCodecError):
    """A training run cannot start, resume or export."""


class InvalidArgument(LatentCodecError, ValueError):
    """An argument is out of its range, or does not go with others.

    names: the arguments that the message names, where it names them as the API does.
    """

    def __init__(self, message: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


class MissingDependency(LatentCodecError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""
