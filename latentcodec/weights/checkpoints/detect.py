"""What a model is, from the names and shapes of its tensors; every finding with its reason.

parts ─┬─ UNet: inputs, width, context, embeddings ─► family
       ├─ autoencoder: levels, latents, norms ─► kinds that fit ─► family, scale, file name ─► kind
       └─ sidecar, metadata, v_pred, a bias's spread ─► prediction

What the caller says overrides what is found where the shapes allow both, and is reported as such; what
contradicts them is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from latentcodec.errors import InvalidArgument, InvalidWeights
from latentcodec.nn.stable_diffusion.autoencoder import AutoencoderConfig
from latentcodec.nn.stable_diffusion.tiny_autoencoder import WIDTH, TinyAutoencoderConfig
from latentcodec.nn.stable_diffusion.unet import UNetConfig
from latentcodec.weights.checkpoints.checkpoint import Checkpoint
from latentcodec.weights.checkpoints.detected import AUTOENCODER, EPSILON, UNET, VELOCITY, Detected
from latentcodec.weights.checkpoints.families import AUTOENCODERS, FAMILIES, latent_space
from latentcodec.weights.checkpoints.layouts import Part, Transformer, average_name, transformer_of
from latentcodec.weights.checkpoints.model_files import ModelFiles

OTHER = "other"  # a family of sizes that are not known here: it needs its configuration
_ANOTHER_KIND = "say which with 'latentcodec models add PATH --name NAME --family KIND'"
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
_AVERAGED = r"model_ema\.(?!decay$|num_updates$).*"  # of an autoencoder in a training's file
# How names of files and folders begin, or words in them, where tensors alone do not decide.
_NAME_HINTS = {
    "kl-sdxl": ("sdxl", "xl"),
    "kl-flux": ("flux",),
    "kl-sd3": ("sd3",),
    "taesdxl": ("taesdxl",),
    "taesd3": ("taesd3",),
    "taef1": ("taef1",),
}


def detect(
    model: ModelFiles,
    *,
    family: str | None = None,
    prediction: str | None = None,
    averages: bool | None = None,
) -> Detected:
    """Describe a model.

    family: a name of FAMILIES or AUTOENCODERS; prediction: EPSILON or VELOCITY; averages: whether the UNet's
    averages are taken (True, and by default where there are any) or the weights beside them.
    Sizes that fit no family give the family OTHER: a network of such sizes needs its configuration.
    Raises InvalidArgument for other names; InvalidWeights where the model's parts contradict each other or
    the caller's family, a sidecar names an unknown prediction, or there are no averages to be taken.
    """
    if family is not None and family not in (*FAMILIES, *AUTOENCODERS):
        raise InvalidArgument(f"family {family!r}: use one of {', '.join((*FAMILIES, *AUTOENCODERS))}")
    if prediction is not None and prediction not in (EPSILON, VELOCITY):
        raise InvalidArgument(f"prediction {prediction!r}: use {EPSILON} or {VELOCITY}")
    detected_family, why = _family(model, family)
    if family is None or family == detected_family:
        reasons = [f"family {detected_family}: {why}"]
    else:
        _check_family(model, family, detected_family, why)
        reasons = [f"family {family}: the caller says so (detected: {detected_family}, {why})"]
    family, kind = family or detected_family, None
    if AUTOENCODER in model.parts:
        kind, why = autoencoder_kind(model, family)
        if kind != family:
            reasons.append(f"autoencoder {kind}: {why}")
        if beside := _transformer(model):
            reasons.append(
                f"the autoencoder alone: {beside.what}'s transformer and text encoders are not used"
            )
        if any(re.fullmatch(_AVERAGED, name) for name in model.parts[AUTOENCODER].checkpoint):
            reasons.append("EMA: the autoencoder's plain weights are taken, not its averages (model_ema)")
    if UNET in model.parts:
        reasons += _weights_loaded(model, averages)
        predicts, why = _prediction(model, family)
        reasons.append(
            f"prediction {predicts}: {why}"
            if prediction in (None, predicts)
            else f"prediction {prediction}: the caller says so (detected: {predicts}, {why})"
        )
        prediction = prediction or predicts
        if model.whole is not None and "ztsnr" in model.whole:
            reasons.append("ztsnr: the file asks for a schedule that ends in pure noise; ours does not")
    elif prediction is not None:
        raise InvalidArgument(f"prediction {prediction!r}: {model.path} has no UNet")
    main = next(component for component in (UNET, AUTOENCODER, *model.parts) if component in model.parts)
    return Detected(
        family=family,
        layout=model.parts[main].naming.layout,
        components=tuple(sorted(model.parts)),
        kind=kind,
        prediction=prediction,
        averages=has_averages(model),
        reasons=tuple(reasons),
    )


def autoencoder_kind(model: ModelFiles, family: str | None = None) -> tuple[str, str]:
    """The kind of a model's autoencoder, and why. family: of its UNet, or the caller's word.

    Raises InvalidWeights where its shapes, or what stands beside it, contradict the family, or its scale is
    unknown.
    """
    kinds, words = _fitting_kinds(model.parts[AUTOENCODER].checkpoint)
    if not kinds:
        return OTHER, f"an autoencoder of {words}, which no known kind has"
    if family in kinds:
        return family, words if len(kinds) == 1 else f"{words}, as {family} has"
    hint = _kind_hint(model, kinds) if len(kinds) > 1 else None
    if family in FAMILIES:
        near = [kind for kind in kinds if latent_space(kind) == latent_space(family)]
        if not near or (hint and hint[0] not in near):
            kind, why = hint or (kinds[0], "by its shapes")
            raise InvalidWeights(
                f"{(model.autoencoder or model).path}: an autoencoder of {words}, {kind} {why}; a model of "
                f"{family} needs {FAMILIES[family].autoencoder}: they work on different latents. Use it by "
                "itself, or rename or correct what says so where that is wrong"
            )
        return near[0], words if len(kinds) == 1 else f"{words}, beside a UNet of {family}"
    if len(kinds) == 1:
        return kinds[0], words
    if hint:
        return hint[0], f"{words}, {hint[1]}"
    assumed = f"{kinds[0]} is assumed: where that is wrong, {_ANOTHER_KIND}"
    return kinds[0], f"{words}; {' and '.join(kinds)} have them, {assumed}"


def has_averages(model: ModelFiles) -> bool:
    """Whether a file holds averaged weights of its UNet beside the others."""
    part = model.parts.get(UNET)
    if part is None or model.whole is None:
        return False
    return average_name(part.prefix + part.naming.sign) in model.whole


def _weights_loaded(model: ModelFiles, averages: bool | None) -> list[str]:
    """Which of the UNet's weights are loaded."""
    if not has_averages(model):
        if averages:
            raise InvalidWeights(
                f"{model.path}: has no averaged weights (model_ema); load it without `averages`"
            )
        return ["UNet: the only weights that the file has"]
    return [
        "EMA: model_ema holds averages of the UNet's weights, which are taken unless the caller says no",
        "UNet: the plain weights, not the averages" if averages is False else "UNet: the averages",
    ]


def _transformer(model: ModelFiles) -> Transformer | None:
    """What stands in the UNet's place in the model's file."""
    return None if model.whole is None else transformer_of(model.whole)


def _kind_hint(model: ModelFiles, kinds: Sequence[str]) -> tuple[str, str] | None:
    """What a transformer or a scale that stands beside an autoencoder says of its kind, or its own file's
    name."""
    beside = _transformer(model)
    if beside is not None and beside.kind in kinds:
        return beside.kind, f"beside the transformer of {beside.what}"
    if "scale" in model.notes:
        value, place = model.notes["scale"]
        configs = {kind: AUTOENCODERS[kind] for kind in kinds}
        scales = {
            str(config.scale): kind
            for kind, config in configs.items()
            if isinstance(config, AutoencoderConfig)
        }
        if value in scales:
            return scales[value], f"by the scale {value} in {place}"
        if scales:
            raise InvalidWeights(
                f"{model.path}: {place} has the scale {value}; known are {', '.join(scales)}: {_ANOTHER_KIND}"
            )
    own = model.autoencoder or (model if UNET not in model.parts else None)
    names = [own.path.name, *(file.name for file in own.files)] if own else []
    tokens = [token for name in names for token in re.split(r"[\W_]+", name.lower())]
    for kind in kinds:
        if any(token.startswith(_NAME_HINTS.get(kind, ())) for token in tokens):
            return kind, "by the name"
    return None


def _family(model: ModelFiles, stated_family: str | None) -> tuple[str, str]:
    if UNET in model.parts:
        return _unet_family(model.parts[UNET])
    if AUTOENCODER not in model.parts:
        return OTHER, "there is neither a UNet nor an autoencoder"
    try:
        return autoencoder_kind(model)
    except InvalidWeights as error:
        if stated_family is None:
            raise
        return OTHER, str(error)


def _check_family(model: ModelFiles, family: str, detected_family: str, why: str) -> None:
    """Raise InvalidWeights where a model's shapes are not those of the family that the caller names.

    Sizes of no known family are left to the configuration that the caller has, or to the comparison with it.
    """
    if UNET in model.parts:
        if detected_family == OTHER and family in FAMILIES:
            return
        sizes = _unet_sizes(FAMILIES[family].unet) if family in FAMILIES else None
        if sizes is not None and sizes == _measure_unet(model.parts[UNET].checkpoint):
            return
        other = f"a UNet of {_unet_words(sizes)}" if sizes else "an autoencoder alone"
    elif AUTOENCODER in model.parts:
        kinds, _ = _fitting_kinds(model.parts[AUTOENCODER].checkpoint)
        needed = FAMILIES[family].autoencoder if family in FAMILIES else family
        if not kinds or needed in kinds:
            return
        other = f"an autoencoder of {_autoencoder_words(_sizes(AUTOENCODERS[needed]))}"
    else:
        return
    raise InvalidWeights(
        f"{model.path}: it is {detected_family} ({why}), the caller says {family} ({other}): leave the "
        "family out, or name the file that is of it"
    )


def _unet_family(part: Part) -> tuple[str, str]:
    measured = _measure_unet(part.checkpoint)
    words = _unet_words(measured)
    for name, family in FAMILIES.items():
        if _unet_sizes(family.unet) == measured:
            return name, f"a UNet of {words}"
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


def _unet_words(sizes: tuple[int, ...]) -> str:
    inputs, channels, context, *more = sizes
    words = f"{inputs} input channels, {channels} wide, context {context}"
    for number, label in zip(more, ("classes", "added", "guidance embedding"), strict=True):
        words += f", {label} {number}" if number else ""
    return words


def _measure_unet(checkpoint: Checkpoint) -> tuple[int, ...]:
    def size(axis: int, *names: str) -> int:
        """Along an axis of the first that is there; 0 where none is, or where it has no such axis."""
        for name in names:
            if name in checkpoint:
                shape = checkpoint.shape(name)
                return shape[axis] if axis < len(shape) else 0
        return 0

    first = ("input_blocks.0.0.weight", "conv_in.weight")
    return (
        size(1, *first),
        size(0, *first),
        size(1, *(name for name in checkpoint if name.endswith(".attn2.to_k.weight"))),
        size(0, "label_emb.weight", "class_embedding.weight"),
        size(1, "label_emb.0.0.weight", "add_embedding.linear_1.weight"),
        size(1, "time_embed.cond_proj.weight", "time_embedding.cond_proj.weight"),
    )


def _fitting_kinds(checkpoint: Checkpoint) -> tuple[list[str], str]:
    """The kinds that have an autoencoder's sizes, and these in words."""
    measured = _measure_autoencoder(checkpoint)
    kinds = [kind for kind, config in AUTOENCODERS.items() if _sizes(config) == measured]
    return kinds, _autoencoder_words(measured)


def _sizes(config: AutoencoderConfig | TinyAutoencoderConfig) -> tuple[int, ...]:
    """Levels, width, latents, and whether it has 1x1 convolutions; the TAESD family, of no levels: norms."""
    if isinstance(config, TinyAutoencoderConfig):
        return (0, WIDTH, config.latents, int(config.midblock_norm))
    return (len(config.channels), config.channels[0], config.latents, int(config.quant_convolutions))


def _autoencoder_words(sizes: tuple[int, ...]) -> str:
    levels, width, latents, more = sizes
    if not levels:
        return f"{latents} latent channels" + (", mid-block norms" if more else "")
    words = f"{levels} levels, {width} wide, {latents} latent channels"
    return words if more else f"{words}, no 1x1 convolutions"


def _measure_autoencoder(checkpoint: Checkpoint) -> tuple[int, ...]:
    def size(name: str, axis: int) -> int:
        shape = checkpoint.shape(name) if name in checkpoint else ()
        return shape[axis] if axis < len(shape) else 0

    if "encoder.conv_in.weight" not in checkpoint:  # the TAESD family
        latents = size("decoder.1.weight", 1) or size("decoder.layers.0.weight", 1)
        return (0, WIDTH, latents, int(any(".pool." in name for name in checkpoint)))
    levels = {
        match[1] for name in checkpoint if (match := re.match(r"encoder\.down(?:_blocks)?\.(\d+)\.", name))
    }
    width, latents = size("encoder.conv_in.weight", 0), size("decoder.conv_in.weight", 1)
    return (len(levels), width, latents, int("quant_conv.weight" in checkpoint))


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
