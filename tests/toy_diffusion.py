"""A diffusion model of a few thousand random weights, on disk as a diffusers folder, and its family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder, TextEncoderConfig
from latentcodec.nn.stable_diffusion.unet import UNet, UNetConfig
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES, Family
from tests.conftest import photograph
from tests.weights.made_checkpoints import in_layout, random_network

VAE = AutoencoderConfig(channels=(8, 8, 8, 8), blocks=1, groups=4)
UNET = UNetConfig(
    channels=(16, 32), blocks=1, depth=(1, 0), heads=(2, 2), cross_only=(False, False), context=8, groups=4
)
TEXT = TextEncoderConfig(width=8, layers=1, heads=2, feed_forward=16, quick_gelu=True)


def know_toys(patch: pytest.MonkeyPatch, unet: UNetConfig = UNET) -> None:
    """Let sizes of toys be those of Stable Diffusion 1.x, so that they are found as it is."""
    family = Family(what="toy", unet=unet, autoencoder="kl-sd", text_encoder=TEXT)
    patch.setitem(FAMILIES, "sd1", family)
    patch.setitem(AUTOENCODERS, "kl-sd", VAE)


def save_model(
    folder: Path,
    seed: int = 1,
    unet: UNetConfig = UNET,
    *,
    text: bool = True,
    second: TextEncoderConfig | None = None,
) -> Path:
    """unet/, vae/, text_encoder/ and, where it is given, text_encoder_2/, of random weights."""
    vae = random_autoencoder(seed)
    parts = {
        "vae": in_layout(vae.state_dict(), key_tables.AUTOENCODER_DIFFUSERS),
        "unet": in_layout(random_unet(unet, seed).state_dict(), key_tables.UNET_DIFFUSERS),
    }
    for name, config in (("text_encoder", TEXT if text else None), ("text_encoder_2", second)):
        if config is not None:
            state = random_text_encoder(config, seed).state_dict()
            parts[name] = in_layout(state, key_tables.TEXT_ENCODER_TRANSFORMERS)
    for name, state in parts.items():
        (folder / name).mkdir(parents=True)
        stem = "model" if name.startswith("text") else "diffusion_pytorch_model"
        save_file(
            {key: tensor.contiguous() for key, tensor in state.items()}, folder / name / f"{stem}.safetensors"
        )
    return folder


def random_text_encoder(config: TextEncoderConfig, seed: int) -> TextEncoder:
    return random_network(lambda: TextEncoder(config), seed)


def random_autoencoder(seed: int, config: AutoencoderConfig | None = None) -> AutoencoderKL:
    """Its latents and pictures have usual ranges: weights as small as random ones give neither."""
    network = random_network(lambda: AutoencoderKL(config or VAE), seed)
    x = torch.from_numpy(photograph(width=64, height=64)).permute(2, 0, 1)[None].float() / 255
    last, shows = network.quant_conv, network.decoder.conv_out
    assert last is not None
    assert last.bias is not None
    assert shows.bias is not None
    last.weight /= network.encode(x).std()
    last.bias *= 0
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
    shows.weight *= 0.2 / network.decode(z).std()
    shows.bias += 2 * (0.5 - network.decode(z).mean())
    return network


def random_unet(config: UNetConfig, seed: int) -> UNet:
    """What it says is as large as noise, and it hears the text."""
    network = random_network(lambda: UNet(config), seed)
    for name, parameter in network.named_parameters():
        if ".attn2.to_" in name:
            parameter.mul_(40)
    x = torch.randn(1, config.inputs, 8, 8, generator=torch.Generator().manual_seed(seed))
    added = torch.zeros(1, config.added) if config.added else None
    labels = torch.zeros(1, dtype=torch.int64) if config.classes else None
    context = torch.zeros(1, 1, config.context)
    network.conv_out.weight /= network(x, 100.0, context, added=added, labels=labels).std()
    return network
