"""Which UNet a clean-up takes: found by the fingerprint in the store, refused for latents of another kind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.codec.cleanup import unet as cleanup_unet
from latentcodec.codec.cleanup.unet import open_unet
from latentcodec.errors import InvalidArgument
from latentcodec.weights.checkpoints.detected import UNET
from latentcodec.weights.intake import add
from latentcodec.weights.load import load_autoencoder
from latentcodec.weights.store import models_folder, stored
from tests.codec.cleanup.test_file import asking, changed, shown
from tests.conftest import photograph
from tests.toy_diffusion import save_model

CPU = torch.device("cpu")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The models whose UNets were loaded."""
    names: list[object] = []
    load = cleanup_unet.load_unet
    monkeypatch.setattr(cleanup_unet, "load_unet", lambda *given: names.append(given[0]) or load(*given))
    return names


@pytest.mark.slow
def test_only_what_may_be_it_is_loaded(toy_model: Path, tmp_path: Path, opened: list[object]) -> None:
    """Of three stored UNets the one that has the fingerprint; the store noted them when they were added."""
    from latentcodec.codec.api import Codec

    data = Codec(toy_model, "cpu", cleanup_settings=asking(toy_model, limit=1000.0)).encode(
        photograph(width=32, height=32), quality=30
    )
    add(save_model(tmp_path / "a", 2), "a")
    add(toy_model, "b")
    add(save_model(tmp_path / "c", 3), "c")
    expected = open_unet(toy_model, CPU).fingerprint.hex()
    assert stored("b").fingerprints[UNET].startswith(expected)
    opened.clear()
    shown(Codec(toy_model, "cpu"), changed(data, name="gone"), 1)
    assert opened == ["b"]


@pytest.mark.slow
def test_a_store_of_before_is_completed(toy_model: Path, tmp_path: Path, opened: list[object]) -> None:
    """Its model.json has no UNet's fingerprint: it is loaded once, and then it is known."""
    from latentcodec.codec.api import Codec

    data = Codec(toy_model, "cpu", cleanup_settings=asking(toy_model, limit=1000.0)).encode(
        photograph(width=32, height=32), quality=30
    )
    add(save_model(tmp_path / "a", 2), "a")
    add(toy_model, "b")
    before = {name: stored(name).fingerprints for name in ("a", "b")}
    for name in ("a", "b"):
        path = models_folder() / name / "model.json"
        values = json.loads(path.read_text())
        values["fingerprint"] = values.pop("fingerprints")["autoencoder"]
        path.write_text(json.dumps(values))
        assert UNET not in stored(name).fingerprints
    data = changed(data, name="gone")
    for expected in (["a", "b"], ["b"]):
        opened.clear()
        shown(Codec(toy_model, "cpu"), data, 1)
        assert opened == expected
    assert {name: stored(name).fingerprints for name in ("a", "b")} == before


def test_latents_of_another_kind_are_refused(toy_model: Path) -> None:
    """The same number of channels, and another scale: kl-sd's and kl-sdxl's."""
    unet = open_unet(toy_model, CPU)
    assert unet.detected.family == "sd1"
    unet.check(LatentCodec(load_autoencoder(toy_model), CPU))
    xl = LatentCodec(load_autoencoder(toy_model / "vae", kind="kl-sdxl"), CPU)
    message = "toy-sd is of sd1 and works on latents of kl-sd; those of vae are of kl-sdxl, .*--family"
    with pytest.raises(InvalidArgument, match=message):
        unet.check(xl)
    other = replace(unet, detected=replace(unet.detected, family="sdxl"))
    other.check(xl)
    with pytest.raises(InvalidArgument, match="is of sdxl and works on latents of kl-sdxl"):
        other.check(LatentCodec(load_autoencoder(toy_model), CPU))
    unknown = replace(unet, detected=replace(unet.detected, family="other"))
    unknown.check(xl)  # nothing is known of it: its user's business
