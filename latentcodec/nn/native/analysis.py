"""An encoder's networks, as functions of their layers: PyTorch trains them, numpy can run them too.

    pixels ─┬─► unshuffle 8 ─► block transform ─► lapping ──────────────────────────────────┐
            └─► unshuffle 4 ─► conv ─► block ─► unshuffle 2 ─► 1x1 ─► blocks ─► conv ─► + ─► x gain ─► y
    y ─► signed log ─► unshuffle 2 ─► 1x1 ─► conv ─► unshuffle 2 ─► 1x1 ─► conv ─► z

They are in floating point: no decoder depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from latentcodec.nn.maps import FloatOperations
from latentcodec.nn.native.config import PATCH

Layers = Mapping[str, Callable[..., Any]]


def analyse(operations: FloatOperations, layers: Layers, blocks: int, x: Any, level: Any) -> Any:
    """g_a: samples minus 1/2, sides multiples of 8 -> y.

    layers: skip, lapping, conv_in, down, conv_out; blocks fine, blocks.0 ... of a map and a level; gain of a
    level.
    """
    skip = layers["lapping"](layers["skip"](operations.unshuffle(x, PATCH)))
    h = layers["fine"](layers["conv_in"](4 * operations.unshuffle(x, 4)), level)
    h = layers["down"](operations.unshuffle(h, 2))
    for index in range(blocks):
        h = layers[f"blocks.{index}"](h, level)
    return (skip + layers["conv_out"](operations.leaky(h))) * layers["gain"](level)


def hyper_analyse(operations: FloatOperations, layers: Layers, y: Any, level: Any) -> Any:
    """h_a: y, sides multiples of 4 -> z, unrounded.

    layers: conv_in, conv_mid, conv_down, conv_out; bias of a level.
    """
    leaky, unshuffle = operations.leaky, operations.unshuffle
    h = layers["conv_in"](unshuffle(operations.signed_log(y), 2))
    h = leaky(h + layers["bias"](level))
    h = h + leaky(layers["conv_mid"](h))
    return layers["conv_out"](leaky(layers["conv_down"](unshuffle(h, 2))))
