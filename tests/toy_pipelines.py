"""Models of a few thousand random weights for every pipeline, in every layout that files have.

save_folder     unet/, vae/, text_encoder/ ... with config.json: needs nothing patched, whatever the process
save_single     one file of CompVis's or Stability's layout: know_families makes its sizes known
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig
from latentcodec.nn.stable_diffusion.depth import PATCH, DepthConfig, DepthEstimator
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoderConfig
from latentcodec.nn.stable_diffusion.unet import UNetConfig
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES
from tests.toy_diffusion import TEXT, UNET, VAE, random_autoencoder, random_text_encoder, random_unet
from tests.weights.made_checkpoints import in_layout, random_network, with_averages

State = dict[str, Tensor]

GELU = replace(TEXT, quick_gelu=False)
SECOND = replace(GELU, width=12, projection=12)
DEPTH = DepthConfig(
    stem=8, backbone_widths=(8, 16, 16), backbone_depths=(1, 1, 1), norm_groups=2, width=16, layers=2,
    heads=2, feed_forward=16, grid=2, taps=(1, 2), reassembled_widths=(16, 16), fusion_width=8,
)  # fmt: skip
_SECOND_GENERATION = replace(UNET, linear_projections=True)
UNETS: Mapping[str, UNetConfig] = {
    "sd1": UNET,
    "lcm": replace(UNET, time_condition=16),
    "sd2": _SECOND_GENERATION,
    "sd2-inpainting": replace(_SECOND_GENERATION, inputs=9),
    "sd2-depth": replace(_SECOND_GENERATION, inputs=5),
    "x4": replace(_SECOND_GENERATION, inputs=7, classes=400),
    "sdxl": replace(_SECOND_GENERATION, context=TEXT.width + SECOND.width, added=SECOND.width + 6 * 8),
}
VAES = {"x4": replace(VAE, channels=(8, 8, 8), scale=0.08333), "sdxl": replace(VAE, scale=0.13025)}


def texts_of(family: str) -> tuple[TextEncoderConfig, ...]:
    """One text encoder, or SDXL's two."""
    if family == "sdxl":
        return TEXT, SECOND
    return (TEXT if family in ("sd1", "lcm") else GELU,)


def know_families(patch: pytest.MonkeyPatch) -> None:
    """Let these sizes be those of the families, for files that state none."""
    for family, unet in UNETS.items():
        first, *second = texts_of(family)
        known = replace(
            FAMILIES[family], unet=unet, text_encoder=first, text_encoder_2=second[0] if second else None
        )
        patch.setitem(FAMILIES, family, known)
        patch.setitem(AUTOENCODERS, known.autoencoder, VAES.get(family, VAE))


def parts_of(family: str, seed: int = 1) -> dict[str, tuple[Any, State]]:
    """Configuration and tensors of each network, by the folder that it has with diffusers."""
    vae = VAES.get(family, VAE)
    parts: dict[str, tuple[Any, State]] = {
        "unet": (UNETS[family], random_unet(UNETS[family], seed).state_dict()),
        "vae": (vae, random_autoencoder(seed, vae).state_dict()),
    }
    for name, config in zip(("text_encoder", "text_encoder_2"), texts_of(family), strict=False):
        parts[name] = (config, random_text_encoder(config, seed).state_dict())
    if family == "sd2-depth":
        parts["depth_estimator"] = (DEPTH, random_network(lambda: DepthEstimator(DEPTH), seed).state_dict())
    return parts


def save_folder(folder: Path, family: str, seed: int = 1, *, half: bool = False, **scheduler: Any) -> Path:
    """A folder as diffusers writes it. half: the fp16 variant. scheduler: of its configuration."""
    tables = {
        "unet": key_tables.UNET_DIFFUSERS,
        "vae": key_tables.AUTOENCODER_DIFFUSERS,
        "depth_estimator": key_tables.DEPTH_TRANSFORMERS,
    }
    for name, (config, state) in parts_of(family, seed).items():
        (folder / name).mkdir(parents=True)
        stored = in_layout(state, tables.get(name, key_tables.TEXT_ENCODER_TRANSFORMERS))
        stem = "diffusion_pytorch_model" if name in ("unet", "vae") else "model"
        ending = ".fp16.safetensors" if half else ".safetensors"
        save_file(
            {key: (tensor.half() if half else tensor).contiguous() for key, tensor in stored.items()},
            folder / name / (stem + ending),
        )
        (folder / name / "config.json").write_text(json.dumps(stated(config)))
    (folder / "scheduler").mkdir()
    settings = {"steps_offset": 1, "prediction_type": "epsilon"} | scheduler
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings))
    return folder


def save_single(path: Path, family: str, seed: int = 1) -> Path:
    """One file: .safetensors, or .ckpt with the state nested and averages of the UNet beside others."""
    parts = parts_of(family, seed)
    unet, vae = (parts[name][1] for name in ("unet", "vae"))
    state = in_layout(unet, key_tables.unet_ldm(unet), "model.diffusion_model.")
    state |= in_layout(vae, key_tables.autoencoder_ldm(vae), "first_stage_model.")
    text = parts["text_encoder"][1]
    if family == "sdxl":
        second = parts["text_encoder_2"][1]
        first = "conditioner.embedders.0.transformer."
        state |= in_layout(text, key_tables.TEXT_ENCODER_TRANSFORMERS, first)
        state |= in_layout(
            second, key_tables.text_encoder_open_clip(second), "conditioner.embedders.1.model."
        )
    elif family.startswith("sd1"):
        transformers = key_tables.TEXT_ENCODER_TRANSFORMERS
        state |= in_layout(text, transformers, "cond_stage_model.transformer.")
    else:
        state |= in_layout(text, key_tables.text_encoder_open_clip(text), "cond_stage_model.model.")
    state = {key: tensor.contiguous() for key, tensor in state.items()}
    if path.suffix == ".ckpt":
        plain = {key: tensor + 1 if "diffusion_model" in key else tensor for key, tensor in state.items()}
        torch.save({"state_dict": with_averages(plain, state), "global_step": 5}, path)
    else:
        save_file(state, path)
    return path


def stated(config: object) -> dict[str, Any]:
    """A configuration as diffusers and transformers write it."""
    if isinstance(config, UNetConfig):
        return {
            "in_channels": config.inputs,
            "out_channels": config.outputs,
            "block_out_channels": config.channels,
            "layers_per_block": config.blocks,
            "down_block_types": ["CrossAttnDownBlock2D" if each else "DownBlock2D" for each in config.depth],
            "transformer_layers_per_block": (*config.depth[:-1], config.middle_depth),
            "attention_head_dim": config.heads,
            "only_cross_attention": config.cross_only,
            "use_linear_projection": config.linear_projections,
            "cross_attention_dim": config.context,
            "num_class_embeds": config.classes or None,
            "time_cond_proj_dim": config.time_condition or None,
            "projection_class_embeddings_input_dim": config.added or None,
            "norm_num_groups": config.groups,
        }
    if isinstance(config, AutoencoderConfig):
        return {
            "block_out_channels": config.channels,
            "layers_per_block": config.blocks,
            "latent_channels": config.latents,
            "norm_num_groups": config.groups,
            "scaling_factor": config.scale,
        }
    if isinstance(config, TextEncoderConfig):
        return {
            "architectures": ["CLIPTextModelWithProjection" if config.projection else "CLIPTextModel"],
            "hidden_size": config.width,
            "num_hidden_layers": config.layers,
            "num_attention_heads": config.heads,
            "intermediate_size": config.feed_forward,
            "projection_dim": config.projection or config.width,
            "hidden_act": "quick_gelu" if config.quick_gelu else "gelu",
            "vocab_size": config.vocabulary,
            "max_position_embeddings": config.length,
        }
    assert isinstance(config, DepthConfig)
    return {
        "is_hybrid": True,
        "backbone_config": {
            "embedding_size": config.stem,
            "hidden_sizes": config.backbone_widths,
            "depths": config.backbone_depths,
            "num_groups": config.norm_groups,
        },
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "image_size": PATCH * config.grid,
        "backbone_out_indices": [0, 1, *(tap - 1 for tap in config.taps)],
        "neck_hidden_sizes": [*config.backbone_widths[:2], *config.reassembled_widths],
        "fusion_hidden_size": config.fusion_width,
    }
