"""What the scalar quantiser's steps are: a quality, and how much each channel shows in the picture.

    latents ─► decode ─► random signs ─► backward ─► mean squared gradient per channel = sensitivity²
    level ─► visible step B;     step of a channel = B / sensitivity ─► integers of the file

A latent that is off by d changes the picture by a squared error of (sensitivity * d)², summed over samples in
0..1. Equal shares of error are the best bargain at high rates; at low rates rate-aware rounding takes over.
All of this is the encoder's choice: a decoder reads steps and offsets from the file.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.values.coder import Floats
from latentcodec.codec.values.scalar import steps
from latentcodec.container.autoencoder import MAX_BASE, MAX_DELTA, ScalarQuantiser
from latentcodec.container.header import MAX_QUALITY_LEVEL
from latentcodec.errors import InvalidArgument
from latentcodec.nn.device import full_precision

COARSEST, FINEST = 3.0, 0.04  # B at quality 0 and 100
PROBE = 32  # side of the piece that sensitivities are measured on, in latent positions: bounds memory
_LEAST = 0.02  # of the mean sensitivity; a channel that shows less is treated as if it showed so much
_SEED = 1


def visible_step(level: int) -> float:
    """B at a quality level of 0..4000."""
    return float(COARSEST * (FINEST / COARSEST) ** (level / MAX_QUALITY_LEVEL))


def sensitivities(codec: LatentCodec, latents: Floats) -> Floats:
    """(channels,), positive, of latents (channels, h, w), from a piece in the middle.

    Raises InvalidArgument where the decoder's gradient is not finite.
    """
    _, height, width = latents.shape
    top, left = max(height - PROBE, 0) // 2, max(width - PROBE, 0) // 2
    piece = torch.from_numpy(latents[:, top : top + PROBE, left : left + PROBE]).float()[None]
    signs = torch.Generator().manual_seed(_SEED)
    with full_precision(codec.device), torch.inference_mode(False), torch.enable_grad():
        z = piece.to(codec.device).requires_grad_()
        picture = codec.module.decode(z)
        probe = torch.randint(0, 2, picture.shape, generator=signs).mul(2).sub(1).to(picture)
        (gradient,) = torch.autograd.grad((picture * probe).sum(), z)
    shows: Floats = gradient[0].double().square().mean((1, 2)).sqrt().cpu().numpy()
    if not np.isfinite(shows).all():
        raise InvalidArgument(f"{codec.identity.name}: its gradients are not finite: it has wrong weights")
    return np.maximum(shows, max(_LEAST * float(shows.mean()), 1e-6))


def choose_steps(level: int, shows: Floats, means: Floats) -> ScalarQuantiser:
    """The quantiser of a level; `shows`: sensitivities, `means`: of the latents, both (channels,)."""
    # Eighths of an octave above 2^-12, as the file counts.
    index = 8 * (np.log2(visible_step(level) / shows) + 12)
    base = int(np.clip(math.floor(index.min() + 0.5), 0, MAX_BASE))
    deltas = np.clip(np.rint((index - base) / 2), 0, MAX_DELTA).astype(int)
    plain = ScalarQuantiser(base, tuple(deltas.tolist()), (0,) * len(shows))
    shares = means / steps(plain)[:, 0, 0]
    offsets = np.rint(8 * (shares - np.rint(shares))).astype(int)
    return ScalarQuantiser(base, plain.deltas, tuple(offsets.tolist()))
