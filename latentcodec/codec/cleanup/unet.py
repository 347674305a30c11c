"""A checkpoint's UNet as a clean-up's denoiser: opened for an encoder, found for a file that names one.

name or path ─► weights.load ─► CleanupUNet ─► predict, for each piece
d chunk ─► its fingerprint ─► lookup ─┘
prompt's ids ─► start, ids, end, padding ─► text encoder of the same model, then let go ─► context
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.cleanup.denoiser import SCHEDULE, CleanupDenoiser, Place, Prompt
from latentcodec.container.cleanup import FINGERPRINT_BYTES, PREDICTIONS, CleanupChunk
from latentcodec.diffusion.prediction import predict
from latentcodec.errors import InvalidArgument, UnknownModel
from latentcodec.nn.device import full_precision
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoderConfig, TextFeatures
from latentcodec.nn.stable_diffusion.unet import UNet, size_embedding
from latentcodec.weights.checkpoints.detected import UNET, Detected
from latentcodec.weights.checkpoints.families import FAMILIES, latent_space
from latentcodec.weights.checkpoints.fingerprint import fingerprint
from latentcodec.weights.load import load_text_encoder, load_unet
from latentcodec.weights.lookup import find_network
from latentcodec.weights.store import list_models, note, resolve

_WAY_OUT = "add it with 'latentcodec models add PATH --name NAME', name its files with --cleanup-unet"


@dataclass(frozen=True)
class _Condition:
    """What a text says to a UNet: context (1, S, context); pooled (1, P) where it has an added embedding."""

    context: Tensor
    pooled: Tensor | None = None


@dataclass
class CleanupUNet:
    """A UNet on its device; a CleanupDenoiser.

    model: where it came from, which is where its text encoder is looked for. detected: what its files were
    found to be, of which the family says whose latents it works on.
    """

    model: str | os.PathLike[str]
    module: UNet
    name: str
    detected: Detected
    fingerprint: bytes
    device: torch.device
    _conditions: dict[Prompt, _Condition] = field(default_factory=dict)

    @property
    def prediction(self) -> str:
        """Of container.cleanup.PREDICTIONS, the first where its files do not say."""
        return self.detected.prediction or PREDICTIONS[0]

    def check(self, codec: LatentCodec) -> None:
        """Raise InvalidArgument where the UNet does not work on an autoencoder's latents."""
        config = self.module.config
        if (config.inputs, config.outputs) != (codec.latents, codec.latents):
            raise InvalidArgument(
                f"clean-up: the UNet {self.name} takes {config.inputs} channels and gives {config.outputs}, "
                f"the latents of {codec.identity.name} have {codec.latents}: name a UNet of the same family"
            )
        kind = codec.identity.kind
        family = self.detected.family
        spaces = latent_space(family), latent_space(kind)
        if None not in spaces and spaces[0] != spaces[1]:
            raise InvalidArgument(
                f"clean-up: the UNet {self.name} is of {family} and works on latents of "
                f"{FAMILIES[family].autoencoder}; those of {codec.identity.name} are of {kind}, which "
                "are others: name a UNet of the same family, or where one of them was taken for the wrong "
                "kind, add it with 'latentcodec models add PATH --name NAME --family FAMILY'"
            )
        if config.classes:
            raise InvalidArgument(
                f"clean-up: the UNet {self.name} needs one of {config.classes} labels, which clean-up has not"
            )

    def predict(self, noisy: Tensor, sigma: float, prompt: Prompt, place: Place) -> Tensor:
        """As CleanupDenoiser says; of SDXL the place is a condition.

        Raises as load_text_encoder does, and InvalidArgument where the text encoder's width is not that of
        the UNet.
        """
        condition = self._condition(prompt)
        added = None
        if condition.pooled is not None:
            sizes = torch.tensor([place], dtype=torch.float32, device=self.device)
            added = size_embedding(condition.pooled, sizes)

        def network(x: Tensor, timesteps: Tensor) -> Tensor:
            predicted: Tensor = self.module(x, timesteps, condition.context, added=added)
            return predicted

        return predict(network, SCHEDULE, noisy, sigma)

    def _condition(self, prompt: Prompt) -> _Condition:
        if prompt not in self._conditions:
            self._conditions[prompt] = self._read(prompt)
        return self._conditions[prompt]

    def _read(self, prompt: Prompt) -> _Condition:
        config = self.module.config
        if not any(config.depth) and not config.middle_depth:  # no cross-attention: nothing reads a text
            return _Condition(torch.zeros(1, 1, config.context, device=self.device))
        features = self._features(prompt, second=False)
        if config.added:  # SDXL reads two text encoders, each before its last layer
            second = self._features(prompt, second=True)
            context = torch.cat([features.penultimate, second.penultimate], 2)
            condition = _Condition(context, second.pooled)
        else:
            condition = _Condition(features.last)
        if condition.context.shape[2] != config.context:
            raise InvalidArgument(
                f"clean-up: the text encoder of {self.name} gives {condition.context.shape[2]} channels, its "
                f"UNet takes {config.context}: they are of different models"
            )
        return condition

    def _features(self, prompt: Prompt, *, second: bool) -> TextFeatures:
        try:
            encoder = load_text_encoder(self.model, self.device, second=second).module
        except UnknownModel as error:
            raise UnknownModel(f"{error}; clean-up needs the text encoder beside the UNet") from error
        ids = torch.tensor([_padded(prompt, encoder.config)], device=self.device)
        with full_precision(self.device):
            features: TextFeatures = encoder(ids)
        return features


def open_unet(model: str | os.PathLike[str], device: torch.device) -> CleanupUNet:
    """The UNet of a name in the store, or of a path. Raises as load_unet does."""
    loaded = load_unet(model, device)
    whole, stored = fingerprint(loaded.module.state_dict()), resolve(model)
    if stored.detected is not None and UNET not in stored.fingerprints:
        note(stored.name, UNET, whole)
    identity = bytes.fromhex(whole)[:FINGERPRINT_BYTES]
    return CleanupUNet(model, loaded.module, stored.name, loaded.detected, identity, device)


def denoiser_for(
    chunk: CleanupChunk,
    device: torch.device,
    chosen: CleanupDenoiser | None = None,
    cached: CleanupDenoiser | None = None,
) -> CleanupDenoiser:
    """The denoiser that a file names.

    chosen: the user's; cached: one that an earlier file needed. Raises as lookup.find_network does.
    """
    # Of the store only what has this UNet, or the name, so that an error can say that the weights differ; and
    # what was added before the store noted fingerprints of UNets.
    digest = chunk.fingerprint.hex()
    names = [
        model.name
        for model in list_models()
        if model.detected
        and UNET in model.detected.components
        and (model.name == chunk.name or model.fingerprints.get(UNET, digest).startswith(digest))
    ]
    return find_network(
        chunk.fingerprint,
        chunk.name,
        names,
        lambda name: open_unet(name, device),
        chosen=chosen,
        cached=cached,
        needs=f"the file's clean-up needs the UNet {chunk.describe()}",
        way_out=f"{_WAY_OUT}, or leave --cleanup out",
    )


def _padded(prompt: Prompt, config: TextEncoderConfig) -> list[int]:
    """Ids as an encoder reads them. OpenAI's (with quick_gelu) was trained with its end token as padding."""
    start, padding = config.end_token - 1, config.end_token if config.quick_gelu else 0
    ids = [start, *prompt, config.end_token]
    return ids + [padding] * (config.length - len(ids))
