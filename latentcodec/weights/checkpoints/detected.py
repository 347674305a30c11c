"""What a model on disk was found to be, and why.

Importing this loads neither PyTorch nor numpy: the store keeps these records, the command line shows them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

AUTOENCODER, UNET, TEXT_ENCODER, DEPTH = "autoencoder", "unet", "text_encoder", "depth"
SECOND_TEXT_ENCODER = "text_encoder_2"
EPSILON, VELOCITY = "epsilon", "v_prediction"


@dataclass(frozen=True, kw_only=True)
class Detected:
    """A model's family and parts.

    family: a name of latentcodec.weights.checkpoints.families ("sd1", "sdxl", "taef2" ...).
    layout: how its UNet's tensors are named, or its autoencoder's: "ldm", "diffusers", "taesd".
    components: the networks that it holds (AUTOENCODER, UNET ...), sorted.
    kind: of its autoencoder, a name of latentcodec.weights.checkpoints.families; None where it has none.
    prediction: EPSILON or VELOCITY; None where there is no UNet.
    averages: whether the UNet's exponential moving averages (EMA) are in the file beside the plain weights.
    reasons: for each of these, what said so: "family sd1: a UNet of 4 input channels, ...".
    """

    family: str
    layout: str
    components: tuple[str, ...]
    kind: str | None = None
    prediction: str | None = None
    averages: bool = False
    reasons: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self) | {"components": list(self.components), "reasons": list(self.reasons)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Detected:
        """The inverse of to_dict. Raises KeyError and TypeError for other dictionaries."""
        lists = {key: tuple(values[key]) for key in ("components", "reasons")}
        return cls(**(values | lists))

    def __str__(self) -> str:
        parts = ", ".join(self.components)
        predicts = f", predicts {self.prediction}" if self.prediction else ""
        return f"{self.family} ({self.layout} layout: {parts}{predicts})"


def describe(detected: Detected) -> str:
    """One line for people: what a model is, which of its weights are taken, and what says so.

    "family sd1 (a UNet of ...), autoencoder kl-sd (...), UNet (the averages), prediction epsilon (...)"
    """
    parts = (reason.partition(": ") for reason in detected.reasons)
    return ", ".join(f"{finding} ({why})" if why else finding for finding, _, why in parts)
