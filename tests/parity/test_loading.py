"""The key rules against diffusers' own converters and the reference networks' names.

our tensors ─► ldm layout (our tables) ─► diffusers' converter ─► diffusers' names: must be ours again
                          └─► file ─► our loader ─► network ─► output, as diffusers' on its conversion
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL as ReferenceAutoencoder
from diffusers import AutoencoderTiny
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, DPTConfig, DPTForDepthEstimation

from latentcodec.nn.stable_diffusion.autoencoder import (
    FLUX_VAE,
    SD_VAE,
    SDXL_VAE,
    X4_VAE,
    AutoencoderConfig,
    AutoencoderKL,
)
from latentcodec.nn.stable_diffusion.depth import DPT_HYBRID, DepthEstimator
from latentcodec.nn.stable_diffusion.text_encoder import (
    CLIP_L,
    OPENCLIP_BIGG,
    OPENCLIP_H,
    OPENCLIP_H_TRUNCATED,
    TextEncoder,
)
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TAESD, TinyAutoencoder
from latentcodec.nn.stable_diffusion.unet import UNet, size_embedding
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.families import FAMILIES
from latentcodec.weights.load import load_autoencoder, load_text_encoder, load_unet
from tests.parity.test_unet import TINY, reference_of
from tests.weights.made_checkpoints import State, in_layout, random_network, with_averages

UNET_PREFIX, VAE_PREFIX = "model.diffusion_model.", "first_stage_model."
# Sizes at which every block has another shape, so that swapped tensors are noticed.
SMALL_VAE = AutoencoderConfig(channels=(8, 16, 24, 32), groups=4)


def on_meta(build: Callable[[], nn.Module]) -> State:
    with torch.device("meta"):
        return build().state_dict()


def same(found: State, expected: State) -> None:
    """Equal in names and, where they hold any, in values."""
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape, name
        assert tensor.is_meta or torch.equal(found[name], tensor), name


def unet_options(config: Any) -> dict[str, Any]:
    return {
        "layers_per_block": config.blocks,
        "num_class_embeds": config.classes or None,
        "addition_embed_type": "text_time" if config.added else None,
        "class_embed_type": None,
    }


# diffusers' converter knows no guidance embedding, and numbers of blocks that no family has confuse it.
CONVERTIBLE = [name for name in TINY if name not in ("LCM", "everything at once", "one level, three blocks")]


@pytest.mark.parametrize("name", CONVERTIBLE)
def test_tiny_unets_of_the_ldm_layout(name: str, tmp_path: Path) -> None:
    config = TINY[name]
    network = random_network(lambda: UNet(config))
    checkpoint = in_layout(network.state_dict(), key_tables.unet_ldm(network.state_dict()), UNET_PREFIX)
    converted = convert_ldm_unet_checkpoint(dict(checkpoint), unet_options(config))
    same(converted, network.state_dict())
    save_file(checkpoint, tmp_path / "unet.safetensors")
    loaded = load_unet(tmp_path / "unet.safetensors", config=config).module
    same(loaded.state_dict(), converted)
    reference = reference_of(config, size_channels=8).eval()
    reference.load_state_dict(converted)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, config.inputs, 8, 8, generator=generator)
    context = torch.randn(1, 5, config.context, generator=generator)
    labels = torch.tensor([3]) if config.classes else None
    pooled = torch.randn(1, config.added - 6 * 8, generator=generator) if config.added else None
    sizes = torch.tensor([[8.0, 8, 0, 0, 8, 8]])
    more = {"text_embeds": pooled, "time_ids": sizes} if config.added else None
    with torch.no_grad():
        expected = reference(x, 7, context, class_labels=labels, added_cond_kwargs=more).sample
        found = loaded(x, 7, context, labels=labels, added=_added(pooled, sizes))
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def _added(pooled: torch.Tensor | None, sizes: torch.Tensor) -> torch.Tensor | None:
    return None if pooled is None else size_embedding(pooled, sizes, 8)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "lcm"])
def test_full_size_names_of_unets(family: str) -> None:
    """All names of every family, without memory: forth by our table and back by diffusers' converter."""
    config = FAMILIES[family].unet
    ours = on_meta(lambda: UNet(config))
    checkpoint = in_layout(ours, key_tables.unet_ldm(ours), UNET_PREFIX)
    assert f"{UNET_PREFIX}output_blocks.8.0.skip_connection.weight" in checkpoint
    same(convert_ldm_unet_checkpoint(checkpoint, unet_options(config)), ours)


def test_averages(tmp_path: Path) -> None:
    config = TINY["SD 2"]
    plain, averaged = (random_network(lambda: UNet(config), seed) for seed in (1, 2))
    rules = key_tables.unet_ldm(plain.state_dict())
    checkpoint = with_averages(
        in_layout(plain.state_dict(), rules, UNET_PREFIX),
        in_layout(averaged.state_dict(), rules, UNET_PREFIX),
    )
    torch.save({"state_dict": checkpoint, "epoch": 3}, tmp_path / "model.ckpt")
    for averages, extract, expected in (
        (None, True, averaged),
        (True, True, averaged),
        (False, False, plain),
    ):
        converted = convert_ldm_unet_checkpoint(dict(checkpoint), unet_options(config), extract_ema=extract)
        loaded = load_unet(tmp_path / "model.ckpt", config=config, averages=averages)
        same(loaded.module.state_dict(), converted)
        same(loaded.module.state_dict(), expected.state_dict())
        assert loaded.detected.averages
        took = "UNet: the averages" if extract else "UNet: the plain weights, not the averages"
        assert took in loaded.detected.reasons


@pytest.mark.parametrize("prefix", [VAE_PREFIX, ""])
def test_small_autoencoders_of_the_ldm_layout(prefix: str, tmp_path: Path) -> None:
    network = random_network(lambda: AutoencoderKL(SMALL_VAE))
    rules = key_tables.autoencoder_ldm(network.state_dict())
    checkpoint = in_layout(network.state_dict(), rules, prefix, convolutions=True)
    assert checkpoint[f"{prefix}decoder.mid.attn_1.q.weight"].shape == (32, 32, 1, 1)
    blocks = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    options = {"down_block_types": blocks[0], "up_block_types": blocks[1]}
    converted = convert_ldm_vae_checkpoint(dict(checkpoint), options)
    same(converted, network.state_dict())
    save_file(checkpoint, tmp_path / "vae.safetensors")
    loaded = load_autoencoder(tmp_path / "vae.safetensors", config=SMALL_VAE).module
    assert isinstance(loaded, AutoencoderKL)
    same(loaded.state_dict(), converted)
    reference = ReferenceAutoencoder(
        down_block_types=blocks[0],
        up_block_types=blocks[1],
        block_out_channels=SMALL_VAE.channels,
        layers_per_block=2,
        norm_num_groups=4,
    ).eval()
    reference.load_state_dict(converted)
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference.encode(picture * 2 - 1).latent_dist.mean * SMALL_VAE.scale
        found = loaded.encode(picture)
        back = reference.decode(expected / SMALL_VAE.scale).sample / 2 + 0.5
    assert (found - expected).norm() <= 1e-5 * expected.norm()
    assert (loaded.decode(expected) - back).norm() <= 1e-5 * back.norm()


@pytest.mark.parametrize("config", [SD_VAE, SDXL_VAE, X4_VAE, FLUX_VAE])
def test_full_size_names_of_autoencoders(config: AutoencoderConfig) -> None:
    ours = on_meta(lambda: AutoencoderKL(config))
    checkpoint = in_layout(ours, key_tables.autoencoder_ldm(ours), VAE_PREFIX, convolutions=True)
    levels = len(config.channels)
    options = {"down_block_types": [""] * levels, "up_block_types": [""] * levels}
    same(convert_ldm_vae_checkpoint(checkpoint, options), ours)


def _clip(config: Any) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            projection_dim=config.projection or config.width,
        )
    )


@pytest.mark.parametrize("config", [CLIP_L, OPENCLIP_H, OPENCLIP_BIGG])
def test_names_of_transformers_text_encoders(config: Any) -> None:
    theirs = on_meta(lambda: _clip(config))
    if config.projection is None:
        del theirs["text_projection.weight"]
    ours = on_meta(lambda: TextEncoder(config))
    same(in_layout(ours, key_tables.TEXT_ENCODER_TRANSFORMERS), theirs)


@pytest.mark.parametrize("truncated", [False, True])
def test_open_clip_text_encoders(truncated: bool, tmp_path: Path) -> None:
    """SD 2.x's file has the last layer and the projection, which its network lacks."""
    sizes = {"width": 16, "layers": 3, "heads": 2, "feed_forward": 24, "vocabulary": 50, "end_token": 49}
    whole = replace(OPENCLIP_H, **sizes, projection=16)
    config = replace(OPENCLIP_H_TRUNCATED, **sizes | {"layers": 2}) if truncated else whole
    network = random_network(lambda: TextEncoder(whole))
    prefix = "cond_stage_model.model."
    checkpoint = in_layout(
        network.state_dict(), key_tables.text_encoder_open_clip(network.state_dict()), prefix
    )
    assert checkpoint[f"{prefix}transformer.resblocks.0.attn.in_proj_weight"].shape == (48, 16)
    checkpoint[f"{prefix}logit_scale"] = torch.ones(())
    save_file(checkpoint, tmp_path / "model.safetensors")
    loaded = load_text_encoder(tmp_path / "model.safetensors", config=config).module
    # The converter drops SD 2.x's projection by its full name, so it is shown SDXL's prefix.
    second = "conditioner.embedders.1.model."
    shown = {name.replace(prefix, second): tensor for name, tensor in checkpoint.items()}
    reference = _clip(whole)
    converted = convert_open_clip_checkpoint(reference, shown, second)
    expected = {name.removeprefix("text_model."): tensor for name, tensor in converted.items()}
    if truncated:
        expected = {
            k: v for k, v in expected.items() if ".layers.2." not in k and k != "text_projection.weight"
        }
    same(loaded.state_dict(), expected)


@pytest.mark.parametrize("inner", ["", "text_model."])
def test_clip_text_encoder_of_sd1(inner: str, tmp_path: Path) -> None:
    config = replace(CLIP_L, width=16, layers=2, heads=2, feed_forward=24, vocabulary=50, end_token=49)
    network = random_network(lambda: TextEncoder(config))
    prefix = f"cond_stage_model.transformer.{inner}"
    checkpoint = {prefix + name: tensor for name, tensor in network.state_dict().items()}
    checkpoint[f"{prefix}embeddings.position_ids"] = torch.arange(77)[None]
    save_file(checkpoint, tmp_path / "model.safetensors")
    loaded = load_text_encoder(tmp_path / "model.safetensors", config=config).module
    converted = convert_ldm_clip_checkpoint(dict(checkpoint))
    del converted[f"{inner}embeddings.position_ids"]
    same(loaded.state_dict(), {name.removeprefix(inner): tensor for name, tensor in converted.items()})


def test_names_of_the_depth_network() -> None:
    theirs = on_meta(lambda: DPTForDepthEstimation(_dpt()))
    ours = on_meta(lambda: DepthEstimator(DPT_HYBRID))
    same(ours, theirs)


def _dpt() -> DPTConfig:
    return DPTConfig(is_hybrid=True, hidden_size=768, neck_hidden_sizes=[256, 512, 768, 768])


def test_midas_names_of_the_depth_network() -> None:
    """Names of MiDaS's own dpt_hybrid (isl-org/MiDaS, as in 512-depth-ema.ckpt), written down here."""
    ours = on_meta(lambda: DepthEstimator(DPT_HYBRID))
    found = in_layout(ours, key_tables.depth_midas(ours))
    vit = "pretrained.model."
    shapes = {
        f"{vit}cls_token": (1, 1, 768),
        f"{vit}pos_embed": (1, 577, 768),
        f"{vit}patch_embed.proj.weight": (768, 1024, 1, 1),
        f"{vit}patch_embed.backbone.stem.conv.weight": (64, 3, 7, 7),
        f"{vit}patch_embed.backbone.stem.norm.bias": (64,),
        f"{vit}patch_embed.backbone.stages.0.blocks.0.downsample.conv.weight": (256, 64, 1, 1),
        f"{vit}patch_embed.backbone.stages.2.blocks.8.norm3.weight": (1024,),
        f"{vit}blocks.0.norm1.weight": (768,),
        f"{vit}blocks.11.attn.qkv.weight": (2304, 768),
        f"{vit}blocks.11.attn.qkv.bias": (2304,),
        f"{vit}blocks.11.attn.proj.weight": (768, 768),
        f"{vit}blocks.11.mlp.fc1.weight": (3072, 768),
        f"{vit}blocks.11.mlp.fc2.bias": (768,),
        "pretrained.act_postprocess3.0.project.0.weight": (768, 1536),
        "pretrained.act_postprocess3.3.weight": (768, 768, 1, 1),
        "pretrained.act_postprocess4.4.weight": (768, 768, 3, 3),
        "scratch.layer1_rn.weight": (256, 256, 3, 3),
        "scratch.layer4_rn.weight": (256, 768, 3, 3),
        "scratch.refinenet1.resConfUnit1.conv1.weight": (256, 256, 3, 3),
        "scratch.refinenet4.out_conv.weight": (256, 256, 1, 1),
        "scratch.refinenet4.resConfUnit2.conv2.bias": (256,),
        "scratch.output_conv.0.weight": (128, 256, 3, 3),
        "scratch.output_conv.4.bias": (1,),
    }
    assert {name: tuple(found[name].shape) for name in shapes} == shapes
    assert all(name.startswith((vit, "pretrained.act_postprocess", "scratch.")) for name in found)
    assert len(found) == len(ours) - 2 * 2 * DPT_HYBRID.layers  # three matrices in one, and three biases


def test_files_that_diffusers_writes(tmp_path: Path) -> None:
    """A UNet, an autoencoder and a tiny one, saved by diffusers, half precision and shards included."""
    config = TINY["SDXL"]
    network = random_network(lambda: UNet(config))
    reference: Any = reference_of(config, size_channels=8)
    reference.load_state_dict(network.state_dict())
    reference.save_pretrained(tmp_path / "sharded" / "unet", max_shard_size="20KB")
    assert len(list((tmp_path / "sharded" / "unet").glob("*.safetensors"))) > 2
    same(load_unet(tmp_path / "sharded", config=config).module.state_dict(), network.state_dict())
    reference.half().save_pretrained(tmp_path / "half" / "unet", variant="fp16")
    loaded = load_unet(tmp_path / "half", config=config).module.state_dict()
    same(loaded, {name: tensor.half().float() for name, tensor in network.state_dict().items()})

    tiny: Any = AutoencoderTiny()
    tiny.save_pretrained(tmp_path / "tiny")
    found = load_autoencoder(tmp_path / "tiny")
    assert found.identity.kind == "taesd"
    assert isinstance(found.module, TinyAutoencoder)
    assert found.module.config == TAESD
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = tiny.eval().encode(picture * 2 - 1).latents
        torch.testing.assert_close(found.module.encode(picture), expected)
        torch.testing.assert_close(found.module.decode(expected), tiny.decode(expected).sample / 2 + 0.5)
