"""The store: what is added is there whole, or the store is as it was."""

from __future__ import annotations

import errno
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.errors import InvalidArgument, InvalidWeights, LatentCodecError, UnknownModel
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAESD, TinyAutoencoder
from latentcodec.weights import store
from latentcodec.weights.intake import add
from latentcodec.weights.load import load_autoencoder
from latentcodec.weights.pytorch.archive import check_sums
from latentcodec.weights.store import list_models, models_folder, remove, resolve, stored, verify
from tests.weights.made_checkpoints import random_network


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and its content."""
    files = {str(each.relative_to(folder)): each for each in sorted(folder.rglob("*"))}
    return {name: each.read_bytes() if each.is_file() else b"" for name, each in files.items()}


def test_a_pair(pair: Path) -> None:
    before = everything(pair)
    model = add(pair, "mine")
    assert (model.name, model.linked, model.licence) == ("mine", False, None)
    assert model.detected is not None
    assert model.detected.family == "taef2"
    assert [each.path for each in model.files] == ["LICENSE", "mine_decoder.pth", "mine_encoder.pth"]
    assert model.bytes == sum((pair / each.path).stat().st_size for each in model.files)
    assert stored("mine") == model == resolve("mine")
    assert list_models() == [model]
    assert verify(model) == []
    assert everything(pair) == before
    shutil.rmtree(pair)
    loaded = load_autoencoder("mine")
    assert (loaded.identity.name, loaded.identity.kind) == ("mine", "taef2")
    assert loaded.identity.fingerprint == model.fingerprint


def test_a_file_and_a_diffusers_folder(single: Path, tmp_path: Path) -> None:
    assert add(single, "one").path == models_folder() / "one" / "files" / "tiny.safetensors"
    folder = tmp_path / "model"
    (folder / "vae").mkdir(parents=True)
    shutil.copy(single, folder / "vae" / "diffusion_pytorch_model.safetensors")
    shutil.copy(single, folder / "vae" / "diffusion_pytorch_model.fp16.safetensors")  # not what is loaded
    (folder / "model_index.json").write_text("{}")
    (folder / "README.md").write_text("x")
    model = add(folder, "two")
    names = ["model_index.json", "vae/diffusion_pytorch_model.safetensors"]
    assert [each.path for each in model.files] == names
    prints = {load_autoencoder(name).identity.fingerprint for name in ("one", "two", single, folder)}
    assert len(prints) == 1


def test_what_the_user_says_is_kept(single: Path) -> None:
    assert load_autoencoder(single).identity.kind == "taesd"
    add(single, "xl", family="taesdxl")
    assert load_autoencoder("xl").identity.kind == "taesdxl"
    assert load_autoencoder("xl", kind="taesd").identity.kind == "taesd"


def test_names(single: Path) -> None:
    with pytest.raises(InvalidArgument, match="own model"):
        add(single, "native")
    for name in ("", ".", "..", "a/b", "../x", "a\\b", ".hidden", "-x", "a" * 65, "a b", "ü", "a\n"):
        with pytest.raises(InvalidArgument, match="model name"):
            add(single, name)
    for name in ("a", "A.b-c_9", "0" * 64):
        assert add(single, name).name == name
    (models_folder() / "Thumbs.db").write_bytes(b"of a file manager")
    assert [each.name for each in list_models()] == sorted(("a", "A.b-c_9", "0" * 64))
    with pytest.raises(InvalidArgument, match="the store has such a model"):
        add(single, "a")


def test_a_name_means_the_store_and_a_path_the_disk(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = add(single, "thing")
    (tmp_path / "thing").mkdir()
    assert resolve("thing") == model
    assert resolve("./thing").path == Path("./thing")
    assert resolve(single).name == "tiny"
    with pytest.raises(UnknownModel, match=r"no such model in .*nor such a file; the store has thing"):
        resolve("other")
    with pytest.raises(UnknownModel, match="no such file or folder"):
        resolve("x/other")


def test_damage_is_found(pair: Path) -> None:
    model = add(pair, "mine")
    target = model.path / "mine_decoder.pth"
    data = target.read_bytes()
    target.write_bytes(data[:-1])
    assert "bytes, was added with" in verify(model)[0]
    target.write_bytes(data[:-1] + b"x")
    assert "SHA-256 is" in verify(model)[0]
    target.unlink()
    assert "missing" in verify(model)[0]


def test_what_is_not_there() -> None:
    assert list_models() == []
    for function in (stored, remove):
        with pytest.raises(UnknownModel, match="no such model"):
            function("mine")


class Exploit:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)


def bad_models(folder: Path, single: Path) -> Iterator[tuple[str, Path]]:
    yield "missing", folder / "nothing.safetensors"
    truncated = folder / "truncated.safetensors"
    truncated.write_bytes(single.read_bytes()[:-100])
    yield "truncated", truncated
    hostile = folder / "hostile.ckpt"
    torch.save({"state_dict": {"encoder.0.weight": Exploit(folder / "marker")}}, hostile)
    yield "hostile", hostile
    lora = folder / "lora.safetensors"
    save_file({"lora_unet_x.lora_up.weight": torch.ones(2)}, lora)
    yield "a LoRA", lora
    state = random_network(lambda: TinyAutoencoder(TAESD)).state_dict()
    incomplete = folder / "incomplete.safetensors"
    save_file({name: each for name, each in state.items() if name != "encoder.14.bias"}, incomplete)
    yield "incomplete", incomplete
    half = folder / "mine_encoder.pth"
    torch.save(random_network(lambda: TinyAutoencoder(TAESD)).encoder.state_dict(), half)
    yield "half a pair", half


def test_bad_models_leave_the_store_as_it_was(single: Path, tmp_path: Path, home: Path) -> None:
    add(single, "good")
    before = everything(home)
    for name, path in bad_models(tmp_path, single):
        for linked in (False, True):
            with pytest.raises(LatentCodecError) as caught:
                add(path, "bad", linked=linked)
            assert path.name in str(caught.value), name
            assert everything(home) == before, name
    assert not (tmp_path / "marker").exists()


def test_a_kind_that_does_not_fit_is_refused(single: Path, home: Path) -> None:
    """Both facts are named, and the way out."""
    for family, said in (
        ("taef2", r"taef2 \(an autoencoder of 32 latent channels, mid-block norms\)"),
        ("kl-sd", r"kl-sd \(an autoencoder of 4 levels, 128 wide, 4 latent channels\)"),
        ("sd1", r"sd1 \(an autoencoder of 4 levels, 128 wide, 4 latent channels\)"),
    ):
        message = (
            rf"tiny.safetensors: it is taesd \(4 latent .*, the caller says {said}: leave the family out"
        )
        with pytest.raises(InvalidWeights, match=message):
            add(single, "bad", family=family)
    assert not home.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_numbers_that_are_not_finite_are_refused(
    value: float, ending: str, tmp_path: Path, home: Path
) -> None:
    state = random_network(lambda: TinyAutoencoder(TAESD)).state_dict()
    state["decoder.3.conv.2.bias"][5:7] = value
    path = tmp_path / f"bad.{ending}"
    save_file(state, path) if ending == "safetensors" else torch.save({"state_dict": state}, path)
    for linked in (False, True):
        with pytest.raises(InvalidWeights, match=rf"{path}: decoder\.3\.conv\.2\.bias: 2 of its 64 values"):
            add(path, "bad", linked=linked)
    assert not home.exists()


def test_a_flipped_bit_in_a_pytorch_file(pair: Path, home: Path) -> None:
    path = pair / "mine_decoder.pth"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        InvalidWeights, match=r"mine_decoder.pth: damaged: \S+/data/\d+ in it has another CRC-32"
    ):
        add(pair, "bad")
    assert not home.exists()


@pytest.mark.parametrize("flag", [0x01, 0x20, 0x40])
def test_a_pytorch_file_that_says_it_is_encrypted_or_patched(pair: Path, home: Path, flag: int) -> None:
    """zipfile has exceptions of its own for these."""
    path = pair / "mine_decoder.pth"
    data = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + place] |= flag
            start = data.find(signature, start + 4)
    path.write_bytes(data)
    with pytest.raises(InvalidWeights, match=r"mine_decoder.pth: \S+ is encrypted or patched"):
        add(pair, "bad")
    assert not home.exists()


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (20, struct.pack("<II", 10**6, 10**6), "an entry is longer than the file"),
        (42, struct.pack("<I", 10**6), "is not at byte 1000000, where the directory has it"),
        (6, struct.pack("<H", 99), "zip file version 9.9"),
    ],
)
def test_a_pytorch_file_with_a_false_directory(
    pair: Path, home: Path, place: int, value: bytes, message: str
) -> None:
    """Sizes and offsets of its last entry that lead out of the file, and a version that there is not."""
    path = pair / "mine_decoder.pth"
    data = bytearray(path.read_bytes())
    start = data.rfind(b"PK\x01\x02") + place
    data[start : start + len(value)] = value
    path.write_bytes(data)
    with pytest.raises(InvalidWeights, match=rf"mine_decoder.pth: .*{message}"):
        check_sums(path)
    with pytest.raises(InvalidWeights, match=r"mine_decoder.pth: "):
        add(pair, "bad")
    assert not home.exists()


def test_a_full_disk(pair: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before copying where it can be known, and cleaned up where it happens on the way."""
    add(pair, "good")
    before = everything(home)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 5))  # type: ignore[attr-defined]
        with pytest.raises(OSError, match=r"the model needs \d+ bytes, 5 are free") as caught:
            add(pair, "bad")
        assert caught.value.errno == errno.ENOSPC
    assert everything(home) == before
    calls = []

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:  # the first file is in
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            add(pair, "bad")
    assert len(calls) == 2
    assert everything(home) == before


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("unshare"), reason="needs Linux with unshare")
def test_a_disk_that_is_really_full(pair: Path, tmp_path: Path) -> None:
    """A file system of 4 MB in memory, its free space not told, so that the copy itself fails."""
    mount = tmp_path / "mount"
    mount.mkdir()
    code = (
        "import os, shutil, sys\n"
        "from latentcodec.weights.intake import add\n"
        "shutil.disk_usage = lambda _: shutil._ntuple_diskusage(1 << 40, 0, 1 << 40)\n"
        "try:\n    add(sys.argv[1], 'bad')\nexcept OSError as error:\n    print(error.errno)\n"
        "print(os.listdir(os.environ['LATENTCODEC_HOME'] + '/models'))\n"
    )
    command = f'mount -t tmpfs -o size=4m none {mount} && exec {sys.executable} -c "$CODE" {pair}'
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", command],
        env=os.environ | {"LATENTCODEC_HOME": str(mount), "PYTHONPATH": str(root), "CODE": code},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no mount to be had: {done.stderr.strip()}")
    assert done.stdout.split("\n")[:2] == [str(errno.ENOSPC), "[]"]


def test_an_interruption(pair: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        add(pair, "bad")
    assert everything(home / "models") == {}


def test_what_a_killed_process_left_is_removed_in_time(single: Path) -> None:
    add(single, "a")
    old, new = (models_folder() / f"{store._INCOMING}{name}" for name in ("old", "new"))
    for each in (old, new):
        each.mkdir()
    os.utime(old, (0, 0))
    assert [each.name for each in list_models()] == ["a"]
    add(single, "b")
    assert not old.exists()
    assert new.exists()  # somebody may be at work in it


@pytest.mark.parametrize("there", [True, False])
def test_a_model_that_is_a_link_to_its_folder(single: Path, tmp_path: Path, there: bool) -> None:
    """As a full disk is relieved: the link is removed, nothing is left of it, and its folder stays."""
    add(single, "mine")
    elsewhere = tmp_path / "elsewhere"
    (models_folder() / "mine").rename(elsewhere)
    (models_folder() / "mine").symlink_to(elsewhere, target_is_directory=True)
    assert stored("mine").name == "mine"
    before = everything(elsewhere)
    if not there:
        shutil.move(elsewhere, tmp_path / "gone")
        with pytest.raises(InvalidArgument, match="the store has such a model; remove it first"):
            add(single, "mine")
    remove("mine")
    assert list(models_folder().iterdir()) == []
    assert everything(elsewhere if there else tmp_path / "gone") == before
    assert add(single, "mine").name == "mine"


def test_links_that_a_killed_process_left(single: Path, tmp_path: Path) -> None:
    add(single, "a")
    (tmp_path / "elsewhere").mkdir()
    old = models_folder() / f"{store._OUTGOING}old"
    old.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    os.utime(old, (0, 0), follow_symlinks=False)
    add(single, "b")
    assert not old.is_symlink()
    assert (tmp_path / "elsewhere").is_dir()


def test_two_at_once(single: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is taken while the copy is made: the first stays, and the second says so."""
    write = store.write_manifest

    def late(*arguments: object) -> None:
        monkeypatch.setattr(store, "write_manifest", write)
        add(single, "mine", family="taesdxl")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "write_manifest", late)
    with pytest.raises(InvalidArgument, match="the store has such a model"):
        add(single, "mine")
    detected = stored("mine").detected
    assert detected is not None
    assert detected.family == "taesdxl"
    assert [each.name for each in models_folder().iterdir()] == ["mine"]


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LATENTCODEC_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for platform, expected in (
        ("linux", tmp_path / "latentcodec"),
        ("darwin", Path.home() / "Library" / "Caches" / "latentcodec"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        assert store.home() == expected
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert store.home() == tmp_path / "local" / "latentcodec"


def test_a_stored_model_under_another_name(single: Path) -> None:
    """Its files are shared, and what the user said of it goes along."""
    first = add(single, "first", family="taesdxl")
    second = add("first", "second")
    assert os.path.samefile(first.path, second.path)
    assert (second.detected, second.source) == (first.detected, first.source)
    assert add("first", "third", family="taesd").fingerprint == first.fingerprint
    remove("first")
    assert load_autoencoder("second").identity.kind == "taesdxl"
    assert load_autoencoder("third").identity.kind == "taesd"
    with pytest.raises(InvalidArgument, match="the store has its files and shares them with x"):
        add("second", "x", linked=True)
