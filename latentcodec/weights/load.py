"""Networks from weights on disk.

name or path ─► store.resolve ─► files ─► detect ─► family, layout, prediction
                                   │                    │
                                   └─► tensors ─► key rules ─► network on the meta device, filled strictly

    loaded = load_autoencoder("taef2", "cpu", torch.float32)
    latent = loaded.module.encode(picture)
    loaded.identity          Identity(name="taef2", kind="taef2", fingerprint="5e0c...")
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.stable_diffusion.depth import DPT_HYBRID, DepthConfig, DepthEstimator
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder, TextEncoderConfig
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from latentcodec.nn.stable_diffusion.unet import UNet, UNetConfig
from latentcodec.weights.checkpoints.checkpoint import Checkpoint
from latentcodec.weights.checkpoints.detect import OTHER, detect
from latentcodec.weights.checkpoints.detected import (
    AUTOENCODER,
    DEPTH,
    SECOND_TEXT_ENCODER,
    TEXT_ENCODER,
    UNET,
    Detected,
)
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES
from latentcodec.weights.checkpoints.fingerprint import fingerprint
from latentcodec.weights.checkpoints.key_rules import check_finite, read_tensors
from latentcodec.weights.checkpoints.layouts import Part
from latentcodec.weights.checkpoints.manifest import Stored
from latentcodec.weights.checkpoints.model_files import ModelFiles, open_stored
from latentcodec.weights.checkpoints.networks import (
    autoencoder_of,
    averages_of,
    config_of,
    on_meta,
    shapes_of,
)
from latentcodec.weights.store import resolve

Network = TypeVar("Network", bound=nn.Module, covariant=True)
Built = TypeVar("Built", bound=nn.Module)


@dataclass(frozen=True)
class Identity:
    """What a file's header says of the weights that it needs.

    name: what the user calls the model: its name in the store, or the file's or folder's name. A hint only.
    kind: a name of families.AUTOENCODERS ("taef2", "kl-sd", "kl-sdxl" ...). It fixes the architecture, the
        downscale, and the scale and shift that encode and decode apply; "other" where the caller gave the
        configuration.
    fingerprint: 64 hexadecimal digits, SHA-256 over the weights' content: see `fingerprint`.
    """

    name: str
    kind: str
    fingerprint: str


@dataclass(frozen=True)
class Loaded(Generic[Network]):
    """A network on its device, in eval mode, without gradients; and what its file was found to be."""

    module: Network
    detected: Detected


@dataclass(frozen=True)
class LoadedAutoencoder(Loaded[AutoencoderKL | TinyAutoencoder]):
    """An autoencoder and the identity of its weights."""

    identity: Identity


def load_autoencoder(
    model: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    kind: str | None = None,
    config: AutoencoderConfig | TinyAutoencoderConfig | None = None,
) -> LoadedAutoencoder:
    """The autoencoder of a model: a KL autoencoder or one of the TAESD family.

    model: a name in the store, or a path: a `.safetensors` or `.ckpt` file (a whole Stable Diffusion model
    or an autoencoder alone), a diffusers folder, or a folder with an `*_encoder` / `*_decoder` pair. What
    looks like a path (has a separator, or exists) is one; the store is not asked.
    kind: overrides what was detected (Identity.kind), where tensors alone cannot decide: SDXL's autoencoder
    has the shapes of SD's and another scale. config: for an autoencoder of other sizes than the known kinds'.

    Raises UnknownModel where there is no such model or it holds no autoencoder, InvalidWeights where a file
    is damaged, holds code or numbers that are not finite, or its tensors are not those of the network
    (missing, unexpected and misshapen ones are listed), InvalidArgument for another kind, and OSError.
    """
    stored, files = _open(model, AUTOENCODER)
    if kind is not None and kind not in AUTOENCODERS:
        raise InvalidArgument(f"kind {kind!r}: use one of {', '.join(AUTOENCODERS)}")
    stated_kind = kind if UNET not in files.parts else None
    detected = detect(files, family=stated_kind or _noted(stored).family)
    if config is None:
        kind, why = kind or detected.kind or OTHER, "the caller says so"
        config = config_of(files, AUTOENCODER, AUTOENCODERS.get(kind))
        if config is None:
            raise InvalidWeights(f"{stored.path}: {detected.reasons[0]}; give its configuration")
    else:
        kind, why = kind or OTHER, "the caller gives its configuration"
    if kind != detected.kind:
        others = tuple(reason for reason in detected.reasons if not reason.startswith("autoencoder "))
        detected = replace(detected, kind=kind, reasons=(*others, f"autoencoder {kind}: {why}"))
    module = on_meta(*autoencoder_of(config))
    part = files.parts[AUTOENCODER]
    tensors = _tensors(stored, part, part.checkpoint, module, f"autoencoder {kind}")
    identity = Identity(stored.name, kind, fingerprint(tensors))
    return LoadedAutoencoder(_filled(module, tensors, device, dtype), detected, identity)


def load_unet(
    model: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    family: str | None = None,
    prediction: str | None = None,
    averages: bool | None = None,
    config: UNetConfig | None = None,
) -> Loaded[UNet]:
    """The UNet of a diffusion model; `detected.prediction` is what it predicts.

    family, prediction: override what is detected. averages: the exponential moving averages (True) or the
    weights beside them (False) of a file that has both; by default the averages, where there are any.
    config: for a UNet of other sizes than the known families'. Model and errors are as for
    load_autoencoder; InvalidWeights too where averages are asked for and there are none.
    """
    stored, files = _open(model, UNET)
    noted = _noted(stored)
    detected = detect(
        files,
        family=family or noted.family,
        prediction=prediction or noted.prediction,
        averages=averages,
    )
    if config is None:
        if detected.family not in FAMILIES:
            raise InvalidWeights(f"{stored.path}: {detected.reasons[0]}; give its configuration")
        config = config_of(files, UNET, FAMILIES[detected.family].unet)
    part, module = files.parts[UNET], on_meta(UNet, config)
    plain = averages is False or not detected.averages
    checkpoint = part.checkpoint if plain else averages_of(files)
    tensors = _tensors(stored, part, checkpoint, module, f"UNet of {detected.family}")
    return Loaded(_filled(module, tensors, device, dtype), detected)


def load_text_encoder(
    model: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    second: bool = False,
    family: str | None = None,
    config: TextEncoderConfig | None = None,
) -> Loaded[TextEncoder]:
    """The text encoder of a diffusion model; with `second` SDXL's other one.

    Model, overrides and errors are as for load_unet.
    """
    component = SECOND_TEXT_ENCODER if second else TEXT_ENCODER
    stored, files = _open(model, component)
    detected = detect(files, family=family or _noted(stored).family)
    if config is None:
        known = FAMILIES.get(detected.family)
        config = (known.text_encoder_2 if second else known.text_encoder) if known else None
        config = config_of(files, component, config)
        if config is None:
            raise InvalidWeights(
                f"{stored.path}: {detected.reasons[0]}; give the text encoder's configuration"
            )
    part, module = files.parts[component], on_meta(TextEncoder, config)
    tensors = _tensors(stored, part, part.checkpoint, module, f"text encoder of {detected.family}")
    return Loaded(_filled(module, tensors, device, dtype), detected)


def load_depth(
    model: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    config: DepthConfig | None = None,
) -> Loaded[DepthEstimator]:
    """The depth network of a depth-to-image model, or of a file of its own; errors as for load_unet."""
    stored, files = _open(model, DEPTH)
    detected = detect(files, family=_noted(stored).family)
    config = config or config_of(files, DEPTH, DPT_HYBRID)
    part, module = files.parts[DEPTH], on_meta(DepthEstimator, config)
    tensors = _tensors(stored, part, part.checkpoint, module, "depth network")
    return Loaded(_filled(module, tensors, device, dtype), detected)


@dataclass(frozen=True)
class _Noted:
    """What the store noted when a model was added, which may be the user's word; nothing for other models."""

    family: str | None
    prediction: str | None


def _noted(stored: Stored) -> _Noted:
    noted = stored.detected
    return _Noted(noted.family, noted.prediction) if noted else _Noted(None, None)


def _open(model: str | os.PathLike[str], component: str) -> tuple[Stored, ModelFiles]:
    """A model and its files, which hold that component."""
    stored = resolve(model)
    files = open_stored(stored)
    if component not in files.parts:
        raise UnknownModel(
            f"{stored.path}: holds no {component.replace('_', ' ')}, only {', '.join(sorted(files.parts))}"
        )
    return stored, files


def _tensors(
    stored: Stored, part: Part, checkpoint: Checkpoint, module: nn.Module, title: str
) -> dict[str, Tensor]:
    shapes = shapes_of(module)
    rules = part.naming.rules(shapes)
    tensors = read_tensors(checkpoint, shapes, rules, title)
    if stored.detected is None or stored.linked:  # the store's own files were looked at when they were added
        check_finite(checkpoint, dict.fromkeys(map(rules.name, shapes)), part.prefix)
    return tensors


def _filled(
    module: Built, tensors: Mapping[str, Tensor], device: torch.device | str, dtype: torch.dtype
) -> Built:
    """The module with these tensors. On the CPU, in their own dtype, they stay views of the mapped file."""
    state = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)
