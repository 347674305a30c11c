"""Multiply-accumulates of the native model's networks, counted from what their layers are.

sizes of the networks, width, height ─► stage ─► multiply-accumulates
"""

from __future__ import annotations

from latentcodec.nn.exact.layer import LayerSpec
from latentcodec.nn.native.config import PATCH, EntropyConfig, NativeConfig, TransformConfig
from latentcodec.nn.native.entropy import entropy_layers
from latentcodec.nn.native.synthesis import COLOURS, FINE_PATCH, synthesis_layers

__all__ = ["analysis_macs", "entropy_macs", "hyper_analysis_macs", "synthesis_macs"]


def entropy_macs(config: EntropyConfig, width: int, height: int) -> float:
    """Of hyper synthesis and the four context steps."""
    coarse = -(-width // (4 * PATCH)) * -(-height // (4 * PATCH))
    total = 0
    for name, layer in entropy_layers(config).items():
        positions = coarse if name in ("hyper_in", "hyper_up") else 4 * coarse
        total += positions * _of(layer)
    return total


def synthesis_macs(config: TransformConfig, width: int, height: int) -> float:
    """Of the synthesis: the residual branch, lapping and block transform."""
    coarse = -(-width // PATCH) * -(-height // PATCH)
    total = coarse * _block_transform(config)
    for name, layer in synthesis_layers(config).items():
        if isinstance(layer, LayerSpec):
            positions = 4 * coarse if name.startswith(("fine.", "out.")) else coarse
            total += positions * _of(layer)
    return total


def analysis_macs(config: TransformConfig, width: int, height: int) -> float:
    """Of the analysis."""
    coarse = -(-width // PATCH) * -(-height // PATCH)
    own, fine = config.analysis_coarse, config.fine
    at_8 = 4 * fine * own + config.analysis_blocks * 18 * own**2 + 9 * own * config.latents
    at_4 = 9 * COLOURS * FINE_PATCH**2 * fine + 18 * fine**2
    return coarse * (at_8 + 4 * at_4 + _block_transform(config))


def hyper_analysis_macs(config: EntropyConfig, width: int, height: int) -> float:
    """Of what makes hyperlatents."""
    coarse = -(-width // (4 * PATCH)) * -(-height // (4 * PATCH))
    own = config.analysis
    at_16 = 4 * config.latents * own + 9 * own**2
    return coarse * (4 * at_16 + 4 * own**2 + 9 * own * config.hyper)


def decode_macs(config: NativeConfig, width: int, height: int) -> float:
    """Of decoding a picture in one piece."""
    return entropy_macs(config.entropy, width, height) + synthesis_macs(config.transform, width, height)


def _of(layer: LayerSpec) -> int:
    return layer.inputs * layer.outputs * layer.kernel**2


def _block_transform(config: TransformConfig) -> int:
    return COLOURS * PATCH**2 * config.latents + 9 * sum(n**2 for n in config.planes)
