"""An encoder's networks by numpy or the compiled kernel, or by PyTorch: what fits the engine.

weights ─► layers by the engine's float_convolution, in float32 ─► analyse, hyperlatents
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np

from latentcodec.codec.native.coder import EncoderNetworks, Floats
from latentcodec.errors import InvalidWeights
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.knots import KNOTS, LEVELS_PER_KNOT
from latentcodec.nn.maps import residual_block
from latentcodec.nn.native.analysis import Layers, analyse, hyper_analyse
from latentcodec.nn.native.config import LAPPING_UNIT, PATCH
from latentcodec.picture.picture import Pixels
from latentcodec.weights.native import NativeWeights


def encoder_networks(engine: Engine[Any]) -> Callable[[NativeWeights], EncoderNetworks]:
    """What makes the networks that go with an engine."""
    if isinstance(engine, NumpyEngine):  # or the compiled one, which adds to it
        return partial(NumpyNetworks, engine=engine)
    device: Any = getattr(engine, "device", None)
    from latentcodec.codec.native.torch_networks import TorchNetworks

    return partial(TorchNetworks, device=device)


class NumpyNetworks:
    """coder.EncoderNetworks without PyTorch: maps are (H, W, C) float32."""

    def __init__(self, weights: NativeWeights, engine: NumpyEngine) -> None:
        """What is missing or of other sizes raises InvalidWeights at first use."""
        self._weights, self._engine = weights, engine

    def analyse(self, pixels: Pixels, level: int, peak: int = 255) -> Floats:
        """As EncoderNetworks says."""
        x = pixels.astype(np.float32) / np.float32(peak) - np.float32(0.5)
        blocks = self._weights.config.transform.analysis_blocks
        y = analyse(OPERATIONS, self._analysis, blocks, x, level)
        by_channel: Floats = np.ascontiguousarray(y.transpose(2, 0, 1))
        return by_channel

    def hyperlatents(self, y: Floats, level: int) -> Floats:
        """As EncoderNetworks says."""
        layers, by_position = self._hyper_analysis, np.ascontiguousarray(y.transpose(1, 2, 0))
        z: Floats = hyper_analyse(OPERATIONS, layers, by_position, level).transpose(2, 0, 1)
        return z

    @cached_property
    def _analysis(self) -> Layers:
        c = self._weights.config.transform
        planes = [
            self._engine.float_convolution(
                np.float32(LAPPING_UNIT) * self._floats(f"analysis.lapping.planes.{i}", n, n, 3, 3)
            )
            for i, n in enumerate(c.planes)
        ]
        ends = np.cumsum(c.planes)[:-1]

        def lapping(x: Floats) -> Floats:
            parts = np.split(x, ends, 2)
            lapped: Floats = x + np.concatenate(
                [run(part) for run, part in zip(planes, parts, strict=True)], 2
            )
            return lapped

        skip = self._floats("analysis.skip", c.latents, 3 * PATCH**2)[:, :, None, None]
        log_gain = self._floats("analysis.log_gain", KNOTS, c.latents)
        return {
            "skip": self._engine.float_convolution(skip),
            "lapping": lapping,
            "gain": lambda level: np.exp(_at_level(log_gain, level)),
            "conv_in": self._convolution("analysis.conv_in", 3 * 4**2, c.fine, 3),
            "fine": self._block("analysis.fine", c.fine),
            "down": self._convolution("analysis.down", 4 * c.fine, c.analysis_coarse, 1),
            **{
                f"blocks.{index}": self._block(f"analysis.blocks.{index}", c.analysis_coarse)
                for index in range(c.analysis_blocks)
            },
            "conv_out": self._convolution("analysis.conv_out", c.analysis_coarse, c.latents, 3),
        }

    @cached_property
    def _hyper_analysis(self) -> Layers:
        c = self._weights.config.entropy
        bias = self._floats("hyper_analysis.bias", KNOTS, c.analysis)
        return {
            "bias": lambda level: _at_level(bias, level),
            "conv_in": self._convolution("hyper_analysis.conv_in", 4 * c.latents, c.analysis, 1),
            "conv_mid": self._convolution("hyper_analysis.conv_mid", c.analysis, c.analysis, 3),
            "conv_down": self._convolution("hyper_analysis.conv_down", 4 * c.analysis, c.analysis, 1),
            "conv_out": self._convolution("hyper_analysis.conv_out", c.analysis, c.hyper, 3),
        }

    def _block(self, name: str, channels: int) -> Callable[[Floats, int], Floats]:
        conv1, conv2 = (self._convolution(f"{name}.conv{i}", channels, channels, 3) for i in (1, 2))
        biases = self._floats(f"{name}.bias", KNOTS, channels)
        return lambda x, level: residual_block(OPERATIONS.leaky, conv1, conv2, x, _at_level(biases, level))

    def _convolution(self, name: str, inputs: int, outputs: int, kernel: int) -> Callable[[Floats], Floats]:
        weight = self._floats(f"{name}.weight", outputs, inputs, kernel, kernel)
        return self._engine.float_convolution(weight, self._floats(f"{name}.bias", outputs))

    def _floats(self, name: str, *shape: int) -> Floats:
        stored = self._weights.tensor(name)
        if stored.shape != shape:
            raise InvalidWeights(f"{name}: {stored.dtype} {stored.shape}, not floats {shape}")
        floats: Floats = stored.astype(np.float32)
        return floats


class _NumpyOperations:
    """nn.maps.FloatOperations of arrays (H, W, C)."""

    @staticmethod
    def leaky(x: Floats) -> Floats:
        steep: Floats = np.float32(0.1) * x
        return np.maximum(x, steep, out=steep)

    @staticmethod
    def signed_log(x: Floats) -> Floats:
        return np.copysign(np.log1p(np.abs(x)), x)

    @staticmethod
    def unshuffle(x: Floats, side: int) -> Floats:
        height, width, channels = x.shape
        parts = x.reshape(height // side, side, width // side, side, channels).transpose(0, 2, 4, 1, 3)
        return parts.reshape(height // side, width // side, channels * side**2)


OPERATIONS = _NumpyOperations()


def _at_level(table: Floats, level: int) -> Floats:
    """Linear interpolation of a float knot table (KNOTS, C): (C,)."""
    knot, rest = divmod(level, LEVELS_PER_KNOT)
    share = np.float32(rest / LEVELS_PER_KNOT)
    between: Floats = table[knot] + (table[min(knot + 1, KNOTS - 1)] - table[knot]) * share
    return between
