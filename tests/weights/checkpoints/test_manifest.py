"""What the store keeps of a model in model.json, and what becomes of models whose files are gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from latentcodec.errors import InvalidWeights, UnknownModel
from latentcodec.weights import store
from latentcodec.weights.intake import add
from latentcodec.weights.load import load_autoencoder
from latentcodec.weights.store import list_models, models_folder, remove, stored, verify


def test_manifests_are_json(single: Path) -> None:
    model = add(single, "mine")
    values = json.loads((models_folder() / "mine" / "model.json").read_text())
    assert (values["version"], values["name"], values["open"]) == (1, "mine", "tiny.safetensors")
    assert values["fingerprints"] == {"autoencoder": model.fingerprint}
    assert json.loads(json.dumps(model.to_dict()))["fingerprint"] == model.fingerprint


def test_manifests_of_before(single: Path) -> None:
    """With the autoencoder's fingerprint only, and nothing of replacements and revisions."""
    model = add(single, "mine")
    path = models_folder() / "mine" / "model.json"
    values = json.loads(path.read_text())
    for name in ("fingerprints", "revision", "autoencoder"):
        del values[name]
    del values["detected"]["kind"]
    path.write_text(json.dumps(values | {"fingerprint": model.fingerprint}))
    before = stored("mine")
    assert (before.fingerprint, before.revision, before.autoencoder) == (model.fingerprint, None, None)
    store.note("mine", "unet", "ab" * 32)
    assert stored("mine").fingerprints == {"autoencoder": model.fingerprint, "unet": "ab" * 32}
    store.note("gone", "unet", "ab" * 32)  # nothing to be done, and no error
    path.write_text(json.dumps(values | {"fingerprints": {"unet": 1}}))
    with pytest.raises(InvalidWeights, match="damaged"):
        stored("mine")


def test_links(pair: Path, home: Path) -> None:
    model = add(pair, "mine", linked=True)
    assert model.linked
    assert model.path == pair.resolve()
    assert not [each for each in home.rglob("*") if each.suffix == ".pth"]
    assert load_autoencoder("mine").identity.fingerprint == model.fingerprint
    assert verify(model) == []
    remove("mine")
    assert (pair / "mine_encoder.pth").is_file()
    add(pair, "mine", linked=True)
    (pair / "mine_encoder.pth").unlink()
    assert "missing" in verify(stored("mine"))[0]
    gone = rf"mine: is linked to {pair}, where 1 gone: {pair}/mine_encoder\.pth; .*models remove mine"
    with pytest.raises(UnknownModel, match=gone):
        load_autoencoder("mine")
    shutil.rmtree(pair)
    with pytest.raises(UnknownModel, match=rf"linked to {pair}, where 3 gone: {pair}/LICENSE, {pair}/mine_"):
        load_autoencoder("mine")
    assert [line.rpartition(": ")[2] for line in verify(stored("mine"))] == ["missing"] * 3


def test_a_link_to_a_file_that_is_gone(single: Path) -> None:
    assert add(single, "mine", linked=True).path == single.resolve()
    assert verify(stored("mine")) == []
    single.unlink()
    with pytest.raises(UnknownModel, match=rf"mine: is linked to {single}, where 1 gone: {single};"):
        load_autoencoder("mine")


def test_files_of_the_store_that_are_gone(single: Path) -> None:
    where = add(single, "mine").path
    where.unlink()
    with pytest.raises(UnknownModel, match=rf"mine: has lost files: 1 gone: {where}; .*models remove mine"):
        load_autoencoder("mine")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 2}', "[" * 100_000, " " * (2 << 20)])
def test_damaged_manifests(single: Path, text: str) -> None:
    add(single, "mine")
    add(single, "other")
    (models_folder() / "mine" / "model.json").write_text(text)
    with pytest.raises(InvalidWeights, match="remove mine and add it again"):
        stored("mine")
    assert [each.name for each in list_models()] == ["other"]
    remove("mine")
    add(single, "mine")
