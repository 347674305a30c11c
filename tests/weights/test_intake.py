"""Another autoencoder in a model's place: added, loaded, told, refused; on toys that are taken for SD 1.x."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderKL
from latentcodec.nn.stable_diffusion.tiny_autoencoder import (
    TAEF2,
    TAESD,
    TinyAutoencoder,
    TinyAutoencoderConfig,
)
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.detected import describe
from latentcodec.weights.intake import add
from latentcodec.weights.load import load_autoencoder, load_text_encoder, load_unet
from latentcodec.weights.store import models_folder, remove, stored, verify
from tests.toy_diffusion import VAE
from tests.weights.made_checkpoints import in_layout, random_network


@pytest.fixture
def vae(tmp_path: Path) -> Path:
    """As the fine-tuned ones are published: ldm's names, no prefix, left-overs of the training."""
    state = random_network(lambda: AutoencoderKL(VAE), 7).state_dict()
    path = tmp_path / "vae-ft-mse.ckpt"
    stored = in_layout(state, key_tables.autoencoder_ldm(state), convolutions=True)
    torch.save({"state_dict": stored | {"loss.logvar": torch.ones(())}}, path)
    return path


def whole_file(folder: Path, path: Path) -> Path:
    """A diffusers folder's networks as one file in the ldm layout."""
    parts = {name: load_file(next((folder / name).glob("*.safetensors"))) for name in ("unet", "vae")}
    unet, vae = parts["unet"], parts["vae"]
    state = in_layout(unet, key_tables.unet_ldm(unet), "model.diffusion_model.")
    save_file(state | in_layout(vae, key_tables.autoencoder_ldm(vae), "first_stage_model."), path)
    return path


def tiny(folder: Path, config: TinyAutoencoderConfig) -> Path:
    folder.mkdir()
    network = random_network(lambda: TinyAutoencoder(config))
    for half in ("encoder", "decoder"):
        torch.save(getattr(network, half).state_dict(), folder / f"tiny_{half}.pth")
    return folder


def test_an_autoencoder_in_a_models_place(toy_model: Path, vae: Path) -> None:
    own, other = load_autoencoder(toy_model).identity, load_autoencoder(vae).identity
    added = add(toy_model, "sd-mse", autoencoder=vae)
    names = [each.path for each in added.files]
    assert "autoencoder/vae-ft-mse.ckpt" in names
    assert "unet/diffusion_pytorch_model.safetensors" in names
    assert not [name for name in names if name.startswith("vae/")]  # its own is not needed
    assert added.fingerprint == other.fingerprint != own.fingerprint
    assert verify(added) == []
    shutil.rmtree(toy_model)
    vae.unlink()
    loaded = load_autoencoder("sd-mse")
    assert (loaded.identity.name, loaded.identity.kind) == ("sd-mse", "kl-sd")
    assert loaded.identity.fingerprint == other.fingerprint
    assert "autoencoder kl-sd (" in describe(loaded.detected)
    assert load_unet("sd-mse").detected.family == "sd1"
    assert load_text_encoder("sd-mse").detected.family == "sd1"
    again = add("sd-mse", "again")  # what was put in its place goes along
    assert (again.fingerprint, again.files) == (added.fingerprint, added.files)


def test_of_models_in_the_store_the_files_are_shared(toy_model: Path, vae: Path, tmp_path: Path) -> None:
    """One file with two networks, and an autoencoder, both in the store already."""
    single = whole_file(toy_model, tmp_path / "toy.safetensors")
    first, second = add(single, "sd"), add(vae, "ft-mse")
    added = add("sd", "sd-mse", autoencoder="ft-mse")
    assert added.fingerprints == first.fingerprints | {"autoencoder": second.fingerprint}
    assert added.source == f"{first.source}, with the autoencoder of {second.source}"
    assert added.autoencoder is not None
    assert os.path.samefile(first.path, added.path)
    assert os.path.samefile(second.path, added.autoencoder)
    for name in ("sd", "ft-mse"):
        remove(name)
    assert verify(added) == []
    assert load_autoencoder("sd-mse").identity.fingerprint == second.fingerprint
    added.autoencoder.unlink()
    with pytest.raises(UnknownModel, match=rf"sd-mse: has lost files: 1 gone: {added.autoencoder};"):
        load_autoencoder("sd-mse")


def test_links(toy_model: Path, vae: Path) -> None:
    added = add(toy_model, "sd-mse", linked=True, autoencoder=vae)
    assert (added.path, added.autoencoder) == (toy_model.resolve(), vae.resolve())
    assert verify(added) == []
    assert not (models_folder() / "sd-mse" / "files").exists()
    assert load_autoencoder("sd-mse").identity.fingerprint == load_autoencoder(vae).identity.fingerprint
    vae.unlink()
    assert verify(stored("sd-mse")) == [f"{vae.resolve()}: missing"]
    with pytest.raises(UnknownModel, match=rf"sd-mse: is linked to {toy_model}, where 1 gone: {vae};"):
        load_unet("sd-mse")
    add(toy_model, "sd")
    with pytest.raises(InvalidArgument, match="sd: the store has its files"):
        add("sd", "x", linked=True)


def test_tiny_ones_of_the_same_latents(toy_model: Path, tmp_path: Path) -> None:
    added = add(toy_model, "small", autoencoder=tiny(tmp_path / "pair", TAESD))
    assert [each.path for each in added.files][:2] == [
        "autoencoder/tiny_decoder.pth",
        "autoencoder/tiny_encoder.pth",
    ]
    assert load_autoencoder("small").identity.kind == "taesd"
    with pytest.raises(
        InvalidWeights, match=r"32 latent channels, .* taef2 by its shapes; .*sd1 needs kl-sd"
    ):
        add(toy_model, "bad", autoencoder=tiny(tmp_path / "flux", TAEF2))


def test_what_does_not_fit_is_refused(toy_model: Path, vae: Path, home: Path, tmp_path: Path) -> None:
    """By shapes, by what it is called or says of its scale, and by what else is in it."""
    xl = shutil.copy(vae, tmp_path / "sdxl_vae.ckpt")
    with pytest.raises(InvalidWeights, match=r"sdxl_vae\.ckpt: .* kl-sdxl by the name; .* needs kl-sd"):
        add(toy_model, "bad", autoencoder=xl)
    scaled = tmp_path / "scaled"
    scaled.mkdir()
    shutil.copy(toy_model / "vae" / "diffusion_pytorch_model.safetensors", scaled)
    (scaled / "config.json").write_text('{"scaling_factor": 0.5}')
    with pytest.raises(InvalidWeights, match=r"has the scale 0\.5"):
        add(toy_model, "bad", autoencoder=scaled)
    with pytest.raises(InvalidWeights, match=r"toy-sd: holds unet, .*, where an autoencoder alone is wanted"):
        add(toy_model, "bad", autoencoder=toy_model)
    with pytest.raises(InvalidWeights, match=r"vae-ft-mse\.ckpt: holds autoencoder, and no UNet"):
        add(vae, "bad", autoencoder=vae)
    with pytest.raises(UnknownModel, match="nothing"):
        add(toy_model, "bad", autoencoder="nothing")
    assert not home.exists()


def test_a_name_that_is_taken_is_told_before_anything_is_read(toy_model: Path) -> None:
    add(toy_model, "sd")
    with pytest.raises(InvalidArgument, match="the store has such a model"):
        add("/no/such/path", "sd")


@pytest.mark.slow
def test_numbers_of_every_network_are_looked_at(toy_model: Path, home: Path) -> None:
    for part, name in (("unet", "conv_in.bias"), ("text_encoder", "text_model.final_layer_norm.bias")):
        path = next((toy_model / part).glob("*.safetensors"))
        before = path.read_bytes()
        state = load(before)
        state[name][0] = float("nan")
        save_file(state, path)
        with pytest.raises(InvalidWeights, match=rf"{path}: {name}: 1 of its"):
            add(toy_model, "bad")
        path.write_bytes(before)
    assert not home.exists()
    assert set(add(toy_model, "good").fingerprints) == {"autoencoder", "unet"}
