"""diffusers' pipelines as a peer of Generator: full-size models of random weights, the same tensors in both.

    family, dtype, device ─► random UNet, autoencoder, text encoders ─┬─► Generator
                                                                      └─► a pipeline of diffusers

The sizes are those of families.FAMILIES; our tokenizer serves both. Needs diffusers and transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from latentcodec.diffusion.schedule import NoiseSchedule
from latentcodec.errors import MissingDependency
from latentcodec.generate.conditioning import TextTowers
from latentcodec.generate.defaults import defaults_of
from latentcodec.generate.generator import Generator
from latentcodec.generate.models import FEW_STEPS, Model
from latentcodec.nn.graphs import Graphed
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig, AutoencoderKL
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder, TextEncoderConfig
from latentcodec.nn.stable_diffusion.tokenizer import PAD_CLIP_L, PAD_OPENCLIP, tokenize
from latentcodec.nn.stable_diffusion.unet import UNet, UNetConfig
from latentcodec.weights.checkpoints.detected import AUTOENCODER, Detected
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES, Family
from latentcodec.weights.load import Identity, LoadedAutoencoder

__all__ = ["DiffusionPair", "make_pair", "reference_unet", "reference_vae", "share"]

_COUNT = 1_000_003  # random numbers, used again and again: a full-size network has 10^9
_SIZES = 6  # numbers of SDXL's size conditioning


@dataclass
class DiffusionPair:
    """Both sides, ready to run. `theirs` takes what a pipeline of diffusers takes."""

    ours: Generator
    theirs: Any
    image_to_image: Any


def packages() -> tuple[Any, Any]:
    """diffusers and transformers. Raises MissingDependency."""
    try:
        return import_module("diffusers"), import_module("transformers")
    except ImportError as error:
        raise MissingDependency(
            "diffusers and transformers are not installed: pip install diffusers transformers"
        ) from error


def reference_unet(config: UNetConfig, size_channels: int = 256) -> Any:
    """diffusers' network of our configuration (its `attention_head_dim` is the number of heads)."""
    attends = [bool(depth) for depth in config.depth]
    depths = [depth or 1 for depth in config.depth]
    return packages()[0].UNet2DConditionModel(
        sample_size=64,
        in_channels=config.inputs,
        out_channels=config.outputs,
        block_out_channels=config.channels,
        layers_per_block=config.blocks,
        down_block_types=tuple("CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if each else "UpBlock2D" for each in attends[::-1]),
        transformer_layers_per_block=(*depths[:-1], config.middle_depth),
        attention_head_dim=config.heads,
        only_cross_attention=config.cross_only,
        use_linear_projection=config.linear_projections,
        cross_attention_dim=config.context,
        num_class_embeds=config.classes or None,
        time_cond_proj_dim=config.time_condition or None,
        addition_embed_type="text_time" if config.added else None,
        addition_time_embed_dim=size_channels if config.added else None,
        projection_class_embeddings_input_dim=config.added or None,
        norm_num_groups=config.groups,
        upcast_attention=config.upcast_attention,
    )


def reference_vae(config: AutoencoderConfig) -> Any:
    """diffusers' autoencoder of our configuration."""
    levels = len(config.channels)
    return packages()[0].AutoencoderKL(
        block_out_channels=config.channels,
        layers_per_block=config.blocks,
        latent_channels=config.latents,
        norm_num_groups=config.groups,
        scaling_factor=config.scale,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
    )


def share(reference: Any, ours: Any, dtype: torch.dtype = torch.float32) -> None:
    """The same random parameters in both, in memory once. Both are on the meta device before."""
    reference.to(dtype).to_empty(device="cpu")
    numbers = torch.randn(_COUNT, generator=torch.Generator().manual_seed(0)).repeat(2)
    for place, parameter in enumerate(reference.parameters()):
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.2
        first = place * 7919 % _COUNT
        for piece in parameter.data.flatten().split(_COUNT):
            piece.copy_(numbers[first : first + len(piece)] * spread)
    for module in reference.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(module.weight)
    for name, buffer in reference.named_buffers():
        if name.endswith("position_ids"):  # not in the file: memory without values has lost it
            buffer.copy_(torch.arange(buffer.shape[-1]))
    state = {name.removeprefix("text_model."): tensor for name, tensor in reference.state_dict().items()}
    needed = ours.state_dict()
    ours.load_state_dict({name: state[name] for name in needed}, assign=True)
    for network in (reference, ours):
        network.eval().requires_grad_(False)


def make_pair(
    family: str, dtype: torch.dtype, device: torch.device, sizes: Family | None = None
) -> DiffusionPair:
    """A family's model on both sides; SDXL as Turbo. sizes: of other networks than the family's."""
    sizes = sizes or FAMILIES[family]
    vae_config = AUTOENCODERS[sizes.autoencoder]
    if not isinstance(vae_config, AutoencoderConfig):
        raise TypeError(f"{sizes.autoencoder}: no KL autoencoder")
    vae_dtype = torch.float32 if vae_config.needs_float32 else dtype
    their_unet, unet = _both(lambda: reference_unet(sizes.unet), lambda: UNet(sizes.unet), dtype)
    their_vae, vae = _both(lambda: reference_vae(vae_config), lambda: AutoencoderKL(vae_config), vae_dtype)
    towers = [sizes.text_encoder, *([sizes.text_encoder_2] if sizes.text_encoder_2 else [])]
    texts = [_both(lambda c=c: _reference_text(c), lambda c=c: TextEncoder(c), dtype) for c in towers]
    for network in (their_unet, unet, their_vae, vae, *(each for pair in texts for each in pair)):
        network.to(device)
    detected = Detected(
        family=family,
        layout="diffusers",
        components=(AUTOENCODER,),
        kind=sizes.autoencoder,
        prediction="epsilon",
    )
    few_steps = family == "sdxl"
    defaults = defaults_of(family, "epsilon", few_steps=few_steps)
    graphs = device.type == "cuda" and defaults.steps <= FEW_STEPS
    model = Model(
        name=f"random-{family}",
        detected=detected,
        device=device,
        dtype=dtype,
        unet=unet,
        call=Graphed(unet) if graphs else unet,
        autoencoder=LoadedAutoencoder(vae, detected, Identity("random", sizes.autoencoder, "0" * 64)),
        towers=TextTowers(texts[0][1], texts[1][1] if len(texts) > 1 else None, family),
        schedule=NoiseSchedule(),
        defaults=defaults,
    )
    diffusers = packages()[0]
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    parts: dict[str, Any] = {"unet": their_unet, "vae": their_vae}
    parts |= {
        "text_encoder": texts[0][0],
        "tokenizer": _Tokenizer(PAD_CLIP_L if towers[0].quick_gelu else PAD_OPENCLIP),
    }
    if few_steps:
        scheduler = diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing", **betas)
        parts |= {
            "text_encoder_2": texts[1][0],
            "tokenizer_2": _Tokenizer(PAD_OPENCLIP),
            "scheduler": scheduler,
        }
        kinds = ("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline")
        parts |= {"add_watermarker": False}
    else:
        parts |= {"scheduler": diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **betas)}
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        kinds = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline")
    pipelines = [getattr(diffusers, kind)(**parts) for kind in kinds]
    for pipeline in pipelines:
        pipeline.set_progress_bar_config(disable=True)
    return DiffusionPair(Generator(model), *pipelines)


def _both(build_reference: Any, build_ours: Any, dtype: torch.dtype) -> tuple[Any, Any]:
    with torch.device("meta"):
        reference, ours = build_reference(), build_ours()
    share(reference, ours, dtype)
    return reference, ours


def _reference_text(config: TextEncoderConfig) -> Any:
    transformers = packages()[1]
    sizes = transformers.CLIPTextConfig(
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.feed_forward,
        projection_dim=config.projection or config.width,
        hidden_act="quick_gelu" if config.quick_gelu else "gelu",
        vocab_size=config.vocabulary,
        eos_token_id=config.end_token,
        bos_token_id=config.end_token - 1,
    )
    kind = "CLIPTextModelWithProjection" if config.projection else "CLIPTextModel"
    return getattr(transformers, kind)(sizes)


class _Tokenizer:
    """Ours, as diffusers calls its own."""

    model_max_length = 77

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, texts: str | Sequence[str], **_: Any) -> Any:
        rows = [texts] if isinstance(texts, str) else texts
        ids: Tensor = torch.tensor([tokenize(text, padding=self._padding).ids for text in rows])
        return SimpleNamespace(input_ids=ids, attention_mask=torch.ones_like(ids))

    def tokenize(self, _: str) -> list[str]:
        """What diffusers looks for words of textual inversions in: there are none."""
        return []

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        """Such words."""
        return {}
