"""The networks that a model should hold, without memory, and its files compared with them.

family ─► a network on the meta device for each part ─► names and shapes ─► values: finite? ─► fingerprints
          (only shapes)                                 └─ what differs: an error that lists it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import nn

from latentcodec.errors import InvalidWeights
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.stable_diffusion.depth import DPT_HYBRID, DepthConfig, DepthEstimator
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder, TextEncoderConfig
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TinyAutoencoder, TinyAutoencoderConfig
from latentcodec.nn.stable_diffusion.unet import UNet, UNetConfig
from latentcodec.weights.checkpoints.checkpoint import Checkpoint, Shape
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
from latentcodec.weights.checkpoints.key_rules import check_finite, check_names, read_tensors
from latentcodec.weights.checkpoints.layouts import Part, average_name
from latentcodec.weights.checkpoints.model_files import ModelFiles
from latentcodec.weights.checkpoints.stated import Config, stated_config

Built = TypeVar("Built", bound=nn.Module)


def on_meta(build: Callable[[Any], Built], config: object) -> Built:
    """A network without memory: its tensors have shapes only."""
    with torch.device("meta"):
        return build(config)


def autoencoder_of(
    config: AutoencoderConfig | TinyAutoencoderConfig,
) -> tuple[Callable[[Any], AutoencoderKL | TinyAutoencoder], object]:
    """What builds the autoencoder of a configuration, and the configuration."""
    return (TinyAutoencoder if isinstance(config, TinyAutoencoderConfig) else AutoencoderKL), config


def config_of(model: ModelFiles, component: str, known: Config | None) -> Any:
    """The configuration of a part: the known one, or what its folder states where that is of other shapes;
    None where there is neither.

    Raises InvalidWeights where none is known, and the folder's makes no network.
    """
    try:
        stated = stated_config(model, component)
    except InvalidWeights:
        if known is None:
            raise
        return known
    if stated is None:
        return known
    if known is not None and (stated == known or _config_shapes(stated) == _config_shapes(known)):
        return known
    return stated


@lru_cache(maxsize=16)  # of a network of full size they take a second
def _config_shapes(config: Config) -> dict[str, Shape]:
    return shapes_of(on_meta(_builder(config), config))


def shapes_of(module: nn.Module) -> dict[str, Shape]:
    """The shapes of a network's tensors by name."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def averages_of(model: ModelFiles) -> Checkpoint:
    """The averages of a UNet in a whole model's file, under the names of what they are averages of."""
    part, whole = model.parts[UNET], model.whole
    places = {name: average_name(part.prefix + name) for name in part.checkpoint}
    source: Checkpoint = whole if whole is not None else part.checkpoint
    shapes = {name: source.shape(flat) for name, flat in places.items() if flat in source}
    return Checkpoint(source.path, shapes, lambda name: source[places[name]])


def check_parts(model: ModelFiles, detected: Detected) -> None:
    """Compare the names and shapes of all networks of a model with those of its family; reads no values.

    Raises InvalidWeights for the first that differs, that its family has not, or whose sizes are unknown.
    """
    for network in _expected(model, detected):
        check_names(
            network.checkpoint, network.shapes, network.part.naming.rules(network.shapes), network.title
        )


def fingerprints(model: ModelFiles, detected: Detected) -> dict[str, str]:
    """The fingerprints of a model's autoencoder and UNet (as they are loaded by default), by component.

    Reads every value of every network, a tensor at a time. Raises InvalidWeights as check_parts does, and for
    numbers that are not finite.
    """
    check_parts(model, detected)  # of all, before gigabytes of the first are read
    prints: dict[str, str] = {}
    for network in _expected(model, detected):
        rules = network.part.naming.rules(network.shapes)
        check_finite(network.checkpoint, dict.fromkeys(map(rules.name, network.shapes)), network.prefix)
        if network.component in (AUTOENCODER, UNET):  # of a UNet with averages they come last, and count
            tensors = read_tensors(network.checkpoint, network.shapes, rules, network.title)
            prints[network.component] = fingerprint(tensors)
    return prints


@dataclass(frozen=True)
class _Expected:
    """A network that a model should hold: the tensors that it should have, and those that are there."""

    component: str
    title: str
    part: Part
    checkpoint: Checkpoint
    shapes: dict[str, Shape]
    prefix: str


def _expected(model: ModelFiles, detected: Detected) -> list[_Expected]:
    expected = []
    for component, part in model.parts.items():
        build, config = _network(model, detected, component)
        shapes = shapes_of(on_meta(build, config))
        title = f"{component.replace('_', ' ')} of {detected.family}"
        expected.append(_Expected(component, title, part, part.checkpoint, shapes, part.prefix))
        if component == UNET and detected.averages:
            title, prefix = f"averaged UNet of {detected.family}", "the average of " + part.prefix
            expected.append(_Expected(component, title, part, averages_of(model), shapes, prefix))
    return expected


def _network(
    model: ModelFiles, detected: Detected, component: str
) -> tuple[Callable[[Any], nn.Module], object]:
    """What builds the network of a component, and its configuration."""
    if component == AUTOENCODER:
        sizes = config_of(model, component, AUTOENCODERS.get(detected.kind or ""))
        if sizes is None:
            raise InvalidWeights(f"{model.path}: its autoencoder is of sizes that no known kind has")
        return _builder(sizes), sizes
    if component == DEPTH:
        sizes = config_of(model, component, DPT_HYBRID)
        return _builder(sizes), sizes
    family = FAMILIES.get(detected.family)
    if family is None:
        raise InvalidWeights(
            f"{model.path}: holds a {component.replace('_', ' ')}, which is compared with that of a family, "
            f"and none is known ({detected.reasons[0]}): say which it is"
        )
    configs: dict[str, Config | None] = {
        UNET: family.unet,
        TEXT_ENCODER: family.text_encoder,
        SECOND_TEXT_ENCODER: family.text_encoder_2,
    }
    known = configs[component]
    if known is None:
        raise InvalidWeights(
            f"{model.path}: holds a {component.replace('_', ' ')}, which {detected.family} ({family.what}) "
            "has not: it is of another family, or parts of several are mixed in it"
        )
    sizes = config_of(model, component, known)
    return _builder(sizes), sizes


def _builder(config: Config) -> Callable[[Any], nn.Module]:
    """What builds the network of a configuration."""
    return _NETWORKS[type(config)]


_NETWORKS: Mapping[type[Config], Callable[[Any], nn.Module]] = {
    AutoencoderConfig: AutoencoderKL,
    TinyAutoencoderConfig: TinyAutoencoder,
    UNetConfig: UNet,
    TextEncoderConfig: TextEncoder,
    DepthConfig: DepthEstimator,
}
