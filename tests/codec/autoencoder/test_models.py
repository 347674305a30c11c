"""Which autoencoder a file means, and which UNet: by fingerprint, with its name as a hint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from latentcodec.codec.api import Codec
from latentcodec.codec.autoencoder import models
from latentcodec.errors import InvalidWeights, UnknownModel, WeightsMismatch
from latentcodec.weights.intake import add
from tests.conftest import photograph
from tests.toy_autoencoder import save_pair


def test_a_missing_model_is_named_with_the_way_out(toy: Codec, codec: Codec) -> None:
    data = toy.encode(photograph(width=16, height=16))
    with pytest.raises(UnknownModel, match=r"autoencoder toy \(taesd, fingerprint .*models add"):
        codec.decode(data)


def test_an_autoencoder_that_was_used_before_is_not_blamed(toy: Codec, tmp_path: Path) -> None:
    other = save_pair(tmp_path / "other" / "second", 2)
    add(other, "second")
    reader = Codec(device="cpu")
    reader.decode(Codec(other, "cpu").encode(photograph(width=16, height=16)))
    with pytest.raises(UnknownModel, match=r"needs the autoencoder toy .* not installed"):
        reader.decode(toy.encode(photograph(width=16, height=16)))


def test_a_model_is_found_by_name_and_by_fingerprint(toy: Codec, codec: Codec, pair: Path) -> None:
    data = toy.encode(photograph(width=16, height=16))
    wanted = np.asarray(toy.decode(data))
    add(pair, "toy")
    assert (np.asarray(codec.decode(data)) == wanted).all()
    named = Codec("toy", "cpu").encode(photograph(width=16, height=16))
    assert (np.asarray(codec.decode(named)) == wanted).all()


def test_a_model_under_another_name_is_found(toy: Codec, pair: Path) -> None:
    data = toy.encode(photograph(width=16, height=16))
    add(pair, "renamed")
    assert Codec(device="cpu").decode(data).size == (16, 16)


def test_other_weights_of_the_name_are_refused(toy: Codec, tmp_path: Path) -> None:
    data = toy.encode(photograph(width=16, height=16))
    other = save_pair(tmp_path / "other" / "toy", 2)
    with pytest.raises(WeightsMismatch, match="fingerprint"):
        Codec(other, "cpu").decode(data)
    add(other, "toy")
    with pytest.raises(WeightsMismatch, match="toy here has fingerprint"):
        Codec(device="cpu").decode(data)


def test_what_the_user_gave_is_not_forgotten(toy: Codec, pair: Path, tmp_path: Path) -> None:
    """A file of another autoencoder came in between, and the user's is in no store."""
    other = save_pair(tmp_path / "other" / "second", 2)
    add(other, "second")
    reader = Codec(pair, "cpu")
    reader.decode(Codec(other, "cpu").encode(photograph(width=16, height=16)))
    assert reader.decode(toy.encode(photograph(width=16, height=16))).size == (16, 16)


def test_a_damaged_one_of_the_name_hides_no_other(toy: Codec, pair: Path, home: Path, tmp_path: Path) -> None:
    data = toy.encode(photograph(width=16, height=16))
    add(save_pair(tmp_path / "other" / "toy", 2), "toy")
    (home / "models" / "toy" / "files" / "toy_decoder.pth").write_bytes(b"damaged")
    with pytest.raises(InvalidWeights, match="toy_decoder"):
        Codec(device="cpu").decode(data)
    add(pair, "renamed")
    assert Codec(device="cpu").decode(data).size == (16, 16)


def test_only_what_may_be_it_is_loaded(
    toy: Codec, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(save_pair(tmp_path / "other" / "first", 2), "first")
    add(pair, "renamed")
    opened: list[object] = []
    load = models.load_autoencoder
    monkeypatch.setattr(models, "load_autoencoder", lambda *given: opened.append(given[0]) or load(*given))
    Codec(device="cpu").decode(toy.encode(photograph(width=16, height=16)))
    assert opened == ["renamed"]


@pytest.mark.parametrize("prefix", ["vae.", "module.", "_orig_mod.", "first_stage_model._orig_mod."])
def test_names_of_training_and_whole_models_make_no_other_model(
    pair: Path, tmp_path: Path, prefix: str
) -> None:
    """Files that one autoencoder wrote decode with the same under other names, in a FLUX file as well."""
    halves = {
        half: torch.load(pair / f"toy_{half}.pth", weights_only=True) for half in ("encoder", "decoder")
    }
    state = {f"{prefix}{half}.{name}": part for half, parts in halves.items() for name, part in parts.items()}
    if prefix == "vae.":
        state["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"] = torch.ones(2, 2)
    save_file(state, tmp_path / "taesd.safetensors")
    pixels = photograph(width=64, height=64)
    plain, named = Codec(pair, "cpu"), Codec(tmp_path / "taesd.safetensors", "cpu")
    data = named.encode(pixels)
    assert np.array_equal(np.asarray(plain.decode(data)), np.asarray(named.decode(data)))
    assert len(plain.encode(pixels)) == pytest.approx(len(data), abs=8)  # they have names of their own
