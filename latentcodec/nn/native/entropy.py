"""What of the entropy model's networks training and decoding share: their layers, and how they are joined.

    z ─► clamp(4 z) ─► hyper_synthesis ─► features
    features, contexts of the steps before ─► context_step ─► means and rows of a step

Written once over maps: tensors with gradients in training, an engine's maps in a decoder. No PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from latentcodec.nn.exact.layer import Activation, LayerSpec
from latentcodec.nn.native.config import STEPS, EntropyConfig

Map = TypeVar("Map")
OUTPUT_GAIN = 2  # a mean is worth 1/4 of an activation's unit more finely: sixteenths of a latent


class MapOperations(Protocol[Map]):
    """What the networks do with maps besides their layers: see nn.exact.engine.Engine, which is one."""

    def join(self, maps: Sequence[Map]) -> Map:
        """All channels of some narrow maps."""

    def shuffle(self, x: Map) -> Map:
        """Depth to space: channel 4 c + 2 dy + dx at (y, x) becomes channel c at (2 y + dy, 2 x + dx)."""

    def add_wide(self, stream: Map, change: Map) -> Map:
        """The sum of two wide maps, clamped to be wide."""

    def add_leaky(self, h: Map, change: Map) -> Map:
        """leaky(clamp(h + change)) of a narrow and a wide map: narrow."""


def entropy_layers(config: EntropyConfig) -> dict[str, LayerSpec]:
    """Name -> what every integer layer is."""
    c = config
    layers = {
        "hyper_in": LayerSpec(c.hyper, c.hyper_hidden, 3, 0, Activation.LEAKY),
        "hyper_up": LayerSpec(c.hyper_hidden, 4 * c.features, 1, 0, Activation.LEAKY),
        "hyper_out": LayerSpec(c.features, c.features, 3, 0, Activation.LEAKY),
    }
    for step in range(STEPS):
        inputs = c.features + step * c.latents
        layers[f"context{step}_in"] = LayerSpec(inputs, c.context, 3, 0, Activation.LEAKY)
        layers[f"context{step}_mid"] = LayerSpec(c.context, c.context, 1)
        layers[f"context{step}_out"] = LayerSpec(c.context, 2 * c.latents, 1, OUTPUT_GAIN)
    return layers


def hyper_synthesis(
    operations: MapOperations[Map], layers: Mapping[str, Callable[[Map, Any], Map]], z: Map, level: Any
) -> Map:
    """h_s: clamp(4 z) at 1/32, narrow -> features at 1/16, narrow."""
    h = layers["hyper_up"](layers["hyper_in"](z, level), level)
    return layers["hyper_out"](operations.shuffle(h), level)


def context_step(
    operations: MapOperations[Map],
    layers: Mapping[str, Callable[[Map, Any], Map]],
    step: int,
    seen: Sequence[Map],
    level: Any,
) -> Map:
    """Context net of one step.

    seen: features, and the contexts of the steps before. Returns what stands for the means, in sixteenths,
    and for the rows in sixteenths before their offset: wide, twice the latent channels.
    """
    h = layers[f"context{step}_in"](operations.join(seen), level)
    h = operations.add_leaky(h, layers[f"context{step}_mid"](h, level))
    return layers[f"context{step}_out"](h, level)
