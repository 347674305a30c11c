"""What a clean-up needs of a network: that it predicts the noise in latents, and says which weights it has.

noisy latents, noise level, prompt ─► CleanupDenoiser.predict ─► the noise, or v ─► clean-up
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.diffusion.schedule import NoiseSchedule

__all__ = ["SCHEDULE", "CleanupDenoiser", "Place", "Prompt"]

SCHEDULE = NoiseSchedule()  # the format's: docs/latents.md, "Clean-up"

Prompt = tuple[int, ...]
"""Token ids of CLIP's vocabulary, without start and end; () is the empty prompt."""


class Place(NamedTuple):
    """Where a piece lies in its picture, in pixels; in the order in which SDXL reads it."""

    picture_height: int
    picture_width: int
    top: int
    left: int
    height: int
    width: int


class CleanupDenoiser(Protocol):
    """A network that clean-up can use: `CleanupUNet` is a checkpoint's, others may be written by hand."""

    @property
    def name(self) -> str:
        """What files call it: a hint, in printable characters."""

    @property
    def fingerprint(self) -> bytes:
        """8 bytes that files know it by: other weights, another fingerprint."""

    @property
    def prediction(self) -> str:
        """What `predict` gives: "epsilon", the noise, or "v_prediction"; files say it."""

    def check(self, codec: LatentCodec) -> None:
        """Raise InvalidArgument where it does not work on an autoencoder's latents."""

    def predict(self, noisy: Tensor, sigma: float, prompt: Prompt, place: Place) -> Tensor:
        """The prediction for a piece, of the latents' shape, dtype and device. Called in full_precision.

        noisy: (B, C, h, w), latents in the autoencoder's scale with noise of standard deviation sigma, on
        the autoencoder's device. The noise is epsilon; v is a * epsilon - b * latents, with
        a = 1 / sqrt(1 + sigma^2) and b = sigma * a.
        """
