"""Prompts as what a UNet is conditioned on.

    prompts ─► chunks (prompt) ─► ids, padded as the family's encoders were trained
                                   │ first encoder ─────────► (B n, 77, C1) ─► x weights, mean restored ─┐
                                   └ SDXL's second ─┬───────► (B n, 77, C2) ─► the same ─────────────────┤
                                                    └ pooled of the first chunk                          │
                                       (B, 1280)                           context (B, 77 n, C1 [+ C2]) ◄┘

The rule of weights: let Z be an encoder's features of one chunk (77, C) and w its 77 weights, 1 for start,
end and padding. The context is Z' = w Z m / m', where m is the mean of all numbers of Z and m' that of w Z.
So one word counts more against the others, and the whole stays as large as it was. Where m / m' is
negative, or more than MAX_RESTORED, it is left out: a mean near zero says nothing about size. A chunk whose
weights are all 1 is Z exactly. The rule is AUTOMATIC1111's ("Original" emphasis), which takes the mean over
all chunks of a call; here a chunk depends on no other, so that a picture is the same alone and in a batch.

Prompts of fewer chunks than others of their batch get empty ones at their end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentcodec.errors import InvalidArgument
from latentcodec.generate.prompt import Chunk, chunks_of
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder, TextFeatures
from latentcodec.nn.stable_diffusion.tokenizer import PAD_CLIP_L, PAD_OPENCLIP

MAX_RESTORED = 4.0
_ROWS = 16  # chunks that an encoder reads at once; bounds memory
_OPENCLIP = ("sd2", "x4")  # families whose one encoder is OpenCLIP's begin so


@dataclass(frozen=True)
class TextTowers:
    """The text encoders of a model, on their device. second: SDXL's. family: a name of families.FAMILIES."""

    first: TextEncoder
    second: TextEncoder | None
    family: str


@dataclass(frozen=True)
class Conditioning:
    """context: (B, 77 n, C), n chunks. pooled: (B, P), SDXL's only; of the first chunk, without weights."""

    context: Tensor
    pooled: Tensor | None


@torch.no_grad()
def encode_prompts(towers: TextTowers, prompts: Sequence[str]) -> Conditioning:
    """What a UNet takes from B prompts, in the encoders' precision and on their device.

    Raises InvalidArgument for no prompts, and as prompt.chunks_of does.
    """
    if not prompts:
        raise InvalidArgument('prompts: there are none; an empty one is ""')
    rows = [chunks_of(prompt) for prompt in prompts]
    longest = max(map(len, rows))
    chunks = [chunk for row in rows for chunk in (*row, *[Chunk()] * (longest - len(row)))]
    if towers.second is None:
        openclip = towers.family.startswith(_OPENCLIP)
        read = _last_of_openclip if openclip else _last
        context, _ = _encode(towers.first, chunks, PAD_OPENCLIP if openclip else PAD_CLIP_L, read)
        return Conditioning(_side_by_side(context, longest), None)
    first, _ = _encode(towers.first, chunks, PAD_CLIP_L, _penultimate)
    second, pooled = _encode(towers.second, chunks, PAD_OPENCLIP, _penultimate)
    context = torch.cat([first, second], dim=-1)
    return Conditioning(_side_by_side(context, longest), pooled[::longest])


def _side_by_side(context: Tensor, chunks: int) -> Tensor:
    """(B n, 77, C) -> (B, 77 n, C)."""
    return context.reshape(-1, chunks * context.shape[1], context.shape[2])


def _last(features: TextFeatures, _: TextEncoder) -> Tensor:
    return features.last


def _last_of_openclip(features: TextFeatures, encoder: TextEncoder) -> Tensor:
    """SD 2.x leaves out the last layer, which whole encoders (those with a projection) have."""
    return features.last if encoder.config.projection is None else features.penultimate_normed


def _penultimate(features: TextFeatures, _: TextEncoder) -> Tensor:
    return features.penultimate


def _encode(
    encoder: TextEncoder,
    chunks: Sequence[Chunk],
    padding: int,
    read: Callable[[TextFeatures, TextEncoder], Tensor],
) -> tuple[Tensor, Tensor]:
    """Of N chunks the weighted features (N, 77, C) and the pooled ones (N, P)."""
    device = encoder.final_layer_norm.weight.device
    contexts, pooled = [], []
    for start in range(0, len(chunks), _ROWS):
        some = chunks[start : start + _ROWS]
        features = encoder(torch.tensor([chunk.ids(padding) for chunk in some], device=device))
        contexts += [
            weigh(of_chunk, chunk.multipliers())
            for of_chunk, chunk in zip(read(features, encoder), some, strict=True)
        ]
        pooled.append(features.pooled)
    return torch.stack(contexts), torch.cat(pooled)


def weigh(features: Tensor, weights: Sequence[float]) -> Tensor:
    """The rule of weights: features (77, C) of a chunk and its 77 weights -> the same shape and dtype."""
    if all(weight == 1.0 for weight in weights):
        return features
    z = features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
    weighted = z * torch.tensor(weights, dtype=z.dtype, device=z.device)[:, None]
    restored = z.mean() / weighted.mean()
    if 0 < restored <= MAX_RESTORED:  # not for NaN
        weighted = weighted * restored
    return weighted.to(features.dtype)
