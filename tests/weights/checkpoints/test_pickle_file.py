"""PyTorch's own files: what torch.save writes is read as torch.load reads it; what it does not is refused."""

from __future__ import annotations

import struct
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from latentcodec.errors import InvalidWeights
from latentcodec.weights.checkpoints import pickle_file
from latentcodec.weights.checkpoints.checkpoint import open_checkpoint
from latentcodec.weights.checkpoints.pickle_file import read_pickle
from tests.weights.made_pickles import (
    ORDERED,
    call,
    number,
    save_legacy,
    save_zip,
    state,
    storage,
    tensor,
    text,
    tuple_of,
)

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16,
          torch.int32, torch.int64, torch.bool, torch.complex64, torch.uint16, torch.uint32, torch.uint64,
          torch.float8_e4m3fn, torch.float8_e5m2]  # fmt: skip


def views() -> dict[str, Tensor]:
    """Tensors that share numbers, begin inside of their storage, or go through it out of order."""
    base = torch.arange(60.0)
    return {
        "base": base,
        "same": base,
        "part": base[7:20],
        "matrix": base[4:28].reshape(4, 6),
        "turned": base[4:28].reshape(4, 6).t(),
        "steps": base[1::3],
        "one": base[5],
        "none": base[3:3],
        "hollow": torch.empty(0, 4, 3),
        "scalar": torch.tensor(3.5),
        "ones": torch.ones(1, 1, 1),
        "channels": torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }


def module() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2, bias=False))
    return network.to(torch.bfloat16)


def trained() -> dict[str, Any]:
    """What Lightning's trainers save: counters, schedules, optimisers, random states, versions."""
    network = module()
    optimiser = torch.optim.AdamW(network.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 9])
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    schedule.step()
    return {
        "epoch": 3,
        "global_step": 1 << 40,
        "pytorch-lightning_version": "1.7.7",
        "state_dict": network.state_dict(),
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [{"milestones": Counter([3, 9]), "last": [1e-4, None], **schedule.state_dict()}],
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}, "current": {}}}},
        "callbacks": {"EMA": {"decay": 0.9999, "best": torch.tensor(0.25)}},
        "rng": torch.get_rng_state(),
        "hyper_parameters": {"betas": (0.9, 0.95), "size": torch.Size([3, 4]), "dtype": torch.float16,
                             "device": torch.device("cpu"), "names": {"a", "b"}, "raw": b"\x00\xff", "z": 2j,
                             "empty": [], "array": bytearray(b"abc"), "path": "p" * 5000, 5: (), -7: -5},
    }  # fmt: skip


NEWER = DTYPES[-5:]  # torch.load cannot read these in files of before 2020
REAL: dict[str, Callable[[], Any]] = {
    "newer types": lambda: {str(each): torch.arange(6).reshape(2, 3).to(each) for each in NEWER},
    "types": lambda: {str(each): torch.arange(6).reshape(2, 3).to(each) for each in DTYPES[:-5]},
    "views": views,
    "state dict": lambda: module().state_dict(),
    "parameters": lambda: dict(module().named_parameters()),
    "wrapped": lambda: {"state_dict": module().state_dict(), "epoch": 3, "optimizer_states": []},
    "trained": trained,
    "odd beside": lambda: {"state_dict": views(), "x": torch.eye(3).to_sparse()},
    "attributes": lambda: {"a": with_attribute(torch.ones(3), "note"), "b": with_attribute(
        nn.Parameter(torch.ones(3)), "sequence_parallel")},
    "1500 names": lambda: {f"{index}.weight": torch.full((2,), float(index)) for index in range(1500)},
}  # fmt: skip


def with_attribute(value: Tensor, name: str) -> Tensor:
    object.__setattr__(value, name, 5)
    return value


def weights_of(content: Any) -> dict[str, Any]:
    inner: dict[str, Any] = content.get("state_dict", content)
    return inner


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", REAL)
def test_what_pytorch_saves_is_read_as_pytorch_reads_it(tmp_path: Path, kind: str, legacy: bool) -> None:
    if legacy and kind == "newer types":
        pytest.skip("PyTorch does not read what it writes here")
    torch.manual_seed(1)
    path = tmp_path / "model.ckpt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse tensors
        torch.save(REAL[kind](), path, _use_new_zipfile_serialization=not legacy)
        expected = weights_of(torch.load(path, weights_only=True))
    tensors = read_pickle(path)
    assert list(tensors) == list(expected)
    for name, value in expected.items():
        ours = tensors[name]
        assert type(ours) is Tensor
        assert (ours.dtype, ours.shape, ours.device) == (value.dtype, value.shape, value.device)
        if value.numel():
            assert ours.stride() == value.stride()
            assert (
                ours.contiguous()
                .view(-1)
                .view(torch.uint8)
                .equal(value.detach().contiguous().view(-1).view(torch.uint8))
            )


def test_numpys_numbers_beside_the_weights(tmp_path: Path) -> None:
    """As the checkpoints of Stable Diffusion 1.x have them, for their trainer's best scores."""
    weights = module().state_dict()
    scores = {"best": np.float64(0.25), "last": np.float32(1.5), "steps": np.arange(3)}
    torch.save({"state_dict": weights, "callbacks": scores}, tmp_path / "trained.ckpt")
    checkpoint = open_checkpoint(tmp_path / "trained.ckpt")
    assert {name: checkpoint.shape(name) for name in checkpoint} == {
        name: tuple(weight.shape) for name, weight in weights.items()
    }


def test_tied_weights_stay_one(tmp_path: Path) -> None:
    torch.save(views(), tmp_path / "a.pth")
    tensors = read_pickle(tmp_path / "a.pth")
    assert tensors["same"].data_ptr() == tensors["base"].data_ptr()
    assert tensors["part"].data_ptr() == tensors["base"].data_ptr() + 7 * 4


def test_the_file_is_not_changed_by_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"a": torch.ones(4)}, path)
    before = path.read_bytes()
    read_pickle(path)["a"].zero_()
    assert path.read_bytes() == before


def test_another_order_of_bytes(tmp_path: Path) -> None:
    """As big-endian machines save."""
    values = np.array([1.5, -2, 3e5, 0], ">f4")
    entries = {"data/0": values.tobytes(), "byteorder": b"big"}
    path = save_zip(tmp_path / "a.pth", state(a=tensor()), entries)
    assert read_pickle(path)["a"].tolist() == values.tolist()
    save_zip(path, state(a=tensor()), entries | {"byteorder": b"little"})
    assert read_pickle(path)["a"].tolist() != values.tolist()


def test_odd_places(tmp_path: Path) -> None:
    """Numbers that do not begin at multiples of their size are copied."""
    for shift in range(4):
        path = tmp_path / f"{shift}.pth"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("m/data.pkl", state(a=tensor()))
            archive.writestr("m/" + "x" * shift, "")
            archive.writestr("m/data/0", np.array([1, 2, 3, 4], "<f4").tobytes())
        assert read_pickle(path)["a"].tolist() == [1, 2, 3, 4]


def test_texts_of_python_2(tmp_path: Path) -> None:
    program = b"\x80\x02}(U\x05enc.aq\x01" + tensor() + b"u."
    assert list(read_pickle(save_zip(tmp_path / "a.pth", program))) == ["enc.a"]


class Sub(Tensor):
    """A class of its own."""


def nested() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), "a.b is a sparse tensor; only dense tensors"),
        (nested, "a.b is a nested tensor; only dense tensors"),
        (lambda: torch.ones(3, device="meta"), r"a.b is a tensor without values \(of the meta device\)"),
        (lambda: torch.ones(3).as_subclass(Sub), r"holds Python objects \(\S*Sub\)"),  # type: ignore[arg-type]
        (lambda: torch.ones(3, dtype=torch.complex64).conj(), "a view of conjugate or negated numbers"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_other_tensors(tmp_path: Path, make: Callable[[], Tensor], message: str, legacy: bool) -> None:
    path = tmp_path / "model.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"a.b": make()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InvalidWeights, match=message):
        open_checkpoint(path)


V2, V3 = "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3"
PLACES = (storage(), number(0), tuple_of(4), tuple_of(1), b"\x89", ORDERED)


@pytest.mark.parametrize("name", ["numel", "shape", "untyped_storage", "__class__", "to"])
def test_attributes_in_the_place_of_pytorchs_own(tmp_path: Path, name: str) -> None:
    attributes = b"}" + text(name) + b"K\x05s"
    typed = b"ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n(" + b"".join(PLACES) + b"t"
    for value in (
        call("torch._utils _rebuild_parameter_with_state", tensor(), b"\x89", ORDERED, attributes),
        call("torch._tensor _rebuild_from_type_v2", typed, attributes),
    ):
        with pytest.raises(InvalidWeights, match=f"a has an attribute {name} in the place of PyTorch's own"):
            open_checkpoint(save_zip(tmp_path / "a.pth", state(a=value)))


def test_quantised_tensors(tmp_path: Path) -> None:
    scheme = b"(ctorch\nper_tensor_affine\nG" + struct.pack(">d", 0.1) + b"K\x00t"
    held = storage("0", 4, "torch QInt8Storage")
    places = (number(0), tuple_of(4), tuple_of(1), scheme, b"\x89", ORDERED)
    path = save_zip(tmp_path / "a.pth", state(a=call("torch._utils _rebuild_qtensor", held, *places)))
    with pytest.raises(InvalidWeights, match="a is a quantised tensor; only dense"):
        read_pickle(path)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (tensor(storage("1")), "a needs the storage '1', which the file lacks"),
        (tensor(storage("../../0")), "a needs the storage"),
        (tensor(storage("0", 5)), "a needs a storage of 20 bytes, and the file has 16"),
        (tensor(storage("0", 1 << 62)), "a needs a storage of"),
        (tensor(storage("0", 2)), "a claims 16 bytes, and the file stores 8 for it"),
        (tensor(size=(5,)), "a claims 20 bytes, and the file stores 16 for it"),
        (tensor(offset=1), "a goes past the 16 bytes that the file stores for it"),
        (tensor(offset=1 << 61), "a goes past"),
        (tensor(size=(0,), offset=5), "a goes past"),
        (tensor(stride=(2,)), "a goes past"),
        (tensor(stride=(1 << 62,)), "a goes past"),
        (tensor(size=(2, 2), stride=(1, 3)), "a goes past"),
        (tensor(size=(1 << 40,), stride=(0,)), "a claims 4398046511104 bytes"),
        (tensor(size=(1 << 62, 1 << 62), stride=(0, 0)), "a claims"),
        (tensor(size=(0, 1 << 62, 1 << 62), stride=(1, 1, 1)), "a claims 0 bytes"),
        (tensor(offset=-1), "sizes and strides that do not fit"),
        (tensor(size=(-4,)), "sizes that are none"),
        (tensor(stride=(-1,)), "sizes that are none"),
        (tensor(size=(1 << 64,)), "sizes that are none"),
        (tensor(size=(4, 1)), "sizes and strides that do not fit"),
        (tensor(b"N"), "of no storage"),
        (tensor(tensor()), "of no storage"),
        (call("torch._utils _rebuild_tensor_v2", storage()), "of 1 arguments"),
        (call("torch._utils _rebuild_parameter", b"N", b"\x88", ORDERED), "a parameter of no tensor"),
        (call(V3, *PLACES, b"ctorch\nfloat64\n"), "a claims 32 bytes, and the file stores 16"),
        (call(V3, *PLACES, b"N"), "no type of numbers"),
        (tensor(storage("0", 4, "torch Size")), "a persistent id that names no storage"),
        (b"N}b", "it changes a NoneType"),
        (tensor() + b"}" + text("numel") + b"Nsb", "it changes a StoredTensor"),
        (call("torch Tensor", number(1 << 40)), "a call of torch.Tensor"),
        (b"ctorch\nTensor\n(" + number(1 << 40) + b"t\x81", "an object of another class"),
        (call("torch.nn.parameter Parameter", tensor()), "a call of torch.nn.parameter.Parameter"),
        (call("torch.storage UntypedStorage", number(1 << 40)), "a call of torch.storage.UntypedStorage"),
    ],
)  # fmt: skip
def test_tensors_that_the_file_does_not_hold(tmp_path: Path, value: bytes, message: str) -> None:
    path = save_zip(tmp_path / "a.pth", state(a=value))
    with pytest.raises(InvalidWeights, match=message):
        read_pickle(path)
    with pytest.raises(InvalidWeights):
        read_pickle(save_legacy(path, state(a=value)))


def test_the_same_numbers_many_times(tmp_path: Path) -> None:
    """Each tensor fits, and all together would be a million times the file."""
    held = storage() + b"q\x01"
    values = {str(index): tensor(b"h\x01") for index in range(pickle_file.MAX_SHARING)}
    path = tmp_path / "a.pth"
    assert len(read_pickle(save_zip(path, state(first=tensor(held), **dict(list(values.items())[1:]))))) == 8
    with pytest.raises(InvalidWeights, match=r"claim 144 bytes, and the file stores 16; at most 8 times"):
        read_pickle(save_zip(path, state(first=tensor(held), **values)))


def test_torchscript_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    entries = {
        "data/0": bytes(16),
        "constants.pkl": b"\x80\x02).",
        "code/__torch__.py": b"op_version_set = 1",
    }
    save_zip(path, b"\x80\x02c__torch__\nM\n)\x81.", entries)
    with pytest.raises(InvalidWeights, match=r"a TorchScript archive \(it has constants\.pkl\)"):
        open_checkpoint(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), str(path))
    with pytest.raises(InvalidWeights, match="a TorchScript archive"):
        open_checkpoint(path)


def test_nothing_of_pytorchs_unpickler_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So whatever advisories say of torch.load does not matter here."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    path = tmp_path / "a.pth"
    for legacy in (False, True):
        torch.save(trained(), path, _use_new_zipfile_serialization=not legacy)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "load", fail)
            patch.setattr(sys.modules["torch._weights_only_unpickler"], "load", fail)
            patch.setattr(sys.modules["pickle"], "Unpickler", fail)
            assert read_pickle(path)


def test_a_legacy_file_that_stores_too_little(tmp_path: Path) -> None:
    path = save_legacy(tmp_path / "a.pth", state(a=tensor()))
    data = path.read_bytes()
    assert read_pickle(path)["a"].tolist() == [0, 0, 0, 0]
    for wrong in (data[:-1], data[:-16], data[:-24], data[:-24] + struct.pack("<Q", 5) + bytes(20)):
        path.write_bytes(wrong)
        with pytest.raises(InvalidWeights, match="damaged or truncated: a storage of 4 numbers"):
            read_pickle(path)
