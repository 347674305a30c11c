"""Loading a model's parts: precision, other autoencoders, LoRAs, where the parts are, what runs the UNet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.errors import InvalidArgument, InvalidWeights, ModelError, UnknownModel
from latentcodec.generate.generator import Generator
from latentcodec.generate.models import check_finite, choose_dtype, open_model
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAESD, TinyAutoencoder
from latentcodec.weights.checkpoints.families import AUTOENCODERS
from tests.toy_diffusion import VAE, random_autoencoder, save_model
from tests.weights.made_checkpoints import random_network

pytestmark = pytest.mark.usefixtures("known_toys")
CPU = torch.device("cpu")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with TAESD's two halves."""
    network, folder = random_network(lambda: TinyAutoencoder(TAESD)), tmp_path / "taesd"
    folder.mkdir()
    for half in ("encoder", "decoder"):
        save_file(getattr(network, half).state_dict(), folder / f"taesd_{half}.safetensors")
    return folder


def test_precisions() -> None:
    assert choose_dtype("auto", CPU) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    assert choose_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(InvalidArgument, match="dtype 'half': use auto, float16, bfloat16 or float32"):
        choose_dtype("half", CPU)


@pytest.mark.parametrize("dtype", [pytest.param("float16", marks=pytest.mark.slow), "bfloat16"])
def test_an_autoencoder_whose_halves_overflow_is_float32(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    plain = open_model(toy_folder, device="cpu", dtype=dtype)
    assert next(plain.autoencoder.module.parameters()).dtype == choose_dtype(dtype, CPU)
    monkeypatch.setitem(AUTOENCODERS, "kl-sd", replace(VAE, needs_float32=True))
    model = open_model(toy_folder, device="cpu", dtype=dtype)
    assert next(model.autoencoder.module.parameters()).dtype == torch.float32
    assert next(model.unet.parameters()).dtype == choose_dtype(dtype, CPU)
    made = Generator(model).text_to_image("a cat", size=(24, 16), steps=2, seed=1)
    exact = Generator.open(toy_folder, device="cpu").text_to_image("a cat", size=(24, 16), steps=2, seed=1)
    assert (made.latents - exact.latents).norm() < 0.2 * exact.latents.norm()
    assert made.parameters[0].dtype == dtype


def test_another_autoencoder(toy_folder: Path, tmp_path: Path) -> None:
    from latentcodec.weights.checkpoints import key_tables
    from tests.weights.made_checkpoints import in_layout

    state = in_layout(random_autoencoder(9).state_dict(), key_tables.AUTOENCODER_DIFFUSERS)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "other.safetensors")
    model = open_model(toy_folder, device="cpu", vae=tmp_path / "other.safetensors")
    own = open_model(toy_folder, device="cpu")
    assert model.vae == "other.safetensors"
    assert model.autoencoder.identity.fingerprint != own.autoencoder.identity.fingerprint


def test_an_autoencoder_of_other_latents_is_refused(
    toy_folder: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sixteen = random_network(lambda: TinyAutoencoder(replace(TAESD, latents=16)))
    folder = tiny.parent / "taesd3"
    folder.mkdir()
    for half in ("encoder", "decoder"):
        save_file(getattr(sixteen, half).state_dict(), folder / f"taesd3_{half}.safetensors")
    with pytest.raises(InvalidArgument, match="taesd3, and sd1 works on latents of kl-sd, which are others"):
        open_model(toy_folder, device="cpu", vae=folder)
    with pytest.raises(
        InvalidArgument, match=r"fast_decode .* taesd3, and sd1 works on .* which are others; use taesd"
    ):
        open_model(toy_folder, device="cpu", fast_decode=folder)


def test_fast_decode(toy_folder: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quick = Generator.open(toy_folder, device="cpu", fast_decode=tiny)
    made = quick.text_to_image("a cat", size=(21, 16), steps=1, preview=True, callback=lambda progress: None)
    assert made.images[0].size == (21, 16)
    assert made.parameters[0].fast_decode is True
    monkeypatch.setenv("LATENTCODEC_HOME", str(tmp_path / "home"))
    with pytest.raises(UnknownModel, match="latentcodec models fetch taesd"):
        open_model(toy_folder, device="cpu", fast_decode=True)
    from latentcodec.weights.intake import add

    add(tiny, "taesd")
    model = open_model(toy_folder, device="cpu", fast_decode=True)
    assert model.fast is not None
    assert model.fast.identity.kind == "taesd"


def test_loras_are_merged_and_noted(toy_folder: Path, tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    path = tmp_path / "style.safetensors"
    save_file(
        {f"{name}.lora_down.weight": torch.ones(1, 16), f"{name}.lora_up.weight": torch.ones(16, 1)}, path
    )
    plain = open_model(toy_folder, device="cpu").unet
    merged = open_model(toy_folder, device="cpu", loras=[(path, 0.5)])
    place = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    difference = merged.unet.get_submodule(place).weight - plain.get_submodule(place).weight  # type: ignore[operator]
    assert torch.allclose(difference, torch.full((16, 16), 0.5), atol=1e-6)
    assert merged.loras == (("style", 0.5),)
    with pytest.raises(InvalidWeights, match="holds no LoRA"):
        open_model(
            toy_folder, device="cpu", loras=[toy_folder / "vae" / "diffusion_pytorch_model.safetensors"]
        )


def test_a_name_says_that_a_model_needs_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from latentcodec.weights.checkpoints.families import FAMILIES

    monkeypatch.setitem(FAMILIES, "sd2", FAMILIES.pop("sd1"))
    assert open_model(save_model(tmp_path / "sd-turbo"), device="cpu").defaults.steps == 1
    assert open_model(save_model(tmp_path / "sd-other"), device="cpu").defaults.steps == 50


def test_compiling_runs_the_same_unet(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []

    def compile_it(module: Any) -> Any:
        compiled.append(module)
        return lambda *arguments, **options: module(*arguments, **options)

    monkeypatch.setattr(torch, "compile", compile_it)
    generator = Generator.open(toy_folder, device="cpu", compile=True)
    assert compiled == [generator.model.unet]
    assert generator.model.call is not generator.model.unet
    assert generator.text_to_image("a cat", size=(16, 16), steps=1).images


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_unet_gives_the_same_picture(toy_folder: Path) -> None:
    plain = Generator.open(toy_folder, device="cpu").text_to_image("a cat", size=(32, 32), steps=2, seed=1)
    quick = Generator.open(toy_folder, device="cpu", compile=True)
    assert torch.allclose(
        quick.text_to_image("a cat", size=(32, 32), steps=2, seed=1).latents, plain.latents, atol=1e-3
    )


def test_with_offload_each_part_is_on_the_device_while_it_works(toy_folder: Path) -> None:
    model = open_model(toy_folder, device="cpu")
    model.offload, model.device = True, torch.device("meta")
    with model.holding(model.unet, None):
        assert next(model.unet.parameters()).device.type == "meta"
        assert next(model.towers.first.parameters()).device == CPU
    assert next(model.unet.parameters()).device == CPU
    with pytest.raises(InvalidArgument, match="offload 'sometimes': use auto, always or never"):
        open_model(toy_folder, device="cpu", offload="sometimes")  # type: ignore[arg-type]


def test_what_is_not_finite_names_precision_and_cure(toy: Generator) -> None:
    bad = torch.tensor([1.0, torch.nan])
    with pytest.raises(
        ModelError, match="the latent is not finite in float16; use dtype bfloat16 or float32"
    ):
        check_finite(replace(toy.model, dtype=torch.float16), bad, "latent")
    with pytest.raises(ModelError, match="the picture is not finite in float16"):
        check_finite(toy.model, bad.half(), "picture")
    check_finite(toy.model, torch.zeros(3), "latent")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_a_gpu_it_is_the_same_picture_within_rounding(toy_folder: Path) -> None:
    options: Any = {"size": (64, 40), "steps": 3, "seed": 4, "count": 2}
    expected = Generator.open(toy_folder, device="cpu").text_to_image("a cat", **options).latents
    for offload in ("never", "always"):
        generator = Generator.open(toy_folder, device="cuda", dtype="float32", offload=offload)
        found = generator.text_to_image("a cat", **options).latents
        assert torch.allclose(found, expected, atol=1e-3)
