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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.nn.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.depth import DPT_HYBRID, DepthConfig, DepthEstimator
from latentcodec.nn.text_encoder import TextEncoder, TextEncoderConfig
from latentcodec.nn.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from latentcodec.nn.unet import UNet, UNetConfig
from latentcodec.weights.checkpoint import Checkpoint, Shape
from latentcodec.weights.detect import OTHER, autoencoder_kind, average_name, detect
from latentcodec.weights.detected import AUTOENCODER, DEPTH, SECOND_TEXT_ENCODER, TEXT_ENCODER, UNET, Detected
from latentcodec.weights.families import AUTOENCODERS, FAMILIES
from latentcodec.weights.fingerprint import fingerprint
from latentcodec.weights.key_rules import check_names, read_tensors
from latentcodec.weights.layouts import Part
from latentcodec.weights.model_files import ModelFiles, open_model
from latentcodec.weights.store import Stored, resolve

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
    kind: overrides what was detected (Identity.kind), where tensors alone cannot tell: SDXL's autoencoder
    has the shapes of SD's and another scale. config: for an autoencoder of other sizes than the known kinds'.

    Raises UnknownModel where there is no such model or it holds no autoencoder, InvalidWeights where a file
    is damaged, holds code, or its tensors are not those of the network (missing, unexpected and misshapen
    ones are listed), InvalidArgument for another kind, and OSError.
    """
    stored, found = _open(model, AUTOENCODER)
    if kind is not None and kind not in AUTOENCODERS:
        raise InvalidArgument(f"kind {kind!r}: use one of {', '.join(AUTOENCODERS)}")
    detected = detect(found, family=_noted(stored).family)
    if config is not None:
        kind, why = kind or OTHER, "the caller gives its configuration"
    elif kind is not None:
        config, why = AUTOENCODERS[kind], "the caller says so"
    else:
        kind, why = _kind(found, detected)
        if kind == OTHER:
            raise InvalidWeights(f"{stored.path}: {why}; give its configuration")
        config = AUTOENCODERS[kind]
    module = _on_meta(*_autoencoder(config))
    part = found.parts[AUTOENCODER]
    tensors = _tensors(part, part.checkpoint, module, f"autoencoder {kind}")
    identity = Identity(stored.name, kind, fingerprint(tensors))
    detected = replace(detected, reasons=(*detected.reasons, f"autoencoder {kind}: {why}"))
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
    stored, found = _open(model, UNET)
    noted = _noted(stored)
    detected = detect(found, family=family or noted.family, prediction=prediction or noted.prediction)
    if config is None:
        if detected.family not in FAMILIES:
            raise InvalidWeights(f"{stored.path}: {detected.reasons[0]}; give its configuration")
        config = FAMILIES[detected.family].unet
    if averages and not detected.averages:
        raise InvalidWeights(
            f"{stored.path}: has no averaged weights (model_ema); load it without `averages`"
        )
    part, module = found.parts[UNET], _on_meta(UNet, config)
    checkpoint, took = part.checkpoint, "the only weights that the file has"
    if detected.averages:
        took = "the averages" if averages is not False else "the plain weights, not the averages"
        if averages is not False and found.whole is not None:
            checkpoint = _averages(found.whole, part)
    detected = replace(detected, reasons=(*detected.reasons, f"UNet: {took}"))
    tensors = _tensors(part, checkpoint, module, f"UNet of {detected.family}")
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
    stored, found = _open(model, component)
    detected = detect(found, family=family or _noted(stored).family)
    if config is None:
        known = FAMILIES.get(detected.family)
        config = (known.text_encoder_2 if second else known.text_encoder) if known else None
        if config is None:
            raise InvalidWeights(
                f"{stored.path}: {detected.reasons[0]}; give the text encoder's configuration"
            )
    part, module = found.parts[component], _on_meta(TextEncoder, config)
    tensors = _tensors(part, part.checkpoint, module, f"text encoder of {detected.family}")
    return Loaded(_filled(module, tensors, device, dtype), detected)


def load_depth(
    model: str | os.PathLike[str],
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    *,
    config: DepthConfig = DPT_HYBRID,
) -> Loaded[DepthEstimator]:
    """The depth network of a depth-to-image model, or of a file of its own; errors as for load_unet."""
    stored, found = _open(model, DEPTH)
    detected = detect(found, family=_noted(stored).family)
    part, module = found.parts[DEPTH], _on_meta(DepthEstimator, config)
    tensors = _tensors(part, part.checkpoint, module, "depth network")
    return Loaded(_filled(module, tensors, device, dtype), detected)


def check_parts(found: ModelFiles, detected: Detected) -> None:
    """Compare the names and shapes of all networks of a model with those of its family; reads no values.

    Raises InvalidWeights for the first that differs.
    """
    known = FAMILIES.get(detected.family)
    kind = _kind(found, detected)[0] if AUTOENCODER in found.parts else OTHER
    networks: list[tuple[str, Callable[[Any], nn.Module], object]] = []
    if kind in AUTOENCODERS:
        networks.append((AUTOENCODER, *_autoencoder(AUTOENCODERS[kind])))
    networks.append((DEPTH, DepthEstimator, DPT_HYBRID))
    if known is not None:
        networks.append((UNET, UNet, known.unet))
        networks.append((TEXT_ENCODER, TextEncoder, known.text_encoder))
        networks.append((SECOND_TEXT_ENCODER, TextEncoder, known.text_encoder_2))
    for component, build, config in networks:
        if component in found.parts and config is not None:
            part, shapes = found.parts[component], _shapes(_on_meta(build, config))
            what = f"{component.replace('_', ' ')} of {detected.family}"
            check_names(part.checkpoint, shapes, part.naming.rules(shapes), what)


def identify(found: ModelFiles, detected: Detected) -> str | None:
    """The fingerprint of a model's autoencoder (Identity.fingerprint); None where it has none that is known.

    Raises InvalidWeights where its tensors are not those of its kind.
    """
    kind = _kind(found, detected)[0] if AUTOENCODER in found.parts else OTHER
    if kind not in AUTOENCODERS:
        return None
    part, module = found.parts[AUTOENCODER], _on_meta(*_autoencoder(AUTOENCODERS[kind]))
    return fingerprint(_tensors(part, part.checkpoint, module, f"autoencoder {kind}"))


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
    found = open_model(stored.path)
    if component not in found.parts:
        raise UnknownModel(
            f"{stored.path}: holds no {component.replace('_', ' ')}, only {', '.join(sorted(found.parts))}"
        )
    return stored, found


def _kind(found: ModelFiles, detected: Detected) -> tuple[str, str]:
    """The kind of autoencoder; that of the family where it is one."""
    if detected.family in AUTOENCODERS:
        return detected.family, detected.reasons[0].partition(": ")[2]
    return autoencoder_kind(found, detected.family)


def _autoencoder(
    config: AutoencoderConfig | TinyAutoencoderConfig,
) -> tuple[Callable[[Any], AutoencoderKL | TinyAutoencoder], object]:
    return (TinyAutoencoder if isinstance(config, TinyAutoencoderConfig) else AutoencoderKL), config


def _on_meta(build: Callable[[Any], Built], config: object) -> Built:
    """A network without memory: its tensors have shapes only."""
    with torch.device("meta"):
        return build(config)


def _tensors(part: Part, checkpoint: Checkpoint, module: nn.Module, what: str) -> dict[str, Tensor]:
    shapes = _shapes(module)
    return read_tensors(checkpoint, shapes, part.naming.rules(shapes), what)


def _shapes(module: nn.Module) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _averages(whole: Checkpoint, part: Part) -> Checkpoint:
    """The UNet's averages under the names of the weights that they are averages of."""
    flat = {average_name(part.prefix + name): name for name in part.checkpoint}
    averaged = whole.within("")
    shapes = {
        flat.get(name, name): averaged.shape(name)
        for name in averaged
        if name.startswith("model_ema.") and name not in ("model_ema.decay", "model_ema.num_updates")
    }
    back = {name: stored for stored, name in flat.items()}
    return Checkpoint(whole.path, shapes, lambda name: whole[back.get(name, name)])


def _filled(
    module: Built, tensors: Mapping[str, Tensor], device: torch.device | str, dtype: torch.dtype
) -> Built:
    """The module with these tensors. On the CPU, in their own dtype, they stay views of the mapped file."""
    state = {name: tensor.to(device, dtype) for name, tensor in tensors.items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval().requires_grad_(False)
