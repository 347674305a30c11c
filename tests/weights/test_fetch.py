"""Fetching from a hub on this machine: resumed, checked, offline, refused; and what the registry says."""

from __future__ import annotations

import builtins
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file

from latentcodec.errors import InvalidArgument, InvalidWeights, MissingDependency, ModelError, UnknownModel
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAESD, TinyAutoencoder
from latentcodec.weights import fetch as module
from latentcodec.weights import store
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES
from latentcodec.weights.fetch import fetch
from latentcodec.weights.intake import add
from latentcodec.weights.load import load_autoencoder
from latentcodec.weights.registry import KNOWN, Known, KnownFile
from latentcodec.weights.store import list_models, models_folder
from tests.weights.hub import COMMIT, Hub, running
from tests.weights.made_checkpoints import random_network

pytest.importorskip("huggingface_hub", reason="the extra `hub` is not installed")

FILE = "diffusion_pytorch_model.safetensors"
OTHER = "f" * 40  # a commit
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def content() -> bytes:
    """The file of a tiny autoencoder, 10 MB."""
    return save(random_network(lambda: TinyAutoencoder(TAESD)).state_dict())


@pytest.fixture
def hub(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    with running({f"mine/tiny/{FILE}": content}) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        yield server


def register(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Known:
    """Make a model "tiny" known for the length of a test."""
    known = Known(
        name="tiny", what="a test", family="taesd", licence="MIT", restrictions=None, page="https://example.org",
        repository="mine/tiny", revision=COMMIT, files=(KnownFile(FILE, None, None),),
    )  # fmt: skip
    known = replace(known, **changes)
    monkeypatch.setattr(module, "KNOWN", MappingProxyType({"tiny": known}))
    return known


def blobs(tmp_path: Path) -> list[Path]:
    return [each for each in (tmp_path / "cache").rglob("*") if each.is_file() and ".locks" not in each.parts
            and each.stat().st_size > 1000]  # fmt: skip


def test_a_model_arrives(hub: Hub, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(content).hexdigest()
    register(monkeypatch, files=(KnownFile(FILE, len(content), digest),))
    model = fetch("tiny")
    assert (model.name, model.licence, model.source) == ("tiny", "MIT", f"mine/tiny at {COMMIT}")
    assert model.revision == COMMIT
    assert [(each.path, each.sha256) for each in model.files] == [(FILE, digest)]
    assert load_autoencoder("tiny").identity.kind == "taesd"
    (blob,) = {each.resolve() for each in blobs(tmp_path)}
    assert os.path.samefile(blob, model.path)  # one copy on the disk
    assert all(f"/resolve/{COMMIT}/" in path for _, path, _ in hub.asked if "resolve" in path)
    with pytest.raises(InvalidArgument, match="the store has such a model"):
        fetch("tiny")
    assert fetch("tiny", store_as="again").files == model.files


def note(home: Path) -> Path:
    return home / "fetching" / "tiny.json"


def test_an_unpinned_model_is_of_one_commit(
    hub: Hub, content: bytes, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch is asked once, before any file; what it stands at is told, and noted for good."""
    names = ("vae/" + FILE, "vae/config.json")
    hub.files |= {f"mine/tiny/{names[0]}": content, f"mine/tiny/{names[1]}": b"{}"}
    register(monkeypatch, revision=None, files=tuple(KnownFile(name, None, None) for name in names))
    hub.commit = OTHER
    told: list[str] = []
    model = fetch("tiny", report=told.append)
    assert (model.source, model.revision) == (f"mine/tiny at {OTHER}", OTHER)
    assert told == [f"tiny: no commit is registered; mine/tiny stands at {OTHER}: all files are of that"]
    asked = [path for _, path, _ in hub.asked]
    assert [path for path in asked if "/api/" in path] == ["/api/models/mine/tiny/revision/main"]
    assert "/resolve/" not in asked[0]
    assert all(f"/resolve/{OTHER}/" in path for path in asked[1:])
    assert not note(home).exists()


def test_an_interrupted_fetch_goes_on_with_its_commit(
    hub: Hub, content: bytes, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The branch has moved in between: what has arrived and what is to come are of one commit even so."""
    files = tuple(KnownFile(name, None, None) for name in (FILE, "x.json"))
    known = register(monkeypatch, revision=None, files=files)
    told: list[str] = []
    with pytest.raises(ModelError, match=r"x\.json cannot be fetched"):
        fetch("tiny", report=told.append)
    assert list_models() == []
    assert json.loads(note(home).read_text()) == {"repository": known.repository, "commit": COMMIT}
    hub.commit, hub.files["mine/tiny/x.json"] = OTHER, b"{}"
    assert fetch("tiny", report=told.append).revision == COMMIT
    assert told[1:] == [f"tiny: going on with mine/tiny at {COMMIT}, as the interrupted fetch before it"]
    assert not note(home).parent.exists()
    assert fetch("tiny", store_as="newer", report=told.append).revision == OTHER


def test_a_commit_that_is_gone_is_forgotten(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, revision=None)
    for bad in (
        "{",
        "[]",
        '{"repository": "mine/tiny", "commit": "main"}',
        '{"repository": "a/b", "commit": ""}',
    ):
        note(home).parent.mkdir(parents=True, exist_ok=True)
        note(home).write_text(bad)
        assert fetch("tiny").revision == COMMIT
        store.remove("tiny")
    note(home).parent.mkdir()
    note(home).write_text(json.dumps({"repository": "mine/tiny", "commit": OTHER}))
    hub.gone.add(OTHER)
    with pytest.raises(ModelError, match="cannot be fetched from mine/tiny"):
        fetch("tiny")
    assert fetch("tiny").revision == COMMIT


def test_an_unpinned_model_offline(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the cache has whole."""
    from huggingface_hub import constants

    register(monkeypatch, revision=None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"offline \(HF_HUB_OFFLINE\), and its cache has no whole copy"):
        fetch("tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetch("tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert fetch("tiny", store_as="again").revision == COMMIT
    refs = tmp_path / "cache" / "models--mine--tiny" / "refs"
    refs.mkdir(exist_ok=True)
    (refs / "main").write_text(COMMIT)
    assert fetch("tiny", store_as="branch").revision == COMMIT
    assert hub.asked == []


def test_a_broken_connection_is_resumed(hub: Hub, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    hub.cut = 3 << 20
    assert load_autoencoder(fetch("tiny").path)
    ranges = [asked for method, _, asked in hub.asked if method == "GET" and asked]
    assert ranges == [f"bytes={3 << 20}-"]


def test_offline(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked; what the cache has is used, and what it has not is said."""
    from huggingface_hub import constants

    register(monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot be fetched from mine/tiny"):
        fetch("tiny")
    assert hub.asked == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetch("tiny")
    hub.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("tiny", store_as="again").name == "again"
    assert hub.asked == []


@pytest.mark.parametrize("known_by", ["the registry", "the hub"])
def test_a_wrong_hash(
    hub: Hub, content: bytes, known_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file goes, from the hub's cache too, so that the next try does not find it again."""
    wanted = hashlib.sha256(content).hexdigest()
    register(monkeypatch, files=(KnownFile(FILE, None, wanted if known_by == "the registry" else None),))
    hub.hashes[f"mine/tiny/{FILE}"] = wanted
    hub.files[f"mine/tiny/{FILE}"] = content[:-1] + b"?"
    with pytest.raises(InvalidWeights, match=f"expected {wanted}; it is removed"):
        fetch("tiny")
    assert list_models() == []
    assert blobs(tmp_path) == []
    hub.files[f"mine/tiny/{FILE}"] = content
    fetch("tiny")


def test_a_file_that_is_no_model(hub: Hub, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Truncated at the hub itself: the hash is right, and the file is not."""
    register(monkeypatch)
    hub.files[f"mine/tiny/{FILE}"] = content[: len(content) // 2]
    with pytest.raises(InvalidWeights, match="truncated safetensors"):
        fetch("tiny")
    assert not models_folder().exists()
    register(monkeypatch, files=(KnownFile(FILE, None, None),), revision=None)
    with pytest.raises(InvalidWeights, match="truncated safetensors"):
        fetch("tiny")
    hub.commit, hub.files[f"mine/tiny/{FILE}"] = OTHER, content  # mended there: the next try gets that
    assert fetch("tiny").revision == OTHER


def test_refusals(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, files=(KnownFile("other.safetensors", None, None),))
    with pytest.raises(ModelError, match=r"other\.safetensors cannot be fetched from mine/tiny"):
        fetch("tiny")
    register(monkeypatch, repository=None)
    with pytest.raises(UnknownModel, match=r"not on the hub; get diffusion_pytorch_model\.safetensors from"):
        fetch("tiny")
    with pytest.raises(UnknownModel, match="known are tiny"):
        fetch("huge")
    with pytest.raises(InvalidArgument, match="model name"):
        fetch("tiny", store_as="a/b")
    assert not models_folder().exists()


def test_the_extra_is_named(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch)
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.startswith("huggingface_hub"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependency, match=r"pip install 'latentcodec\[hub\]'"):
        fetch("tiny")


def test_several_files(hub: Hub, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("vae/" + FILE, "vae/config.json", "model_index.json")
    hub.files |= {f"mine/tiny/{name}": b"{}" for name in names[1:]} | {f"mine/tiny/{names[0]}": content}
    register(monkeypatch, files=tuple(KnownFile(name, None, None) for name in names))
    model = fetch("tiny")
    assert sorted(each.path for each in model.files) == sorted(names)
    assert load_autoencoder("tiny").identity.kind == "taesd"


@pytest.mark.slow
def test_the_environment_is_honoured(hub: Hub, content: bytes, tmp_path: Path) -> None:
    """A whole process: HF_ENDPOINT and HF_HOME; a known model of the registry, and its licence first."""
    known = KNOWN["sd2-v"]  # neither its commit nor its hash is known
    hub.files[f"{known.repository}/{known.files[0].path}"] = content
    done = subprocess.run(
        [sys.executable, "-m", "latentcodec", "models", "fetch", "sd2-v"],
        env=os.environ | {
            "PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_XET": "1",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr.startswith(
        f"sd2-v: {known.what}\nlicence: {known.licence} ({known.page})\nrestrictions:"
    )
    assert f"\nsd2-v: no commit is registered; {known.repository} stands at {COMMIT}: all" in done.stderr
    assert done.returncode == 1  # TAESD's tensors, where Stable Diffusion was to be
    assert "holds autoencoder, where the UNet of sd2 is needed" in done.stderr
    assert any(path.is_file() and path.stat().st_size > 1e6 for path in (tmp_path / "hf").rglob("*"))
    assert list_models() == []


def test_the_licence_of_published_files_is_known(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "renamed.safetensors"
    path.write_bytes(content)
    known = register(monkeypatch, files=(KnownFile(FILE, None, hashlib.sha256(content).hexdigest()),))
    monkeypatch.setattr(store, "KNOWN", {"tiny": known})
    assert add(path, "mine").licence == "MIT"
    save_file({"encoder.0.bias": torch.ones(1)}, path)
    with pytest.raises(InvalidWeights):
        add(path, "other")


def test_the_registry() -> None:
    tiny = "taesd taesdxl taesd3 taef1 taef2"
    others = "sd-vae-ft-mse sd-vae-ft-ema sd15 sd2-base sd2-v sd2-inpainting sd2-depth sd-x4-upscaler"
    names = f"{tiny} {others} sdxl-turbo lcm-dreamshaper"
    assert set(names.split()) <= set(KNOWN)
    for name, known in KNOWN.items():
        assert (known.name, known.family in {*FAMILIES, *AUTOENCODERS}) == (name, True)
        assert known.what
        assert known.licence
        assert known.page.startswith("https://")
        assert known.revision is None or re.fullmatch(r"[0-9a-f]{40}", known.revision)
        assert known.files
        assert "RAIL" not in known.licence or known.restrictions
        for file in known.files:
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.bytes is None or file.bytes > 1000
            assert file.path.endswith((".safetensors", ".pth", ".json"))


def test_the_registry_knows_the_published_taef2() -> None:
    from tests.nn.networks import SHARED_WEIGHTS

    if not SHARED_WEIGHTS.is_dir():
        pytest.skip(f"no weights in {SHARED_WEIGHTS}")
    for file in KNOWN["taef2"].files:
        data = (SHARED_WEIGHTS / file.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.bytes, file.sha256)
