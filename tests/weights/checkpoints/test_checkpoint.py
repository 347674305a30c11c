"""Weights files: every container, lazily; and every file that is none, or that is hostile."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.errors import InvalidWeights, LatentCodecError, UnknownModel
from latentcodec.nn.stable_diffusion.autoencoder import SD_VAE, AutoencoderConfig, AutoencoderKL
from latentcodec.weights.checkpoints.checkpoint import Checkpoint, floating, joined, open_checkpoint
from latentcodec.weights.checkpoints.key_tables import autoencoder_ldm
from latentcodec.weights.checkpoints.pickle_file import MAX_NESTING
from tests.weights.made_checkpoints import in_layout

ROOT = Path(__file__).resolve().parents[3]
TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def check(path: Path) -> None:
    checkpoint = open_checkpoint(path)
    assert sorted(checkpoint) == sorted(TENSORS)
    for name, tensor in TENSORS.items():
        assert checkpoint.shape(name) == tuple(tensor.shape)
        assert torch.equal(checkpoint[name], tensor)
        assert checkpoint[name].dtype == tensor.dtype


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"modelspec.title": "x"})
    check(tmp_path / "a.safetensors")
    assert open_checkpoint(tmp_path / "a.safetensors").metadata == {"modelspec.title": "x"}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("depth", range(MAX_NESTING))
def test_pickles(tmp_path: Path, legacy: bool, depth: int) -> None:
    """Zip files and those of before 2020; the state dict as it is, and wrapped."""
    content: object = OrderedDict(TENSORS)
    for level in range(depth):
        content = {("state_dict", "model", "module")[level % 3]: content, "epoch": 3, "note": "x"}
    torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    check(tmp_path / "a.ckpt")


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.ckpt")
    torch.save(TENSORS, tmp_path / "b.safetensors")
    check(tmp_path / "a.ckpt")
    check(tmp_path / "b.safetensors")


@pytest.mark.parametrize("length", [0x80, 0x180, 0x4B50, 0x14B50])
def test_safetensors_whose_length_looks_like_another_file(tmp_path: Path, length: int) -> None:
    """Headers of these lengths begin as pickles do, and as zip archives: 80, "PK"."""
    entry = {"b": {"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}}
    header = json.dumps(entry).encode().ljust(length)
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + header + TENSORS["b"].numpy().tobytes())
    assert torch.equal(open_checkpoint(path)["b"], TENSORS["b"])


def test_nesting_is_bounded(tmp_path: Path) -> None:
    content: object = TENSORS
    for _ in range(MAX_NESTING):
        content = {"state_dict": content}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(InvalidWeights, match="nested"):
        open_checkpoint(tmp_path / "a.ckpt")


def shards(folder: Path) -> Path:
    save_file({"a.weight": TENSORS["a.weight"]}, folder / "1.safetensors")
    save_file({"b": TENSORS["b"]}, folder / "2.safetensors")
    index = folder / "a.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "1.safetensors", "b": "2.safetensors"}}))
    return index


def test_shards(tmp_path: Path) -> None:
    index = shards(tmp_path)
    check(index)
    check(index.rename(tmp_path / "a.safetensors.index.fp16.json"))  # as diffusers names a variant's


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "not the index"),
        ("{", "not the index"),
        ('{"weight_map": {"b": 3}}', "no file of its folder"),
        ('{"weight_map": {"b": "../2.safetensors"}}', "no file of its folder"),
        ('{"weight_map": {"b": "/etc/passwd"}}', "no file of its folder"),
        ('{"weight_map": {"b": "a.safetensors.index.json"}}', "no file of its folder"),
        ('{"weight_map": {"b": "3.safetensors"}}', "3.safetensors: no such file"),
        ('{"weight_map": {"b": "1.safetensors", "a.weight": "1.safetensors"}}', "b is not in 1.safetensors"),
        ('{"weight_map": {"b": "2.safetensors", "a.weight": "2.safetensors"}}', "a.weight is not in"),
        ("[" * 100_000, "not the index"),
    ],
)
def test_wrong_indexes(tmp_path: Path, text: str, message: str) -> None:
    index = shards(tmp_path)
    index.write_text(text)
    with pytest.raises(LatentCodecError, match=message):
        open_checkpoint(index)


def test_parts() -> None:
    """A checkpoint within a checkpoint, and one of two."""
    shapes = {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
    whole = Checkpoint(Path("x"), shapes, TENSORS.__getitem__)
    assert list(whole.within("a.")) == ["weight"]
    assert torch.equal(whole.within("a.")["weight"], TENSORS["a.weight"])
    both = joined(Path("x"), {"l.": whole, "r.": whole.within("a.")})
    assert sorted(both) == ["l.a.weight", "l.b", "r.weight"]
    assert both.shape("r.weight") == (2, 3)
    with pytest.raises(KeyError):
        both["a.weight"]


class Exploit:
    """What a hostile pickle does when it is loaded as pickles are."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["whole", "beside", "within"])
def test_code_is_not_run(tmp_path: Path, place: str, legacy: bool) -> None:
    marker = tmp_path / "marker"
    content = {"whole": Exploit(marker), "beside": {"state_dict": TENSORS, "x": Exploit(marker)},
               "within": {"a": Exploit(marker), **TENSORS}}[place]  # fmt: skip
    path = tmp_path / "model.ckpt"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InvalidWeights, match=r"posix\.system.*never loaded"):
        open_checkpoint(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the exploit is a real one
    assert marker.exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_pickle_of_any_protocol_is_not_run(tmp_path: Path, protocol: int, zipped: bool) -> None:
    path, exploit = tmp_path / "model.ckpt", Exploit(tmp_path / "marker")
    if zipped:
        torch.save({"a": exploit}, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(exploit, protocol=protocol))
    with pytest.raises(InvalidWeights, match=r"could run code and are never loaded; use the model's .safet"):
        open_checkpoint(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.ckpt")
    with pytest.raises(InvalidWeights, match="no regular file"):
        open_checkpoint(tmp_path / "model.ckpt")


def test_callbacks_of_old_trainers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sd-v1-4.ckpt names a class of Lightning's; it is neither imported nor made."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    module = type(sys)(name)
    kept = type("ModelCheckpoint", (), {"__module__": name, "__init__": lambda self, *_: None})
    module.ModelCheckpoint = kept  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pytorch_lightning", type(sys)("pytorch_lightning"))
        patch.setitem(sys.modules, "pytorch_lightning.callbacks", type(sys)("pytorch_lightning.callbacks"))
        patch.setitem(sys.modules, name, module)
        callback = kept()
        callback.best = 3
        torch.save({"state_dict": TENSORS, "callbacks": {kept: {"x": callback}}}, tmp_path / "a.ckpt")
    assert name not in sys.modules
    check(tmp_path / "a.ckpt")
    assert name not in sys.modules


def test_a_tensor_may_not_repeat_what_is_stored(tmp_path: Path) -> None:
    """Strides of 0 make 4 bytes into terabytes for whoever copies them."""
    torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "a.pth")
    with pytest.raises(InvalidWeights, match="claims 4398046511104 bytes, and the file stores 4"):
        open_checkpoint(tmp_path / "a.pth")


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as read, zipfile.ZipFile(
        tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED
    ) as write:  # fmt: skip
        for name in read.namelist():
            write.writestr(name, read.read(name) + bytes(100_000))
    with pytest.raises(InvalidWeights, match="is compressed"):
        open_checkpoint(tmp_path / "b.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins b''"),
        (b"\x00" * 100, "neither"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        (b"GGUF\x03\x00\x00\x00aaaa", "GGUF"),
        (struct.pack("<Q", 1 << 60) + b"{", "safetensors file"),
        (struct.pack("<Q", 2) + b"{}", None),
        (struct.pack("<Q", 9) + b'{"a": [}]' + bytes(9), "safetensors file"),
        (b"PK\x03\x04" + bytes(200), "truncated"),
        (b"\x80\x02.", "damaged|objects"),
    ],
)
def test_files_that_are_none(tmp_path: Path, content: bytes, message: str | None) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    if message is None:
        assert not open_checkpoint(path)
        return
    with pytest.raises(InvalidWeights, match=message) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no such file"):
        open_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(UnknownModel, match="no such file"):
        open_checkpoint(tmp_path / "a.safetensors.index.json")


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_every_truncation_is_told(tmp_path: Path, kind: str) -> None:
    whole = tmp_path / "whole"
    if kind == "safetensors":
        save_file(TENSORS, whole)
    else:
        torch.save(TENSORS, whole, _use_new_zipfile_serialization=kind == "zip")
    data = whole.read_bytes()
    path = tmp_path / "part"
    for length in [*range(0, len(data), max(1, len(data) // 60)), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(InvalidWeights):
            open_checkpoint(path)


@pytest.mark.parametrize(
    "content", [[1, 2], {"state_dict": 3}, {"a": 3}, {3: torch.ones(1)}, {}, torch.ones(2)]
)
def test_pickles_without_named_tensors(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(InvalidWeights, match=r"no tensors|not tensors by name|is no text"):
        open_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a\x1b[2J", "a\nb", "a" * 513, "\u202eb"])
def test_names_that_a_terminal_would_obey(tmp_path: Path, name: str) -> None:
    torch.save({name: torch.ones(1)}, tmp_path / "a.pth")
    save_file({name: torch.ones(1)}, tmp_path / "a.safetensors")
    for path in tmp_path.iterdir():
        with pytest.raises(InvalidWeights, match="a tensor is named") as caught:
            open_checkpoint(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_damage_is_an_error_of_ours(tmp_path: Path, kind: str) -> None:
    """Bytes changed anywhere in the structure: an error of the tree, or tensors."""
    whole = tmp_path / "whole"
    if kind == "safetensors":
        save_file(TENSORS, whole)
    else:
        torch.save(TENSORS, whole, _use_new_zipfile_serialization=kind == "zip")
    data, path = whole.read_bytes(), tmp_path / "damaged"
    random = Random(1)
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(random.choice((1, 1, 4))):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        path.write_bytes(damaged)
        try:
            checkpoint = open_checkpoint(path)
            assert all(tuple(checkpoint[name].shape) == checkpoint.shape(name) for name in checkpoint)
        except InvalidWeights:
            pass


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, dtype=torch.int8)}, tmp_path / "a.safetensors")
    with pytest.raises(InvalidWeights, match="a holds int8, not floats"):
        floating(open_checkpoint(tmp_path / "a.safetensors"), "a")


MEASURE = """
import ast, sys, torch
from dataclasses import replace
from latentcodec.nn.stable_diffusion.autoencoder import SD_VAE
from latentcodec.weights.load import load_autoencoder
status = lambda: dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = lambda: int(status()["VmHWM"].split()[0]) * 1024  # ru_maxrss would include the parent's
before = peak()
config = replace(SD_VAE, channels=ast.literal_eval(sys.argv[2]))
loaded = load_autoencoder(sys.argv[1], config=config)
touched = sum(float(each.sum()) for each in loaded.module.parameters())
print(peak() - before, loaded.identity.fingerprint)
"""


SMALLER = replace(SD_VAE, channels=(64, 128, 256, 256))  # 84 MB
SIZES = [
    pytest.param(
        SMALLER, 16 << 20, id="84 MB", marks=pytest.mark.slow
    ),  # what PyTorch itself grows by in a first call
    pytest.param(
        SD_VAE,
        0,
        id="335 MB",
        marks=pytest.mark.release,
    ),
]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(("config", "more"), SIZES)
def test_memory_is_at_most_the_models_size(tmp_path: Path, config: AutoencoderConfig, more: int) -> None:
    """An SD autoencoder of which all weights are read, hashed and used."""
    with torch.device("meta"):
        shapes = AutoencoderKL(config).state_dict()
    state = {name: torch.empty(each.shape).uniform_(-0.1, 0.1) for name, each in shapes.items()}
    stored = in_layout(state, autoencoder_ldm(state), "first_stage_model.", convolutions=True)
    save_file(stored, tmp_path / "model.safetensors")
    torch.save({"state_dict": stored}, tmp_path / "model.ckpt")
    size = sum(each.nbytes for each in state.values())
    del state, stored
    told = set()
    for name in ("model.safetensors", "model.ckpt"):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(tmp_path / name), repr(config.channels)],
            env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        grown, fingerprint = done.stdout.split()
        assert int(grown) < 1.05 * size + more, name
        told.add(fingerprint)
    assert len(told) == 1  # one content, two containers
