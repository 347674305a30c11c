"""The promises about cost: decoding within 45 kMAC a pixel, weights within 8 MB."""

from __future__ import annotations

from importlib import resources

from latentcodec.nn.native.entropy_model import layer_shapes
from latentcodec.nn.native.transform import PATCH, TransformConfig
from latentcodec.weights.native import FILES, NATIVE_MODEL, NativeWeights


def entropy_macs(weights: NativeWeights) -> float:
    """Multiply-accumulates a pixel of hyper synthesis and the four context steps."""
    per_cell = 0.0
    for name, (inputs, outputs, kernel, _) in layer_shapes(weights.config.entropy).items():
        positions = 0.25 if name in ("hyper_in", "hyper_up") else 1.0  # at 1/32 instead of 1/16
        per_cell += positions * inputs * outputs * kernel**2
    return per_cell / 16**2


def synthesis_macs(config: TransformConfig) -> float:
    """Multiply-accumulates a pixel of the synthesis transform."""
    coarse, fine = config.coarse, config.fine
    at_8 = config.latents * 3 * PATCH**2 + 9 * (config.luma**2 + 2 * config.chroma**2)
    at_8 += 9 * config.latents * coarse + config.synthesis_blocks * 2 * 9 * coarse**2 + 4 * coarse * fine
    at_4 = 2 * 9 * fine**2 + 9 * fine * 48
    return at_8 / PATCH**2 + at_4 / 4**2


def test_decoding_costs_at_most_45_kmac_a_pixel(weights: NativeWeights) -> None:
    total = entropy_macs(weights) + synthesis_macs(weights.config.transform)
    assert 30_000 < total <= 45_000


def test_weights_are_at_most_8_megabytes() -> None:
    with resources.as_file(resources.files("latentcodec.weights") / FILES[NATIVE_MODEL]) as path:
        assert path.stat().st_size <= 8_000_000


def test_integer_networks_are_at_most_2_megabytes(weights: NativeWeights) -> None:
    integers = [tensor for name, tensor in weights.tensors.items() if name.startswith("integer.")]
    assert sum(tensor.numel() * tensor.element_size() for tensor in integers) <= 2 << 20
