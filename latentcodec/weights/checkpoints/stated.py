"""The sizes of networks that no known family has, as the config.json beside their weights states them.

    unet/config.json, vae/config.json ... (diffusers, transformers) ─► UNetConfig, AutoencoderConfig ...
    UNetConfig ─► the family that it is built like

Only a folder of parts states them. Whether the weights have these sizes is found by comparing every tensor's
shape with the network's, as for known families.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from latentcodec.errors import InvalidArgument, InvalidWeights
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig
from latentcodec.nn.stable_diffusion.depth import PATCH, DepthConfig
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoderConfig
from latentcodec.nn.stable_diffusion.tiny_autoencoder import TinyAutoencoderConfig
from latentcodec.nn.stable_diffusion.unet import UNetConfig
from latentcodec.weights.checkpoints.detected import (
    AUTOENCODER,
    DEPTH,
    SECOND_TEXT_ENCODER,
    TEXT_ENCODER,
    UNET,
)
from latentcodec.weights.checkpoints.model_files import FOLDERS, ModelFiles, read_json

Config = UNetConfig | AutoencoderConfig | TinyAutoencoderConfig | TextEncoderConfig | DepthConfig

_MOST = 1 << 16  # of a size; bounds what a config.json can cost
_MOST_LEVELS = 8
_MOST_LAYERS = 64  # of one kind in a level
_ATTENDS = "CrossAttn"  # in the type of a level with attention


def stated_config(model: ModelFiles, component: str) -> Config | None:
    """The configuration of a part, as its folder states it; None where there is no such statement.

    Raises InvalidWeights for one that makes no network.
    """
    source = model.autoencoder if component == AUTOENCODER and model.autoencoder is not None else model
    if not source.path.is_dir() or component not in source.parts:
        return None
    names = [f"{folder}/config.json" for folder, part in FOLDERS.items() if part == component]
    names += ["config.json"] if len(source.parts) == 1 else []
    for place in (source.path / name for name in names):
        values = read_json(place)
        if values:
            return _parsed(place, values, _READERS[component])
    return None


def family_like(config: UNetConfig) -> str:
    """The family whose UNet is built like one of these sizes: what it reads beside the latent says it."""
    if config.added:
        return "sdxl"
    if config.classes:
        return "x4"
    if config.time_condition:
        return "lcm"
    beside = {4: "", 5: "-depth", 9: "-inpainting"}.get(config.inputs, "")
    second = config.linear_projections or beside == "-depth"  # SD 1.x has convolutions for them
    return f"sd{2 if second else 1}{beside}"


def _parsed(place: Path, values: Mapping[str, Any], read: Callable[[_Values], Config]) -> Config:
    try:
        return read(_Values(values))
    except (KeyError, TypeError, ValueError, InvalidArgument) as error:
        raise InvalidWeights(f"{place}: these sizes make no network ({error})") from error


class _Values:
    """A config.json's values, checked as they are read. Raises KeyError and ValueError."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def raw(self, name: str, default: Any = None) -> Any:
        """A value of any type; null is the default."""
        value = self._values.get(name)
        return default if value is None else value

    def size(self, name: str, default: int | None = None, most: int = _MOST) -> int:
        """A whole number of 0 to most."""
        value = self.raw(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise ValueError(f"{name} is {value!r}")
        return value

    def sizes(
        self, name: str, count: int | None = None, most: int = _MOST, default: int | None = None
    ) -> tuple[int, ...]:
        """Several; with a count a single one stands for that many."""
        value = self.raw(name, default)
        if count is not None and not isinstance(value, Sequence):
            value = [value] * count
        good = isinstance(value, list) and 1 <= len(value) <= _MOST_LEVELS
        good = good and all(type(each) is int and 0 <= each <= most for each in value)
        if not good or (count is not None and len(value) != count):
            raise ValueError(f"{name} is {value!r}")
        return tuple(value)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self.raw(name, default)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}")
        return value

    def number(self, name: str, default: float) -> float:
        """A number."""
        value = self.raw(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST:
            raise ValueError(f"{name} is {value!r}")
        return float(value)


def _unet(values: _Values) -> UNetConfig:
    channels = values.sizes("block_out_channels")
    levels = len(channels)
    attends = [_ATTENDS in str(kind) for kind in values.raw("down_block_types", [_ATTENDS] * levels)]
    depth = values.sizes("transformer_layers_per_block", levels, _MOST_LAYERS, default=1)
    # attention_head_dim means the number of heads in these files.
    heads_by = "attention_head_dim" if values.raw("num_attention_heads") is None else "num_attention_heads"
    heads = values.sizes(heads_by, levels)
    cross_only = values.raw("only_cross_attention", False)
    cross_only = [cross_only] * levels if isinstance(cross_only, bool) else cross_only
    blocks = values.sizes("layers_per_block", levels, _MOST_LAYERS)
    if len(set(blocks)) != 1 or len(attends) != levels or len(cross_only) != levels:
        raise ValueError(f"layers_per_block {blocks}, {len(attends)} block types for {levels} levels")
    return UNetConfig(
        inputs=values.size("in_channels", 4),
        outputs=values.size("out_channels", 4),
        channels=channels,
        blocks=blocks[0],
        depth=tuple(each if attending else 0 for each, attending in zip(depth, attends, strict=True)),
        middle_depth=depth[-1],
        heads=heads,
        cross_only=tuple(map(bool, cross_only)),
        linear_projections=values.flag("use_linear_projection"),
        context=values.size("cross_attention_dim"),
        classes=values.size("num_class_embeds", 0),
        added=values.size("projection_class_embeddings_input_dim", 0),
        time_condition=values.size("time_cond_proj_dim", 0),
        groups=values.size("norm_num_groups", 32),
        upcast_attention=values.flag("upcast_attention"),
    )


def _autoencoder(values: _Values) -> AutoencoderConfig | TinyAutoencoderConfig:
    if values.raw("_class_name") == "AutoencoderTiny":
        return TinyAutoencoderConfig(latents=values.size("latent_channels", 4))
    return AutoencoderConfig(
        channels=values.sizes("block_out_channels"),
        blocks=values.size("layers_per_block", 1, _MOST_LAYERS),
        latents=values.size("latent_channels", 4),
        groups=values.size("norm_num_groups", 32),
        scale=values.number("scaling_factor", 0.18215),
        shift=values.number("shift_factor", 0.0),
        quant_convolutions=values.flag("use_quant_conv", True),
        needs_float32=values.flag("force_upcast"),
    )


def _text_encoder(values: _Values) -> TextEncoderConfig:
    projects = any("WithProjection" in str(name) for name in values.raw("architectures", []))
    return TextEncoderConfig(
        width=values.size("hidden_size"),
        layers=values.size("num_hidden_layers", most=_MOST_LAYERS),
        heads=values.size("num_attention_heads"),
        feed_forward=values.size("intermediate_size"),
        projection=values.size("projection_dim") if projects else None,
        quick_gelu=values.raw("hidden_act", "quick_gelu") == "quick_gelu",
        vocabulary=values.size("vocab_size", 49408, 1 << 20),
        length=values.size("max_position_embeddings", 77),
    )


def _depth(values: _Values) -> DepthConfig:
    backbone = _Values(values.raw("backbone_config", {}))
    widths, neck = backbone.sizes("hidden_sizes"), values.sizes("neck_hidden_sizes", 4)
    depths = backbone.sizes("depths", 3, _MOST_LAYERS)
    taps = values.raw("backbone_out_indices", [0, 1, 8, 11])
    if len(widths) != 3 or not isinstance(taps, list) or len(taps) != 4:
        raise ValueError(f"hidden_sizes {widths}, backbone_out_indices {taps}")
    return DepthConfig(
        stem=backbone.size("embedding_size", 64),
        backbone_widths=(widths[0], widths[1], widths[2]),
        backbone_depths=(depths[0], depths[1], depths[2]),
        norm_groups=backbone.size("num_groups", 32),
        width=values.size("hidden_size"),
        layers=values.size("num_hidden_layers", most=_MOST_LAYERS),
        heads=values.size("num_attention_heads"),
        feed_forward=values.size("intermediate_size"),
        grid=values.size("image_size", 384) // PATCH,
        taps=(int(taps[2]) + 1, int(taps[3]) + 1),
        reassembled_widths=(neck[2], neck[3]),
        fusion_width=values.size("fusion_hidden_size", 256),
    )


_READERS: Mapping[str, Callable[[_Values], Config]] = {
    UNET: _unet,
    AUTOENCODER: _autoencoder,
    TEXT_ENCODER: _text_encoder,
    SECOND_TEXT_ENCODER: _text_encoder,
    DEPTH: _depth,
}
