"""The promises about cost: decoding within 45 kMAC a pixel, weights within 7 MB."""

from __future__ import annotations

from importlib import resources

from latentcodec.nn.exact.layer import LayerSpec
from latentcodec.nn.native.config import PATCH, TransformConfig
from latentcodec.nn.native.entropy import entropy_layers
from latentcodec.nn.native.synthesis import FINE_PATCH, synthesis_layers
from latentcodec.weights.native import FILES, NATIVE_MODEL, NativeWeights


def position_macs(spec: LayerSpec) -> int:
    """Multiply-accumulates of a layer at one position."""
    return spec.inputs * spec.outputs * spec.kernel**2


def entropy_macs(weights: NativeWeights) -> float:
    """Multiply-accumulates a pixel of hyper synthesis and the four context steps."""
    per_cell = 0.0
    for name, spec in entropy_layers(weights.config.entropy).items():
        # At 1/32 instead of 1/16.
        per_cell += position_macs(spec) * (0.25 if name in ("hyper_in", "hyper_up") else 1.0)
    return per_cell / 16**2


def synthesis_macs(config: TransformConfig) -> float:
    """Multiply-accumulates a pixel of the synthesis transform."""
    at_8 = config.latents * 3 * PATCH**2 + 9 * sum(channels**2 for channels in config.planes)
    at_4 = 0
    for name, spec in synthesis_layers(config).items():
        if isinstance(spec, LayerSpec):
            fine = name.startswith(("fine.", "out."))
            at_4 += fine * position_macs(spec)
            at_8 += (not fine) * position_macs(spec)
    return at_8 / PATCH**2 + at_4 / FINE_PATCH**2


def test_decoding_costs_at_most_45_kmac_a_pixel(weights: NativeWeights) -> None:
    total = entropy_macs(weights) + synthesis_macs(weights.config.transform)
    assert 30_000 < total <= 45_000


def test_the_macs_are_those_of_the_shipped_layers(weights: NativeWeights) -> None:
    """Every weight of a position works there once: what is counted is what the file holds."""
    sizes = {name: tensor.size for name, tensor in weights.tensors.items() if name.endswith(".weight")}
    entropy = entropy_layers(weights.config.entropy)
    synthesis = synthesis_layers(weights.config.transform)
    for prefix, specs in (("integer", entropy), ("synthesis", synthesis)):
        convolutions = {name: spec for name, spec in specs.items() if isinstance(spec, LayerSpec)}
        stored = {name for name in sizes if name.startswith(f"{prefix}.")}
        assert stored == {f"{prefix}.{name}.weight" for name in convolutions}
        for name, spec in convolutions.items():
            assert sizes[f"{prefix}.{name}.weight"] == position_macs(spec)


def test_weights_are_at_most_7_megabytes() -> None:
    with resources.as_file(resources.files("latentcodec.weights") / FILES[NATIVE_MODEL]) as path:
        assert path.stat().st_size <= 7_000_000


def test_integer_networks_are_at_most_2_megabytes(weights: NativeWeights) -> None:
    for prefix in ("integer.", "synthesis."):
        sizes = [tensor.nbytes for name, tensor in weights.tensors.items() if name.startswith(prefix)]
        assert sum(sizes) <= 2 << 20
