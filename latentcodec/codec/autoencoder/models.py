"""Which autoencoder: for a user's --model, and for a file that names one.

name or path ─► weights.load ─► LatentCodec
V chunk ─► its fingerprint ─► lookup ─┘
"""

from __future__ import annotations

import os

import torch

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.container.autoencoder import AutoencoderChunk
from latentcodec.errors import UnknownModel
from latentcodec.weights.load import load_autoencoder
from latentcodec.weights.lookup import find_network
from latentcodec.weights.store import list_models, stored_names


def open_codec(model: str | os.PathLike[str], device: torch.device) -> LatentCodec:
    """The autoencoder of a name in the store, or of a path, as a codec.

    Raises UnknownModel, InvalidWeights, InvalidArgument (one that files cannot hold) and OSError.
    """
    try:
        return LatentCodec(load_autoencoder(model, device), device)
    except UnknownModel as error:
        raise UnknownModel(f"model {os.fspath(model)!r}: this version has 'native'; {error}") from error


def codec_for(
    chunk: AutoencoderChunk,
    device: torch.device,
    chosen: LatentCodec | None = None,
    cached: LatentCodec | None = None,
) -> LatentCodec:
    """The autoencoder that a file names.

    chosen: the user's; cached: one that an earlier file needed. Raises as lookup.find_network does.
    """
    # Of the store only what was added with this fingerprint, and what has the name, to report other weights.
    digest = chunk.fingerprint.hex()
    added = {entry.name: entry.fingerprint or "" for entry in list_models()}
    names = [name for name in stored_names() if name == chunk.name or added.get(name, "").startswith(digest)]
    return find_network(
        chunk.fingerprint,
        chunk.name,
        names,
        lambda name: open_codec(name, device),
        chosen=chosen,
        cached=cached,
        needs=f"the file needs the autoencoder {chunk.describe()}",
        way_out="add it with 'latentcodec models add PATH --name NAME', or name its files with --model",
    )
