"""The model families that this version knows: their networks, as data.

A family of diffusion models is a UNet with its autoencoder and text encoders; a kind of autoencoder also
stands alone. Which of them a file holds is found by comparing its shapes with these (detect).
"""

from __future__ import annotations

from dataclasses import dataclass

from latentcodec.nn.stable_diffusion import autoencoder, text_encoder, tiny_autoencoder, unet
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoderConfig
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TinyAutoencoderConfig
from latentcodec.nn.stable_diffusion.unet import UNetConfig
from latentcodec.weights.checkpoints.detected import EPSILON, VELOCITY


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of latent diffusion models.

    autoencoder: its kind, in AUTOENCODERS. prediction: what its UNet predicts unless a file says otherwise.
    """

    what: str
    unet: UNetConfig
    autoencoder: str
    text_encoder: TextEncoderConfig
    text_encoder_2: TextEncoderConfig | None = None
    prediction: str = EPSILON
    needs_depth: bool = False


# SD 2.0 and 2.1 cannot be distinguished; 2.1 needs its attention in float32, which 2.0 does not mind.
FAMILIES: dict[str, Family] = {
    "sd1": Family(
        what="Stable Diffusion 1.x",
        unet=unet.SD15,
        autoencoder="kl-sd",
        text_encoder=text_encoder.CLIP_L,
    ),
    "sd1-inpainting": Family(
        what="Stable Diffusion 1.x, inpainting",
        unet=unet.SD15_INPAINTING,
        autoencoder="kl-sd",
        text_encoder=text_encoder.CLIP_L,
    ),
    "lcm": Family(
        what="latent consistency model of Stable Diffusion 1.5",
        unet=unet.LCM,
        autoencoder="kl-sd",
        text_encoder=text_encoder.CLIP_L,
    ),
    "sd2": Family(
        what="Stable Diffusion 2.x",
        unet=unet.SD21,
        autoencoder="kl-sd",
        text_encoder=text_encoder.OPENCLIP_H_TRUNCATED,
    ),
    "sd2-inpainting": Family(
        what="Stable Diffusion 2.x, inpainting",
        unet=unet.SD2_INPAINTING,
        autoencoder="kl-sd",
        text_encoder=text_encoder.OPENCLIP_H_TRUNCATED,
    ),
    "sd2-depth": Family(
        what="Stable Diffusion 2.0, depth to image",
        unet=unet.SD2_DEPTH,
        autoencoder="kl-sd",
        text_encoder=text_encoder.OPENCLIP_H_TRUNCATED,
        needs_depth=True,
    ),
    "x4": Family(
        what="Stable Diffusion x4 upscaler",
        unet=unet.X4_UPSCALER,
        autoencoder="kl-x4",
        text_encoder=text_encoder.OPENCLIP_H_TRUNCATED,
        prediction=VELOCITY,
    ),
    "sdxl": Family(
        what="Stable Diffusion XL, base or Turbo",
        unet=unet.SDXL,
        autoencoder="kl-sdxl",
        text_encoder=text_encoder.CLIP_L,
        text_encoder_2=text_encoder.OPENCLIP_BIGG,
    ),
}

# Kinds whose networks are equal differ in scale or in their weights' training: names and neighbours decide.
AUTOENCODERS: dict[str, AutoencoderConfig | TinyAutoencoderConfig] = {
    "kl-sd": autoencoder.SD_VAE,
    "kl-sdxl": autoencoder.SDXL_VAE,
    "kl-x4": autoencoder.X4_VAE,
    "kl-sd3": autoencoder.SD3_VAE,
    "kl-flux": autoencoder.FLUX_VAE,
    "taesd": tiny_autoencoder.TAESD,
    "taesdxl": tiny_autoencoder.TAESDXL,
    "taesd3": tiny_autoencoder.TAESD3,
    "taef1": tiny_autoencoder.TAEF1,
    "taef2": tiny_autoencoder.TAEF2,
}

# Kinds of one space have each other's latents, scale and shift included: their decoders may be exchanged.
_SPACES = {
    "kl-sd": "sd",
    "kl-sdxl": "sdxl",
    "kl-x4": "x4",
    "kl-sd3": "sd3",
    "kl-flux": "flux1",
    "taesd": "sd",
    "taesdxl": "sdxl",
    "taesd3": "sd3",
    "taef1": "flux1",
    "taef2": "flux2",
}


def latent_space(name: str) -> str | None:
    """The latents that a kind gives, or that a family's UNet works on; None where that is unknown."""
    return _SPACES.get(FAMILIES[name].autoencoder if name in FAMILIES else name)
