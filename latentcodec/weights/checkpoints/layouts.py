"""Which networks a file holds, and how it names their tensors.

checkpoint ─► each prefix x each naming ─► the tensor that identifies it ─► Part: network, tensors, rules
              (tables below)                ├─ none ─► what the file is instead (a LoRA, half an autoencoder)
                                            └─ tensors of no Part, and not of UNUSED ─► an error
a whole SD 3 or FLUX ─► its autoencoder ─► Part; transformer and text encoders are left alone
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
    "vae.",  # of FLUX and others by ComfyUI
    "cond_stage_model.transformer.",
    "cond_stage_model.model.",
    "conditioner.embedders.0.transformer.",
    "conditioner.embedders.1.model.",
    "depth_model.model.",
    "",
)


@dataclass(frozen=True)
class Transformer:
    """A transformer in a UNet's place, beside whose autoencoder nothing is used: of a family that has no
    other use here. kind: of that autoencoder, in families.AUTOENCODERS."""

    what: str
    sign: str
    kind: str


TRANSFORMERS = (
    Transformer("Stable Diffusion 3", "joint_blocks.", "kl-sd3"),
    Transformer("FLUX", "double_blocks.", "kl-flux"),
)
_TRANSFORMER_PREFIXES = ("model.diffusion_model.", "")
_TEXT_ENCODERS = "text_encoders."  # clip_l, clip_g and t5xxl, of SD 3 and FLUX alike
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
_UPWARDS = ("output_blocks.", "up_blocks.")
# Tensors of halves of autoencoders that have no naming: under a prefix of their own, or none.
_HALVES = {
    "encoder": (
        "encoder.conv_in.weight",
        "encoder.layers.0.weight",
        "encoder.0.weight",
        "down.0.block.0.norm1.weight",
    ),
    "decoder": ("up.0.block.0.norm1.weight", "up_blocks.0.resnets.0.norm1.weight"),
}
_HALF = re.compile(r"\d+\.(conv\.\d+\.)?(weight|bias)")


def find_parts(checkpoint: Checkpoint) -> dict[str, Part]:
    """The networks of a file by component.

    Raises InvalidWeights where it has none that is known, half of one, or tensors that belong to none of
    them.
    """
    parts: dict[str, Part] = {}
    beside = transformer_of(checkpoint)
    for prefix in PREFIXES:
        if prefix == "" and parts:
            break
        for naming in NAMINGS:
            component = naming.component
            if beside and component != AUTOENCODER:
                continue
            if component == TEXT_ENCODER and prefix == _SECOND_TEXT_ENCODER_PREFIX:
                component = SECOND_TEXT_ENCODER
            if prefix + naming.sign in checkpoint and component not in parts:
                parts[component] = Part(naming, prefix, checkpoint.within(prefix))
    if not parts:
        raise InvalidWeights(f"{checkpoint.path}: {_what_else(checkpoint)}")
    for part in parts.values():
        _refuse_half(part)
    _check_rest(checkpoint, parts, beside)
    return parts


def transformer_of(checkpoint: Checkpoint) -> Transformer | None:
    """What stands in the UNet's place in a whole model's file; None for a UNet, or where there is neither."""
    for transformer in TRANSFORMERS:
        signs = tuple(prefix + transformer.sign for prefix in _TRANSFORMER_PREFIXES)
        if any(name.startswith(signs) for name in checkpoint):
            return transformer
    return None


def average_name(name: str) -> str:
    """Where LitEma keeps the average of a tensor of `model`: its name without dots. Not invertible."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def _refuse_half(part: Part) -> None:
    """Raise InvalidWeights for an autoencoder's encoder or decoder without the other."""
    names = list(part.checkpoint)
    half = ""
    if part.naming.component == AUTOENCODER and not any(name.startswith("encoder.") for name in names):
        half = "decoder"
    elif part.naming.component == UNET and not any(name.startswith(_UPWARDS) for name in names):
        half = "encoder"  # whose names are those of a UNet's first half
    if half:
        raise InvalidWeights(f"{part.checkpoint.path}: holds {_half_words(half)}")


def _half_words(half: str) -> str:
    lacks = "pictures cannot be compressed with it" if half == "decoder" else "nothing can be decoded with it"
    return f"an autoencoder's {half} alone: {lacks}; use a file that has its other half too"


def _check_rest(checkpoint: Checkpoint, parts: Mapping[str, Part], beside: Transformer | None) -> None:
    """Raise InvalidWeights that lists the tensors of none of these networks that are not of UNUSED either.

    beside: the transformer whose tensors, and those of its text encoders, are no matter.
    """
    prefixes = tuple(part.prefix for part in parts.values())
    if beside is not None:
        bare = any(name.startswith(beside.sign) for name in checkpoint)
        prefixes += (_TRANSFORMER_PREFIXES[bare], _TEXT_ENCODERS)
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
        half = "encoder" if "0.weight" in checkpoint else "decoder"  # whose first layer is a saturation
        return (
            f"looks like a tiny autoencoder's {half} alone: give the folder that has *_encoder and *_decoder"
        )
    for half, signs in _HALVES.items():
        if any(sign in checkpoint for sign in signs):
            return f"holds {_half_words(half)}"
    first_names = ", ".join(names[:4])
    return f"holds no network that this version knows; its {len(names)} tensors begin with {first_names}"
