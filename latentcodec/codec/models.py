"""Which autoencoder: for a user's --model, and for a file that names one.

name or path ─► weights.load ─► LatentCodec
V chunk ─► the one in use? ─► of that name in the store? ─► any other in the store of that fingerprint?
                                                          └─► UnknownModel, WeightsMismatch: what is needed
"""

from __future__ import annotations

import os

import torch

from latentcodec.codec.autoencoder_chunk import KINDS, AutoencoderChunk
from latentcodec.codec.latent import LatentCodec
from latentcodec.errors import InvalidArgument, LatentCodecError, UnknownModel, WeightsMismatch
from latentcodec.weights.load import load_autoencoder
from latentcodec.weights.store import stored_names


def open_codec(model: str | os.PathLike[str], device: torch.device) -> LatentCodec:
    """The autoencoder of a name in the store, or of a path, as a codec.

    Raises UnknownModel, InvalidWeights, InvalidArgument (one that files cannot name) and OSError.
    """
    try:
        codec = LatentCodec(load_autoencoder(model, device), device)
    except UnknownModel as error:
        raise UnknownModel(f"model {os.fspath(model)!r}: this version has 'native'; {error}") from error
    if codec.identity.kind not in KINDS:
        raise InvalidArgument(
            f"{codec.identity.name}: files cannot name a {codec.identity.kind} autoencoder, only "
            f"{', '.join(KINDS)}"
        )
    return codec


def codec_for(
    chunk: AutoencoderChunk, device: torch.device, in_use: LatentCodec | None = None
) -> LatentCodec:
    """The autoencoder that a file names.

    in_use: one that is loaded already. Raises UnknownModel where there is none of this name, WeightsMismatch
    where there is, with other weights, and InvalidWeights where it is damaged.
    """
    if in_use is not None and in_use.fingerprint == chunk.fingerprint:
        return in_use
    other = in_use if in_use is not None and in_use.identity.name == chunk.name else None
    # The name is a hint from the file: it is looked up in the store only, it is never a path.
    for name in sorted(stored_names(), key=lambda name: name != chunk.name):
        try:
            codec = open_codec(name, device)
        except (LatentCodecError, OSError):
            if name == chunk.name:
                raise
            continue  # without an autoencoder, or damaged: not this file's
        if codec.fingerprint == chunk.fingerprint:
            return codec
        other = codec if name == chunk.name else other
    needs = f"the file needs the autoencoder {chunk.describe()}"
    way_out = "add it with 'latentcodec models add PATH --name NAME', or name its files with --model"
    if other is not None:
        raise WeightsMismatch(
            f"{needs}; {other.identity.name} here has fingerprint {other.fingerprint.hex()}: {way_out}"
        )
    raise UnknownModel(f"{needs}, which is not installed: {way_out}")
