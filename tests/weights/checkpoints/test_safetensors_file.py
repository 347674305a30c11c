"""safetensors files: what the package lets pass, and this library does not."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latentcodec.errors import InvalidWeights
from latentcodec.weights.checkpoints import safetensors_file
from latentcodec.weights.checkpoints.checkpoint import open_checkpoint
from latentcodec.weights.checkpoints.safetensors_file import read_safetensors
from latentcodec.weights.native import read_weights

ONE = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
SECOND = '{"dtype":"F32","shape":[1],"data_offsets":[4,8]}'


def written(path: Path, header: str, data: bytes = b"", length: int | None = None) -> Path:
    packed = header.encode()
    path.write_bytes(struct.pack("<Q", len(packed) if length is None else length) + packed + data)
    return path


def shaped(*sides: int, size: int = 0) -> str:
    return json.dumps({"a": {"dtype": "F32", "shape": sides, "data_offsets": [0, size]}})


def test_what_is_read(tmp_path: Path) -> None:
    values = {"b": torch.ones(2, 3, dtype=torch.bfloat16), "a": torch.tensor(5), "c": torch.empty(0, 7)}
    save_file(values, tmp_path / "a.safetensors", metadata={"note": "x"})
    shapes, read, notes = read_safetensors(tmp_path / "a.safetensors")
    assert shapes == {name: tuple(value.shape) for name, value in values.items()}
    assert all(torch.equal(read(name), value) for name, value in values.items())
    assert notes == {"note": "x"}


def test_numpy_reads_the_same(tmp_path: Path) -> None:
    types = torch.int8, torch.int16, torch.uint16, torch.int32, torch.float16, torch.float32
    values = {str(kind): torch.arange(-3, 9).to(kind).view(3, 4) for kind in types}
    values |= {"none": torch.empty(0, 7), "one": torch.tensor(5.0)}
    save_file(values, tmp_path / "a.safetensors", metadata={"note": "x"})
    by_torch = read_safetensors(tmp_path / "a.safetensors")
    shapes, read, notes = read_safetensors(tmp_path / "a.safetensors", "np")
    assert (shapes, notes) == (by_torch.shapes, by_torch.notes)
    for name, value in values.items():
        array = read(name)
        assert isinstance(array, np.ndarray)
        assert array.dtype == value.numpy().dtype
        assert np.array_equal(array, by_torch.read(name).numpy())


def test_types_that_numpy_lacks(tmp_path: Path) -> None:
    kinds = {"b": torch.bfloat16, "e": torch.float8_e4m3fn}
    save_file({name: torch.ones(3).to(kind) for name, kind in kinds.items()}, tmp_path / "a.safetensors")
    shapes, read, _ = read_safetensors(tmp_path / "a.safetensors", "np")
    assert shapes == {"b": (3,), "e": (3,)}
    for name in kinds:
        with pytest.raises(InvalidWeights, match=f"{name} cannot be read"):
            read(name)
    with pytest.raises(InvalidWeights, match=r"a\.safetensors: not a native model's weights file"):
        read_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (f'{{"a":{ONE},"a":{ONE}}}', 4, "a name stands twice"),
        (f'{{"a":{ONE},"\\u0061":{ONE}}}', 4, "a name stands twice"),
        (f'{{"a":{ONE},"a":{SECOND}}}', 8, "safetensors file"),
        (f'{{"__metadata__":{{"n":"1","n":"2"}},"a":{ONE}}}', 4, "a name stands twice"),
        (f'{{"a":{ONE},"b":{ONE}}}', 4, "invalid offset"),
        (f'{{"a":{ONE},"b":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}}}', 8, "invalid offset"),
        (f'{{"b":{SECOND}}}', 8, "invalid offset"),
        (f'{{"a":{ONE}}}', 5, "not fully covered"),
        (f'{{"a":{ONE}}}', 3, "safetensors file"),
        (shaped(0, 1 << 62, 4), 0, "a has 3 sides of up to 4611686018427387904; they have at most 64"),
        (shaped((1 << 64) - 1, 0), 0, "a has 2 sides of up to 18446744073709551615"),
        (shaped(*[1] * 65, size=4), 4, "a has 65 sides"),
        (shaped(*[1] * 100_000, size=4), 4, "a has 100000 sides"),
        (shaped(1 << 62, 1 << 62, size=4), 4, "safetensors file"),
        (shaped(-1, size=4), 4, "safetensors file"),
        ('{"a":' * 100_000, 0, "safetensors file"),
        ("[" * 1_000_000, 0, "neither a safetensors"),
        ('{"__metadata__":' + "[" * 1_000_000, 0, "safetensors file"),
        ('{"__metadata__":{"a":' + '{"a":' * 100_000, 0, "safetensors file"),
    ],
)
def test_headers_that_are_refused(tmp_path: Path, header: str, data: int, message: str) -> None:
    path = written(tmp_path / "a.safetensors", header, bytes(data))
    start = time.process_time()
    with pytest.raises(InvalidWeights, match=message):
        open_checkpoint(path)
    assert time.process_time() - start < 0.9
    with pytest.raises(InvalidWeights):
        read_weights(path)


def test_long_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = safetensors_file.MAX_HEADER_BYTES
    path = tmp_path / "a.safetensors"
    header = f'{{"a":{ONE}}}'
    assert open_checkpoint(written(path, header.ljust(most), bytes(4))).shape("a") == (1,)
    for length in (most + 1, 1 << 40, (1 << 64) - 1):
        with pytest.raises(InvalidWeights, match=f"a header of {length} bytes; at most {most} are read"):
            open_checkpoint(written(path, header, bytes(4), length))
    monkeypatch.setattr(safetensors_file, "MAX_TENSORS", 1)
    entry: dict[str, Any] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    with pytest.raises(InvalidWeights, match="2 tensors; at most 1 are read"):
        open_checkpoint(written(path, json.dumps({"a": entry, "b": entry})))


def test_types_that_pytorch_lacks(tmp_path: Path) -> None:
    header = '{"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}'
    with pytest.raises(InvalidWeights, match="a cannot be read"):
        open_checkpoint(written(tmp_path / "a.safetensors", header, bytes(3)))["a"]


def test_native_weights_with_a_nested_configuration(tmp_path: Path) -> None:
    """json has a RecursionError of its own."""
    notes = {"model_number": "1", "config": "[" * 100_000, "card": "{}"}
    save_file({"a": torch.ones(1)}, tmp_path / "a.safetensors", metadata=notes)
    with pytest.raises(InvalidWeights, match="not a native model's weights file"):
        read_weights(tmp_path / "a.safetensors")
