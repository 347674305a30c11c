"""The weights file: whole, identified by two hashes, and refused where it is not what it should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import latentcodec.weights.native as module
from latentcodec.codec.native.coder import NativeCodec
from latentcodec.errors import InvalidWeights, UnknownModel, WeightsMismatch
from latentcodec.nn.native.entropy_model import ROWS, log_context
from latentcodec.weights.native import (
    FILES,
    NATIVE_MODEL,
    NativeWeights,
    check_identity,
    read_weights,
    shipped_weights,
)

PATH = Path(module.__file__).with_name(FILES[NATIVE_MODEL])
CPU = torch.device("cpu")


def test_the_shipped_file_fits_the_wheel_and_says_what_it_is(weights: NativeWeights) -> None:
    assert PATH.stat().st_size <= 8_000_000
    assert weights.number == NATIVE_MODEL
    assert weights.card["steps"] > 0
    assert shipped_weights() is weights


def test_types_are_those_of_the_specification(weights: NativeWeights) -> None:
    config = weights.config
    integer = {name: t for name, t in weights.tensors.items() if name.startswith("integer.")}
    for name, tensor in integer.items():
        kind = name.rsplit(".", 1)[-1]
        assert (
            tensor.dtype
            == {
                "weight": torch.int8,
                "bias": torch.int32,
                "shift": torch.int8,
                "row_offset": torch.int32,
                "hyper_row": torch.int32,
                "log_table": torch.int8,
                "row_sizes": torch.int32,
                "frequencies": torch.uint16,
            }[kind]
        ), name
    assert integer["integer.row_offset"].shape == (9, config.entropy.latents)
    assert integer["integer.hyper_row"].shape == (9, config.entropy.hyper)
    assert config.entropy.latents == config.transform.latents
    assert torch.equal(integer["integer.log_table"].float(), log_context(torch.arange(8192).float()))


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


def changed(weights: NativeWeights, name: str, change: Callable[[Tensor], Tensor]) -> NativeWeights:
    return replace(weights, tensors={**weights.tensors, name: change(weights.tensors[name].clone())})


def one_bit(tensor: Tensor) -> Tensor:
    tensor.view(-1).view(torch.uint8)[0] ^= 1
    return tensor


def test_hashes_cover_all_that_they_name_and_nothing_else(weights: NativeWeights) -> None:
    for name in weights.tensors:
        other = changed(weights, name, one_bit)
        assert (other.networks_hash != weights.networks_hash) == name.startswith("integer."), name
        assert (other.synthesis_hash != weights.synthesis_hash) == name.startswith("synthesis."), name


def test_hashes_know_names_shapes_and_types(weights: NativeWeights) -> None:
    name = "integer.row_offset"
    for change in (lambda t: t.t().contiguous(), lambda t: t.long(), lambda t: t.view(-1)):
        assert changed(weights, name, change).networks_hash != weights.networks_hash
    moved = {(name + "s" if key == name else key): t for key, t in weights.tensors.items()}
    assert replace(weights, tensors=moved).networks_hash != weights.networks_hash
    backwards = dict(reversed(list(weights.tensors.items())))
    assert replace(weights, tensors=backwards).networks_hash == weights.networks_hash


def test_identity(weights: NativeWeights) -> None:
    check_identity(weights, weights.networks_hash, weights.synthesis_hash)
    with pytest.raises(WeightsMismatch, match=f"00000000, the installed ones {weights.networks_hash.hex()}"):
        check_identity(weights, bytes(4), weights.synthesis_hash)
    with pytest.raises(WeightsMismatch, match="synthesis"):
        check_identity(weights, weights.networks_hash, bytes(4))


def test_unknown_models() -> None:
    with pytest.raises(UnknownModel, match=r"model 9; this version has 1 \(native-1"):
        shipped_weights(9)


def without(*names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key: value for key, value in tensors.items() if key not in names}


def with_tensor(
    name: str, change: Callable[[Tensor], Tensor]
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {**tensors, name: change(tensors[name].clone())}


BROKEN: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "no layer": without("integer.context0_in.weight"),
    "no bias": without("integer.hyper_up.bias"),
    "no tables": without("integer.row_sizes"),
    "no frequencies": without("integer.frequencies"),
    "no offsets": without("integer.row_offset"),
    "no log table": without("integer.log_table"),
    "no synthesis": without("synthesis.up.weight"),
    "no analysis": without("analysis.skip"),
    "no hyper analysis": without("hyper_analysis.bias"),
    "other layer": with_tensor("integer.context0_in.weight", lambda t: t[:, :, :1, :1].contiguous()),
    "heavy layer": with_tensor("integer.context3_in.weight", lambda t: torch.full_like(t, 127)),
    "other synthesis": with_tensor("synthesis.up.weight", lambda t: t[1:].contiguous()),
    "fewer rows": with_tensor("integer.row_sizes", lambda t: t[:-1].contiguous()),
    "no surely zero": with_tensor("integer.row_sizes", lambda t: t.flip(0)),
    "two surely zero": with_tensor("integer.row_sizes", lambda t: t.index_fill(0, torch.tensor([1]), 1)),
    "other frequencies": with_tensor("integer.frequencies", lambda t: t.int().flip(0).to(torch.uint16)),
    "fewer frequencies": with_tensor("integer.frequencies", lambda t: t[:-1].clone()),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_weights_are_refused(weights: NativeWeights, kind: str) -> None:
    broken = replace(weights, tensors=BROKEN[kind](dict(weights.tensors)))
    with pytest.raises(InvalidWeights):
        NativeCodec(broken, CPU)


def stored(path: Path, tensors: dict[str, Tensor], **metadata: Any) -> Path:
    save_file(tensors, path, {key: value for key, value in metadata.items() if value is not None})
    return path


def test_files_that_are_no_weights(tmp_path: Path, weights: NativeWeights) -> None:
    config = json.dumps(weights.config.to_dict())
    tensors = {"integer.log_table": torch.zeros(3, dtype=torch.int8)}
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
