"""Which coder a file has: what its V chunk says.

autoencoder's V chunk ─► what an encoder is asked for ─► steps ─► V chunk
V chunk ─┬─ palette ─► PaletteCoder
         ├─ prior's hash ─► the prior in use, or the store's ─► PriorCoder
         └─ scalar ─► AdaptiveCoder
"""

from __future__ import annotations

from dataclasses import replace

import torch

from latentcodec.codec.values.adaptive_coder import AdaptiveCoder
from latentcodec.codec.values.coder import ValueCoder
from latentcodec.codec.values.palette import PaletteCoder
from latentcodec.codec.values.prior import LatentPrior, PriorCoder, prior_for
from latentcodec.container.autoencoder import AutoencoderChunk


def coder_for(
    chunk: AutoencoderChunk, level: int, device: torch.device, in_use: LatentPrior | None = None
) -> ValueCoder:
    """The coder that a V chunk names.

    level: the header's quality level. in_use: a prior that is loaded; a file that needs another has it from
    the store. Raises UnknownModel where the file's prior is not there, InvalidWeights where it is damaged,
    and WeightsMismatch where it belongs to another autoencoder.
    """
    if chunk.scalar is None:
        return PaletteCoder(chunk.latents)
    if chunk.prior:
        return PriorCoder(prior_for(chunk, device, in_use), chunk.scalar, level)
    return AdaptiveCoder(chunk.scalar)


def asked_chunk(chunk: AutoencoderChunk, prior: LatentPrior | None) -> AutoencoderChunk:
    """The V chunk of files that are to be coded with a prior, if there is one; an encoder adds the steps.

    Raises WeightsMismatch where the prior was fitted to another autoencoder.
    """
    if prior is None:
        return chunk
    prior.check(chunk)
    return replace(chunk, prior=prior.hash)
