"""Autoencoders with random weights: of the TAESD family, on disk as the published ones are, and of the KL."""

from __future__ import annotations

from pathlib import Path

import torch

from latentcodec.codec.autoencoder.latent import LatentCodec
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAESD, TinyAutoencoder
from latentcodec.weights.checkpoints.detected import AUTOENCODER, Detected
from latentcodec.weights.load import Identity, LoadedAutoencoder
from tests.conftest import photograph


def save_pair(folder: Path, seed: int) -> Path:
    """A TAESD with random weights, as the published files are; its latents and pictures have usual ranges."""
    torch.manual_seed(seed)
    network = TinyAutoencoder(TAESD).requires_grad_(False)
    x = torch.from_numpy(photograph(width=64, height=64)).permute(2, 0, 1)[None].float() / 255
    for layer, run, given, spread in (
        (network.encoder[-1], network.encode, x, 1.0),
        (network.decoder[-1], network.decode, torch.randn(1, 4, 8, 8), 0.2),
    ):
        shown = run(given)
        assert isinstance(layer, torch.nn.Conv2d)
        assert layer.bias is not None
        layer.weight *= spread / shown.std()
        layer.bias *= 0
        layer.bias += (0.0 if run == network.encode else 0.5) - run(given).mean()
    folder.mkdir(parents=True)
    torch.save(network.encoder.state_dict(), folder / "toy_encoder.pth")
    torch.save(network.decoder.state_dict(), folder / "toy_decoder.pth")
    return folder


def kl_codec(config: AutoencoderConfig | None = None) -> LatentCodec:
    """A small KL autoencoder on the CPU, never trained."""
    torch.manual_seed(2)
    config = config or AutoencoderConfig(channels=(8, 8, 8, 8), blocks=1, groups=4)
    module = AutoencoderKL(config).eval().requires_grad_(False)
    detected = Detected(family="other", layout="diffusers", components=(AUTOENCODER,))
    loaded = LoadedAutoencoder(module, detected, Identity("tiny-kl", "other", "ab" * 32))
    return LatentCodec(loaded, torch.device("cpu"))
