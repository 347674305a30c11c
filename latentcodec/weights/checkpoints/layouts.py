"""Which networks a file holds, and how it names their tensors.

checkpoint ─► each prefix x each naming ─► the tensor that identifies it ─► Part: network, tensors, rules
              (tables below)                ├─ none ─► what the file is instead (a LoRA, another model)
                                            └─ tensors of no Part, and not of UNUSED ─► an error
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from latentcodec.errors import InvalidWeights
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.checkpoint import Checkpoint
from latentcodec.weights.checkpoints.detected import (
    AUTOENCODER,
    DEPTH,
    SECOND_TEXT_ENCODER,
    TEXT_ENCODER,
    UNET,
)
from latentcodec.weights.checkpoints.key_rules import KeyRules, listed


@dataclass(frozen=True)
class Naming:
    """How one layout names one network. `sign`: a tensor that only this naming has.

    rules: from the network's own names.
    """

    component: str
    layout: str
    sign: str
    rules: Callable[[Collection[str]], KeyRules]


@dataclass(frozen=True)
class Part:
    """A network in a file: its tensors, without the prefix that they have there."""

    naming: Naming
    prefix: str
    checkpoint: Checkpoint


# Of two whose signs are both there, the first counts.
NAMINGS = (
    Naming(UNET, "ldm", "input_blocks.0.0.weight", key_tables.unet_ldm),
    Naming(UNET, "diffusers", "down_blocks.0.resnets.0.norm1.weight", lambda _: key_tables.UNET_DIFFUSERS),
    Naming(AUTOENCODER, "ldm", "decoder.mid.block_1.norm1.weight", key_tables.autoencoder_ldm),
    Naming(
        AUTOENCODER,
        "diffusers",
        "decoder.mid_block.attentions.0.query.weight",
        lambda _: key_tables.AUTOENCODER_DIFFUSERS_OLD,
    ),
    Naming(
        AUTOENCODER,
        "diffusers",
        "decoder.mid_block.resnets.0.norm1.weight",
        lambda _: key_tables.AUTOENCODER_DIFFUSERS,
    ),
    Naming(
        AUTOENCODER,
        "diffusers",
        "decoder.layers.2.conv.0.weight",
        key_tables.tiny_autoencoder_diffusers,
    ),
    Naming(AUTOENCODER, "taesd", "decoder.3.conv.0.weight", lambda _: key_tables.TAESD),
    Naming(
        TEXT_ENCODER,
        "diffusers",
        "text_model.embeddings.token_embedding.weight",
        lambda _: key_tables.TEXT_ENCODER_TRANSFORMERS,
    ),
    Naming(
        TEXT_ENCODER,
        "diffusers",
        "embeddings.token_embedding.weight",
        lambda _: key_tables.TEXT_ENCODER_BARE,
    ),
    Naming(TEXT_ENCODER, "open_clip", "positional_embedding", key_tables.text_encoder_open_clip),
    Naming(DEPTH, "diffusers", "dpt.embeddings.cls_token", lambda _: key_tables.DEPTH_TRANSFORMERS),
    Naming(DEPTH, "midas", "pretrained.model.cls_token", key_tables.depth_midas),
)

# Where the networks are in a whole model's file; "" is for a file of one network.
PREFIXES = (
    "model.diffusion_model.",
    "first_stage_model.",
    "cond_stage_model.transformer.",
    "cond_stage_model.model.",
    "conditioner.embedders.0.transformer.",
    "conditioner.embedders.1.model.",
    "depth_model.model.",
    "",
)
_SECOND_TEXT_ENCODER_PREFIX = "conditioner.embedders.1.model."
# Files of other things, by names that they have. The first that fits counts.
_OTHERS = (
    (r".*(lora_(up|down|A|B)|lora\.(up|down)|hada_w1_a)\b.*", "a LoRA: it changes a model and is none"),
    (r"control_model\..*|controlnet_.*|input_hint_block\..*", "a ControlNet, which this version lacks"),
    (r"string_to_param.*|emb_params|clip_[lg]", "a textual inversion: new words for a model, and no model"),
    (r"(.*\.)?joint_blocks\..*", "a Stable Diffusion 3 model; of that family only autoencoders are known"),
    (r"(.*\.)?double_(stream_)?blocks\..*", "a FLUX model; of that family only autoencoders are known"),
    (r"(optimizer|lr_scheduler).*", "a training state"),
)  # fmt: skip
_HALF = re.compile(r"\d+\.(conv\.\d+\.)?(weight|bias)")


def find_parts(checkpoint: Checkpoint) -> dict[str, Part]:
    """The networks of a file by component.

    Raises InvalidWeights where it has none that is known, or tensors that belong to none of them.
    """
    parts: dict[str, Part] = {}
    for prefix in PREFIXES:
        if prefix == "" and parts:
            break
        for naming in NAMINGS:
            component = naming.component
            if component == TEXT_ENCODER and prefix == _SECOND_TEXT_ENCODER_PREFIX:
                component = SECOND_TEXT_ENCODER
            if prefix + naming.sign in checkpoint and component not in parts:
                parts[component] = Part(naming, prefix, checkpoint.within(prefix))
    if not parts:
        raise InvalidWeights(f"{checkpoint.path}: {_what_else(checkpoint)}")
    _check_rest(checkpoint, parts)
    return parts


def average_name(name: str) -> str:
    """Where LitEma keeps the average of a tensor of `model`: its name without dots. Not invertible."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def _check_rest(checkpoint: Checkpoint, parts: Mapping[str, Part]) -> None:
    """Raise InvalidWeights that lists the tensors of none of these networks that are not of UNUSED either."""
    prefixes = tuple(part.prefix for part in parts.values())
    unet = parts.get(UNET)
    averages = {average_name(unet.prefix + name) for name in unet.checkpoint} if unet else set()
    unknown = sorted(
        name
        for name in checkpoint
        if not name.startswith(prefixes)
        and name not in averages
        and not any(re.fullmatch(pattern, name) for pattern in key_tables.UNUSED)
    )
    if unknown:
        raise InvalidWeights(
            f"{checkpoint.path}: {listed('unexpected', unknown)}: they belong to none of its networks "
            f"({', '.join(parts)}), so that it is not what it seems, or of a kind that this version lacks"
        )


def _what_else(checkpoint: Checkpoint) -> str:
    names = sorted(checkpoint)
    for pattern, description in _OTHERS:
        if any(re.fullmatch(pattern, name) for name in names):
            return f"holds {description}"
    if names and _HALF.fullmatch(names[0]):
        return "looks like one half of a tiny autoencoder: give the folder that has *_encoder and *_decoder"
    first_names = ", ".join(names[:4])
    return f"holds no network that this version knows; its {len(names)} tensors begin with {first_names}"
