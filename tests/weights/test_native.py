"""The weights file: whole, identified by two hashes, and refused where it is not what it should be."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

import latentcodec.weights.native as module
from latentcodec.errors import InvalidWeights, UnknownModel, WeightsMismatch
from latentcodec.nn.exact.layer import check_layers
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.layers import signed_log
from latentcodec.nn.native.config import ROWS
from latentcodec.nn.native.entropy import entropy_layers
from latentcodec.nn.native.entropy_model import log_context
from latentcodec.nn.native.integer_synthesis import table_shapes
from latentcodec.nn.native.synthesis import synthesis_layers
from latentcodec.nn.native.transform import wide_logs
from latentcodec.weights.native import (
    FILES,
    NATIVE_MODEL,
    Array,
    NativeWeights,
    check_identity,
    read_weights,
    shipped_weights,
)
from tests.conftest import native_codec

PATH = Path(module.__file__).with_name(FILES[NATIVE_MODEL])
ROOT = Path(__file__).resolve().parents[2]


def test_the_shipped_file_fits_the_wheel_and_says_what_it_is(weights: NativeWeights) -> None:
    assert PATH.stat().st_size <= 7_000_000
    assert weights.number == NATIVE_MODEL
    assert weights.card["steps"] > 0
    assert shipped_weights() is weights


KINDS = {
    "weight": "int8",
    "bias": "int32",
    "shift": "int8",
    "row_offset": "int32",
    "hyper_row": "int32",
    "log_table": "int8",
    "row_sizes": "int32",
    "frequencies": "uint16",
    "log_gain": "int32",
    "input_log_gain": "int32",
    "stream_log_gain": "int32",
    "log_scale": "int32",
    "skip": "int16",
    **{str(plane): "int16" for plane in range(3)},
}


def test_types_are_those_of_the_specification(weights: NativeWeights) -> None:
    config, tensors = weights.config, weights.tensors
    for name, tensor in tensors.items():
        assert isinstance(tensor, np.ndarray)
        if name.startswith(("integer.", "synthesis.")):
            kind = "int16" if name == "synthesis.log_table" else KINDS[name.rsplit(".", 1)[-1]]
            assert tensor.dtype.name == kind, name
        else:
            wide = name.rsplit(".", 1)[-1].startswith("log_") or name.startswith("training.")
            assert tensor.dtype.name == ("float32" if wide else "float16"), name
    assert tensors["integer.row_offset"].shape == (9, config.entropy.latents)
    assert tensors["integer.hyper_row"].shape == (9, config.entropy.hyper)
    assert config.entropy.latents == config.transform.latents
    for name, shape in table_shapes(config.transform).items():
        assert tensors[f"synthesis.{name}"].shape == shape
    latents = torch.arange(8192).float()
    assert np.array_equal(tensors["integer.log_table"], log_context(latents).numpy())
    exact = signed_log(latents.double() / 16)
    assert np.array_equal(tensors["synthesis.log_table"], wide_logs(exact).numpy())


def test_layers_are_those_of_the_configuration(weights: NativeWeights) -> None:
    entropy, synthesis = weights.layers(), weights.synthesis_layers()
    check_layers("integer.", entropy, entropy_layers(weights.config.entropy))
    check_layers("synthesis.", synthesis, synthesis_layers(weights.config.transform))
    specs = entropy_layers(weights.config.entropy) | synthesis_layers(weights.config.transform)
    for name, layer in (entropy | synthesis).items():
        assert layer.activation is specs[name].activation


def test_reading_needs_no_pytorch() -> None:
    code = (
        "import sys\nfrom latentcodec.nn.exact.numpy_engine import NumpyEngine\n"
        "from latentcodec.weights.native import shipped_weights\nweights = shipped_weights()\n"
        "weights.tables(), weights.networks_hash, weights.synthesis_hash\n"
        "weights.integer_model(NumpyEngine()), weights.integer_synthesis(NumpyEngine())\n"
        "print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "False"), run.stderr


def test_tables(weights: NativeWeights) -> None:
    tables = weights.tables()
    assert tables.size.shape == (ROWS,)
    assert tables.size[0] == 1
    frequencies = np.diff(tables.cumulative.astype(np.int64), axis=1)
    assert (frequencies.sum(1) == 1 << 16).all()
    for row in range(1, ROWS):
        own = frequencies[row, : tables.size[row]]
        assert own.min() >= 1
        assert len(own) % 2 == 0  # the residuals -n..n, and the escape
        assert tables.offset[row] == (len(own) - 2) // 2


def changed(weights: NativeWeights, name: str, change: Callable[[Array], Array]) -> NativeWeights:
    return replace(weights, tensors={**weights.tensors, name: change(weights.tensors[name].copy())})


def one_bit(tensor: Array) -> Array:
    tensor.reshape(-1).view(np.uint8)[0] ^= 1
    return tensor


def test_hashes_cover_all_that_they_name_and_nothing_else(weights: NativeWeights) -> None:
    for name in weights.tensors:
        other = changed(weights, name, one_bit)
        assert (other.networks_hash != weights.networks_hash) == name.startswith("integer."), name
        assert (other.synthesis_hash != weights.synthesis_hash) == name.startswith("synthesis."), name


def test_hashes_know_names_shapes_and_types(weights: NativeWeights) -> None:
    for name, digest in (("integer.row_offset", "networks_hash"), ("synthesis.log_scale", "synthesis_hash")):
        before = getattr(weights, digest)
        for change in (
            lambda t: np.ascontiguousarray(t.T),
            lambda t: t.astype(np.int64),
            lambda t: t.reshape(-1),
        ):
            assert getattr(changed(weights, name, change), digest) != before
        moved = {(name + "s" if key == name else key): t for key, t in weights.tensors.items()}
        assert getattr(replace(weights, tensors=moved), digest) != before
        backwards = dict(reversed(list(weights.tensors.items())))
        assert getattr(replace(weights, tensors=backwards), digest) == before


def test_hashes_are_of_little_endian_bytes_in_c_s_order(weights: NativeWeights) -> None:
    for name, tensor in weights.tensors.items():
        for same in (tensor.astype(tensor.dtype.newbyteorder(">")), np.asfortranarray(tensor)):
            other = replace(weights, tensors={**weights.tensors, name: same})
            assert other.networks_hash == weights.networks_hash
            assert other.synthesis_hash == weights.synthesis_hash


def test_hashes_are_those_of_the_specification(weights: NativeWeights) -> None:
    """docs/model.md: names, types and shapes as PyTorch writes them, then the bytes."""
    for prefix, expected in (
        ("integer.", weights.networks_hash),
        ("synthesis.", weights.synthesis_hash),
    ):
        digest = hashlib.sha256()
        with safe_open(PATH, framework="pt") as file:
            for name in sorted(name for name in file.keys() if name.startswith(prefix)):  # noqa: SIM118
                tensor = file.get_tensor(name)
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
        assert digest.digest()[:4] == expected


def test_identity(weights: NativeWeights) -> None:
    check_identity(weights, weights.networks_hash, weights.synthesis_hash)
    with pytest.raises(WeightsMismatch, match=f"00000000, the installed ones {weights.networks_hash.hex()}"):
        check_identity(weights, bytes(4), weights.synthesis_hash)
    with pytest.raises(WeightsMismatch, match="synthesis"):
        check_identity(weights, weights.networks_hash, bytes(4))


def test_unknown_models() -> None:
    with pytest.raises(UnknownModel, match=r"model 9; this version has 1 \(native-1"):
        shipped_weights(9)


Tensors = dict[str, Array]


def without(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key not in names}


def with_tensor(name: str, change: Callable[[Array], Array]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: change(tensors[name].copy())}


def two_surely_zero(sizes: Array) -> Array:
    sizes[1] = 1
    return sizes


BROKEN: dict[str, Callable[[Tensors], Tensors]] = {
    "no layer": without("integer.context0_in.weight"),
    "no bias": without("integer.hyper_up.bias"),
    "no tables": without("integer.row_sizes"),
    "no frequencies": without("integer.frequencies"),
    "no offsets": without("integer.row_offset"),
    "no log table": without("integer.log_table"),
    "no synthesis": without("synthesis.up.conv.weight"),
    "no narrowing": without("synthesis.fine.narrow.shift"),
    "no gains": without("synthesis.log_gain"),
    "no gain of the logarithms": without("synthesis.input_log_gain"),
    "no gain of the stream": without("synthesis.stream_log_gain"),
    "no scale": without("synthesis.log_scale"),
    "no block transform": without("synthesis.skip"),
    "no lapping": without("synthesis.lapping.planes.1"),
    "no log table of the synthesis": without("synthesis.log_table"),
    "other layer": with_tensor("integer.context0_in.weight", lambda t: t[:, :, :1, :1]),
    "heavy layer": with_tensor("integer.context3_in.weight", lambda t: np.full_like(t, 127)),
    "heavy layer of the synthesis": with_tensor("synthesis.out.conv.bias", lambda t: t + (1 << 23)),
    "other synthesis": with_tensor("synthesis.up.conv.weight", lambda t: t[1:]),
    "other narrowing": with_tensor("synthesis.up.narrow.bias", lambda t: t[:, 1:]),
    "scale past its bound": with_tensor("synthesis.log_scale", lambda t: t + (7 << 16)),
    "fewer rows": with_tensor("integer.row_sizes", lambda t: t[:-1]),
    "no surely zero": with_tensor("integer.row_sizes", lambda t: t[::-1]),
    "two surely zero": with_tensor("integer.row_sizes", two_surely_zero),
    "other frequencies": with_tensor("integer.frequencies", lambda t: t[::-1]),
    "fewer frequencies": with_tensor("integer.frequencies", lambda t: t[:-1]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_weights_are_refused(weights: NativeWeights, kind: str) -> None:
    broken = replace(weights, tensors=BROKEN[kind](dict(weights.tensors)))
    with pytest.raises(InvalidWeights):
        native_codec(broken)


BROKEN_FOR_ENCODERS: dict[str, Callable[[Tensors], Tensors]] = {
    "no analysis": without("analysis.skip"),
    "no gain": without("analysis.log_gain"),
    "no layer": without("analysis.conv_in.weight"),
    "no block": without("analysis.blocks.1.conv2.bias"),
    "no hyper analysis": without("hyper_analysis.bias"),
    "no layer of it": without("hyper_analysis.conv_down.weight"),
    "other analysis": with_tensor("analysis.down.weight", lambda t: t[:, 1:]),
    "other hyper analysis": with_tensor("hyper_analysis.conv_out.bias", lambda t: t[1:]),
}


@pytest.mark.parametrize("engine", ["numpy", "torch"])
@pytest.mark.parametrize("kind", BROKEN_FOR_ENCODERS)
def test_weights_that_only_an_encoder_needs(weights: NativeWeights, kind: str, engine: str) -> None:
    """Decoders do not look at them: files are read with what is left."""
    broken = replace(weights, tensors=BROKEN_FOR_ENCODERS[kind](dict(weights.tensors)))
    codec = native_codec(broken, NumpyEngine() if engine == "numpy" else None)
    z = np.zeros((weights.config.entropy.hyper, 1, 1), np.int32)
    latents = codec.integer.latents(z, 2000, 2, 2, lambda step, means, rows: np.zeros_like(rows))
    assert codec.synthesise(latents, 2000).shape == (16, 16, 3)
    name = "hyper_analysis" if "hyper" in kind or kind == "no layer of it" else "analysis"
    with pytest.raises(InvalidWeights, match=f"^{name}"):
        codec.encode_tile(codec.analyse(np.zeros((32, 32, 3), np.uint8), 2000), 2000)


def stored(path: Path, tensors: Tensors, **metadata: Any) -> Path:
    save_file(tensors, path, {key: value for key, value in metadata.items() if value is not None})
    return path


def test_files_that_are_no_weights(tmp_path: Path, weights: NativeWeights) -> None:
    config = json.dumps(weights.config.to_dict())
    tensors = {"integer.log_table": np.zeros(3, np.int8)}
    good = {"model_number": "1", "config": config, "card": "{}"}
    text = tmp_path / "text.safetensors"
    text.write_text("weights")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(PATH.read_bytes()[:100_000])
    bad = [
        tmp_path / "nothing.safetensors",
        tmp_path,
        text,
        cut,
        stored(tmp_path / "a", tensors, **{**good, "model_number": None}),
        stored(tmp_path / "b", tensors, **{**good, "model_number": "one"}),
        stored(tmp_path / "c", tensors, **{**good, "config": "{"}),
        stored(tmp_path / "d", tensors, **{**good, "config": "{}"}),
        stored(tmp_path / "e", tensors, **{**good, "config": '{"transform": {"lumen": 1}, "entropy": {}}'}),
        stored(tmp_path / "f", tensors, **{**good, "card": "no"}),
        stored(tmp_path / "g", tensors, **{**good, "config": "[]"}),
    ]
    for path in bad:
        with pytest.raises(InvalidWeights, match=path.name):
            read_weights(path)
    assert read_weights(stored(tmp_path / "good", tensors, **good)).number == 1
