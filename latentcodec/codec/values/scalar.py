"""The scalar quantiser's arithmetic: latents <-> multiples of a step, a step and an offset a channel.

value v ─► (8 v + offset) * step / 2^23 ─► latent, exactly         latent ─► / step - offset / 8 ─► round
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from latentcodec.codec.values.coder import Floats
from latentcodec.container.autoencoder import OFFSET_BITS, STEP_BITS, ScalarQuantiser


def steps(quantiser: ScalarQuantiser) -> Floats:
    """The steps (channels, 1, 1), in latents."""
    in_latents: Floats = np.array(quantiser.steps(), np.float64)[:, None, None] / (1 << STEP_BITS)
    return in_latents


def dequantise(
    quantiser: ScalarQuantiser, values: npt.NDArray[np.integer], *, sixteenths: bool = False
) -> Floats:
    """Latents (channels, h, w) of values of the same shape: exact, since the products are below 2^53.

    sixteenths: values count these, not steps, as a prior's do.
    """
    shift = OFFSET_BITS + 1 if sixteenths else OFFSET_BITS
    scaled = values.astype(np.int64) << (0 if sixteenths else OFFSET_BITS)
    latents: Floats = (scaled + np.array(quantiser.offsets)[:, None, None]) * steps(quantiser) / (1 << shift)
    return latents


def scale(quantiser: ScalarQuantiser, latents: Floats) -> Floats:
    """Latents (channels, h, w) in steps, offsets taken off: what an encoder rounds."""
    return latents / steps(quantiser) - np.array(quantiser.offsets)[:, None, None] / (1 << OFFSET_BITS)
