"""What a model is, from the names and shapes of its tensors; every finding with its reason.

parts ─┬─ UNet: inputs, width, context, embeddings ─► family
       ├─ autoencoder: levels, latents, norms ─► kinds that fit ─► family, scale, file name ─► kind
       └─ sidecar, metadata, v_pred, a bias's spread ─► prediction

What the caller says overrides what is found, and is reported as such.
"""

from __future__ import annotations

import re

import torch

from latentcodec.errors import InvalidArgument, InvalidWeights
from latentcodec.nn.autoencoder import AutoencoderConfig
from latentcodec.nn.tiny_autoencoder import TinyAutoencoderConfig
from latentcodec.nn.unet import UNetConfig
from latentcodec.weights.checkpoint import Checkpoint
from latentcodec.weights.detected import AUTOENCODER, EPSILON, UNET, VELOCITY, Detected
from latentcodec.weights.families import AUTOENCODERS, FAMILIES
from latentcodec.weights.layouts import Part
from latentcodec.weights.model_files import ModelFiles

OTHER = "other"  # a family of sizes that are not known here: it needs its configuration
_PREDICTIONS = {
    "epsilon": EPSILON,
    "eps": EPSILON,
    "v_prediction": VELOCITY,
    "v": VELOCITY,
    "velocity": VELOCITY,
}
# Training on v spreads this bias of the last transformer block: in the field it marks the 768-v models.
_V_BIAS = {
    "ldm": "output_blocks.11.1.transformer_blocks.0.norm1.bias",
    "diffusers": "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias",
}
_V_BIAS_SPREAD = 0.09
# How names of files and folders begin, or words in them, where tensors alone do not tell.
_NAME_HINTS = {
    "kl-sdxl": ("sdxl", "xl"),
    "kl-flux": ("flux",),
    "kl-sd3": ("sd3",),
    "taesdxl": ("taesdxl",),
    "taesd3": ("taesd3",),
    "taef1": ("taef1",),
}
_LISTED = 4


def detect(model: ModelFiles, *, family: str | None = None, prediction: str | None = None) -> Detected:
    """Describe a model. family: a name of FAMILIES or AUTOENCODERS; prediction: EPSILON or VELOCITY.

    Raises InvalidArgument for other names, InvalidWeights where a sidecar names a prediction that is unknown.
    Sizes that fit no family give the family OTHER: a network of such sizes needs its configuration.
    """
    if family is not None and family not in (*FAMILIES, *AUTOENCODERS):
        raise InvalidArgument(f"family {family!r}: use one of {', '.join((*FAMILIES, *AUTOENCODERS))}")
    if prediction is not None and prediction not in (EPSILON, VELOCITY):
        raise InvalidArgument(f"prediction {prediction!r}: use {EPSILON} or {VELOCITY}")
    reasons: list[str] = []
    if UNET in model.parts:
        found, why = _unet_family(model.parts[UNET])
    elif AUTOENCODER in model.parts:
        found, why = autoencoder_kind(model)
    else:
        found, why = OTHER, "there is neither a UNet nor an autoencoder"
    if family is not None and family != found:
        reasons.append(f"family {family}: the caller says so (detected: {found}, {why})")
    else:
        reasons.append(f"family {found}: {why}")
    family = family or found
    averages = has_averages(model)
    if averages:
        reasons.append("averages: model_ema holds the UNet's averaged weights; they are loaded by default")
    if UNET in model.parts:
        predicts, why = _prediction(model, family)
        reasons.append(
            f"prediction {predicts}: {why}"
            if prediction in (None, predicts)
            else f"prediction {prediction}: the caller says so (detected: {predicts}, {why})"
        )
        prediction = prediction or predicts
    elif prediction is not None:
        raise InvalidArgument(f"prediction {prediction!r}: {model.path} has no UNet")
    unknown = model.unknown
    if unknown:
        more = ", ..." if len(unknown) > _LISTED else ""
        reasons.append(f"not used: {len(unknown)} tensors ({', '.join(unknown[:_LISTED])}{more})")
    main = next(each for each in (UNET, AUTOENCODER, *model.parts) if each in model.parts)
    return Detected(
        family=family,
        layout=model.parts[main].naming.layout,
        components=tuple(sorted(model.parts)),
        prediction=prediction,
        averages=averages,
        reasons=tuple(reasons),
    )


def autoencoder_kind(model: ModelFiles, unet_family: str | None = None) -> tuple[str, str]:
    """The kind of a model's autoencoder, and why. Raises InvalidWeights for a scale that is unknown."""
    part = model.parts[AUTOENCODER]
    measured, words = _measure_autoencoder(part.checkpoint)
    kinds = [kind for kind, config in AUTOENCODERS.items() if _sizes(config) == measured]
    if not kinds:
        return OTHER, f"an autoencoder of {words}, which no known kind has"
    if len(kinds) == 1:
        return kinds[0], words
    if unet_family in FAMILIES and FAMILIES[unet_family].autoencoder in kinds:
        return FAMILIES[unet_family].autoencoder, f"{words}, beside a UNet of {unet_family}"
    if "scale" in model.notes:
        value, place = model.notes["scale"]
        configs = {kind: AUTOENCODERS[kind] for kind in kinds}
        scales = {
            str(each.scale): kind for kind, each in configs.items() if isinstance(each, AutoencoderConfig)
        }
        if value in scales:
            return scales[value], f"{words}, scale {value} in {place}"
        if scales:
            raise InvalidWeights(
                f"{model.path}: {place} has the scale {value}; known are {', '.join(scales)}: say the kind"
            )
    names = [model.path.name, *(file.name for file in model.files)]
    tokens = [token for name in names for token in re.split(r"[\W_]+", name.lower())]
    for kind in kinds:
        if any(token.startswith(_NAME_HINTS.get(kind, ())) for token in tokens):
            return kind, f"{words}, and the name"
    return kinds[0], f"{words}; {' and '.join(kinds)} have them, {kinds[0]} is assumed: say the kind if not"


def has_averages(model: ModelFiles) -> bool:
    """Whether a file holds averaged weights of its UNet beside the others."""
    part = model.parts.get(UNET)
    if part is None or model.whole is None:
        return False
    return average_name(part.prefix + part.naming.sign) in model.whole


def average_name(name: str) -> str:
    """Where LitEma keeps the average of a tensor of `model`: its name without dots. Not invertible."""
    return "model_ema." + name.removeprefix("model.").replace(".", "")


def _unet_family(part: Part) -> tuple[str, str]:
    measured, words = _measure_unet(part.checkpoint)
    for name, family in FAMILIES.items():
        if _unet_sizes(family.unet) == measured:
            return name, words
    return OTHER, f"a UNet of {words}, which no known family has"


def _unet_sizes(config: UNetConfig) -> tuple[int, ...]:
    return (
        config.inputs,
        config.channels[0],
        config.context,
        config.classes,
        config.added,
        config.time_condition,
    )


def _measure_unet(checkpoint: Checkpoint) -> tuple[tuple[int, ...], str]:
    def size(axis: int, *names: str) -> int:
        """Along an axis of the first that is there; 0 where none is, or where it has no such axis."""
        for name in names:
            if name in checkpoint:
                shape = checkpoint.shape(name)
                return shape[axis] if axis < len(shape) else 0
        return 0

    first = ("input_blocks.0.0.weight", "conv_in.weight")
    inputs, channels = size(1, *first), size(0, *first)
    context = size(1, *(name for name in checkpoint if name.endswith(".attn2.to_k.weight")))
    classes = size(0, "label_emb.weight", "class_embedding.weight")
    added = size(1, "label_emb.0.0.weight", "add_embedding.linear_1.weight")
    guidance = size(1, "time_embed.cond_proj.weight", "time_embedding.cond_proj.weight")
    words = f"{inputs} input channels, {channels} wide, context {context}"
    for number, what in ((classes, "classes"), (added, "added"), (guidance, "guidance embedding")):
        words += f", {what} {number}" if number else ""
    return (inputs, channels, context, classes, added, guidance), words


def _sizes(config: AutoencoderConfig | TinyAutoencoderConfig) -> tuple[int, ...]:
    if isinstance(config, TinyAutoencoderConfig):
        return (0, config.latents, int(config.midblock_norm))
    return (len(config.channels), config.channels[0], config.latents, int(config.quant_convolutions))


def _measure_autoencoder(checkpoint: Checkpoint) -> tuple[tuple[int, ...], str]:
    def size(name: str, axis: int) -> int:
        shape = checkpoint.shape(name) if name in checkpoint else ()
        return shape[axis] if axis < len(shape) else 0

    if "encoder.conv_in.weight" not in checkpoint:  # the TAESD family
        latents = size("decoder.1.weight", 1) or size("decoder.layers.0.weight", 1)
        norms = any(".pool." in name for name in checkpoint)
        return (0, latents, int(norms)), f"{latents} latent channels" + (", mid-block norms" * norms)
    levels = {
        found[1] for name in checkpoint if (found := re.match(r"encoder\.down(?:_blocks)?\.(\d+)\.", name))
    }
    width, latents = size("encoder.conv_in.weight", 0), size("decoder.conv_in.weight", 1)
    convolutions = "quant_conv.weight" in checkpoint
    words = f"{len(levels)} levels, {width} wide, {latents} latent channels"
    return (len(levels), width, latents, int(convolutions)), words + (
        "" if convolutions else ", no 1x1 convolutions"
    )


def _prediction(model: ModelFiles, family: str) -> tuple[str, str]:
    if "prediction" in model.notes:
        value, place = model.notes["prediction"]
        if value not in _PREDICTIONS:
            raise InvalidWeights(f"{model.path}: {place} names the prediction {value!r}; say which it is")
        return _PREDICTIONS[value], f"{place} says so"
    for name in ("v_pred", "state_dict.v_pred"):
        if model.whole is not None and name in model.whole:
            return VELOCITY, f"the file has a {name} mark"
    if family in FAMILIES and FAMILIES[family].prediction == VELOCITY:
        return VELOCITY, f"{family} is trained so"
    part = model.parts[UNET]
    name = _V_BIAS.get(part.naming.layout, "")
    if family == "sd2" and name in part.checkpoint:
        spread = float(part.checkpoint[name].to(torch.float32).std())
        side = "over" if spread > _V_BIAS_SPREAD else "not over"
        why = f"the spread of {name} is {spread:.3f}, {side} {_V_BIAS_SPREAD}"
        return (VELOCITY if spread > _V_BIAS_SPREAD else EPSILON), why
    return EPSILON, "nothing says otherwise"
