"""The synthesis transform in integers: what of it training and decoding share. No PyTorch.

    signed logs ─► x input gain(level) ─► narrow ─► conv_in ─► x gain(level) ─► stream
    stream ─┬─► narrow ─► conv1 ─► conv2 ─► + ─► stream (3 blocks)
            └───────────────────────────────┘
    stream ─► narrow ─► up ─► shuffle ─► stream at 1/4 ─► one block ─► narrow ─► conv_out ─► correction

The stream is wide, what a convolution sees is narrow (nn/exact/layer.py). The activations of all layers grow
with the quality, about alike: one gain of the stream, which falls as they grow, keeps them within 8 bits at
every level. The scale of the correction undoes it. Logarithms are small at low qualities: their own gains let
them fill 8 bits there too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from latentcodec.nn.exact.layer import ACTIVATION_BITS, WIDE_BITS, Activation, LayerSpec, NarrowSpec
from latentcodec.nn.native.config import TransformConfig
from latentcodec.nn.native.entropy import MapOperations

Map = TypeVar("Map")

_WIDER = WIDE_BITS - ACTIVATION_BITS
LOG_BITS = 12  # fractional bits of a latent's natural logarithm
COLOURS = 3
FINE_PATCH = 4  # pixels along a side of a position at 1/4 resolution


def synthesis_layers(config: TransformConfig) -> dict[str, LayerSpec | NarrowSpec]:
    """Name -> what every integer layer of the residual branch is."""
    coarse, fine = config.coarse, config.fine

    def block(name: str, channels: int) -> dict[str, LayerSpec | NarrowSpec]:
        return {
            f"{name}.narrow": NarrowSpec(channels, Activation.TENTH),
            f"{name}.conv1": LayerSpec(channels, channels, 3, 0, Activation.TENTH),
            f"{name}.conv2": LayerSpec(channels, channels, 3, _WIDER),
        }

    layers: dict[str, LayerSpec | NarrowSpec] = {
        "in.narrow": NarrowSpec(config.latents, Activation.CLAMP),
        "in.conv": LayerSpec(config.latents, coarse, 3, _WIDER),
    }
    for index in range(config.synthesis_blocks):
        layers |= block(f"blocks.{index}", coarse)
    layers["up.narrow"] = NarrowSpec(coarse, Activation.CLAMP)
    layers["up.conv"] = LayerSpec(coarse, 4 * fine, 1, _WIDER)
    layers |= block("fine", fine)
    layers["out.narrow"] = NarrowSpec(fine, Activation.TENTH)
    layers["out.conv"] = LayerSpec(fine, COLOURS * FINE_PATCH**2, 3, _WIDER)
    return layers


def correction(
    operations: MapOperations[Map],
    layers: Mapping[str, Callable[[Map, Any], Map]],
    input_gain: Callable[[Map], Map],
    gain: Callable[[Map], Map],
    blocks: int,
    logs: Map,
    level: Any,
) -> Map:
    """What the residual branch adds to the block transform, before its scale: wide, 48 channels at 1/4.

    logs: signed logarithms of the latents in 2^-LOG_BITS, wide, at 1/8. input_gain, gain: multiply them and
    the stream as the level needs.
    """
    stream = gain(layers["in.conv"](layers["in.narrow"](input_gain(logs), level), level))
    for index in range(blocks):
        stream = _block(operations, layers, f"blocks.{index}", stream, level)
    stream = operations.shuffle(layers["up.conv"](layers["up.narrow"](stream, level), level))
    stream = _block(operations, layers, "fine", stream, level)
    return layers["out.conv"](layers["out.narrow"](stream, level), level)


def _block(
    operations: MapOperations[Map],
    layers: Mapping[str, Callable[[Map, Any], Map]],
    name: str,
    stream: Map,
    level: Any,
) -> Map:
    h = layers[f"{name}.conv1"](layers[f"{name}.narrow"](stream, level), level)
    return operations.add_wide(stream, layers[f"{name}.conv2"](h, level))
