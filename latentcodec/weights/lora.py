"""LoRAs: files of low-rank changes to a model's layers, added to its weights.

    file ─► tensors by name ─► layer, down (r, in), up (out, r), alpha ─► Lora
                                              │
    network ─► its layers by their names in   ▼
               kohya's and diffusers' files ─► W + weight x alpha / r x up down

Read are the layouts of kohya (`lora_unet_down_blocks_0_....lora_down.weight`, with the layers' names of
diffusers or of ldm checkpoints), of diffusers old and new, and of peft. Convolutions are changed alike: their
`down` has the kernel, their `up` is 1x1. Where a file has no alpha it is r. Other methods than the sum of a
product (LoHa, LoKr, DoRA, LoCon's Tucker core ...) are refused.

Hu et al. 2021, https://arxiv.org/abs/2106.09685; names: kohya's sd-scripts, networks/lora.py, and diffusers'
loaders/lora_conversion_utils.py.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder
from latentcodec.nn.stable_diffusion.unet import UNet
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.checkpoint import Checkpoint, floating, open_checkpoint
from latentcodec.weights.checkpoints.detected import SECOND_TEXT_ENCODER, TEXT_ENCODER, UNET
from latentcodec.weights.checkpoints.families import FAMILIES
from latentcodec.weights.checkpoints.key_rules import check_finite, listed

# Where a layer's name begins, and the network that it is of; the longest that fits counts.
_PREFIXES = {
    "lora_unet_": UNET,
    "lora_te_": TEXT_ENCODER,
    "lora_te1_": TEXT_ENCODER,
    "lora_te2_": SECOND_TEXT_ENCODER,
    "unet.": UNET,
    "text_encoder.": TEXT_ENCODER,
    "text_encoder_2.": SECOND_TEXT_ENCODER,
    "base_model.model.": UNET,  # peft's own
    "diffusion_model.": UNET,  # ComfyUI's
    "": UNET,  # diffusers before 0.17
}
_TENSOR = re.compile(
    r"(?P<layer>.+?)(\.processor)?"
    r"([._](?P<projection>to_(?:q|k|v|out))_lora\.|\.lora_linear_layer\.|\.lora\.|\.lora_)"
    r"(?P<half>down|up|A|B)(\.default)?\.weight"
)
_LDM_BLOCK = re.compile(r"(input|middle|output)_block")
_ALPHA = re.compile(r"(?P<layer>.+)\.alpha")
# Other ways to change a model, by what their tensors' names contain.
_OTHERS = (
    (r"\.lora_mid\.", "a LoCon with a Tucker core (lora_mid)"),
    (r"\.hada_", "a LoHa"),
    (r"\.lokr_", "a LoKr"),
    (r"dora_scale|lora_magnitude_vector", "a DoRA"),
    (r"\.oft_|\.boft_", "an OFT"),
    (r"\.diff(_b)?$|\.[wb]_norm$", "one of full differences"),
    (r"\.lora_(B|up)\.bias$", "one that changes biases"),
    (r"^bundle_emb\.", "one with new words (textual inversions) inside"),
)
_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # of diffusers' and peft's folders
_CONFIG = "adapter_config.json"  # of peft
_METADATA = "lora_adapter_metadata"  # the same, of diffusers from 0.34 on, in the file
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class LoraLayer:
    """A change of one layer: scale x up down. name: its layer's in the file.

    down: (r, in) or (r, in, height, width). up: (out, r) or (out, r, 1, 1). scale: alpha / r.
    """

    name: str
    down: Tensor
    up: Tensor
    scale: float


@dataclass(frozen=True)
class Lora:
    """layers: by network (UNET, TEXT_ENCODER ...) and the layer's name there with all dots as _."""

    path: Path
    layers: Mapping[tuple[str, str], LoraLayer]


def read_lora(path: str | os.PathLike[str]) -> Lora:
    """A LoRA from a file, or from a folder that diffusers or peft wrote.

    Raises UnknownModel where there is none, InvalidWeights where it is damaged, is none, or is of a kind that
    is not read, and OSError.
    """
    place = Path(path)
    if place.is_dir():
        found = [place / name for name in _FILES if (place / name).is_file()]
        if not found:
            raise UnknownModel(f"{place}: this folder holds neither {' nor '.join(_FILES)}")
        place = found[0]
    checkpoint = open_checkpoint(place)
    halves, alphas = _sorted(checkpoint)
    settings = _settings(checkpoint)
    check_finite(checkpoint, (name for layer in halves.values() for name in layer.values()), "")
    layers: dict[tuple[str, str], LoraLayer] = {}
    for name, layer in halves.items():
        missing = {"down", "up"} - set(layer)
        if missing:
            raise InvalidWeights(f"{place}: {name} has no {missing.pop()} matrix; use another copy")
        down, up = (floating(checkpoint, layer[half]) for half in ("down", "up"))
        rank = down.shape[0] if down.ndim else 0
        if not rank or down.ndim not in (2, 4) or up.ndim not in (2, 4) or up.shape[1] != rank:
            shapes = f"{_sides(down)} and {_sides(up)}"
            raise InvalidWeights(f"{place}: {name}: its matrices are {shapes}, which have no product")
        scale = _scale(checkpoint, alphas.get(name), settings, name, rank)
        layers[_place_of(name)] = LoraLayer(name, down, up, scale)
    return Lora(place, layers)


def merge_lora(
    lora: Lora,
    weight: float = 1.0,
    *,
    unet: UNet | None = None,
    text_encoder: TextEncoder | None = None,
    text_encoder_2: TextEncoder | None = None,
) -> None:
    """Add `weight` times a LoRA to the weights of a model's networks, of which all that it has must be given.

    Every sum is computed in float32 (or float64) and rounded once to the layer's precision. The layers get
    new tensors: those that they had, which may be a file's, stay as they were. Raises InvalidArgument for a
    weight that is no finite number, and InvalidWeights, before anything is changed, where the LoRA has layers
    that the networks have not or that are of another shape: it is for another family.
    """
    if not math.isfinite(weight):
        raise InvalidArgument(f"LoRA weight {weight}: expected a finite number, such as 0.8")
    networks = {UNET: unet, TEXT_ENCODER: text_encoder, SECOND_TEXT_ENCODER: text_encoder_2}
    places = {
        (component, name): layer
        for component, network in networks.items()
        if network is not None
        for name, layer in _layers(network)
    }
    _check(lora, places)
    # Some files have a layer twice, by both names: those of ldm come first and are replaced.
    by_ldm = sorted(lora.layers, key=lambda place: not _LDM_BLOCK.match(place[1]))
    changes = {places[place]: lora.layers[place] for place in by_ldm}
    with torch.no_grad():
        for module, change in changes.items():
            module.weight.data = _merged(module.weight.data, change, weight)


def _merged(matrix: Tensor, change: LoraLayer, weight: float) -> Tensor:
    precision = torch.float64 if matrix.dtype == torch.float64 else torch.float32
    down, up = (each.to(matrix.device, precision).flatten(1) for each in (change.down, change.up))
    difference = (up @ down).mul_(weight * change.scale).reshape(matrix.shape)
    return matrix.to(precision).add(difference).to(matrix.dtype)


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers of a network that have a matrix or a kernel, by all names that files have for them."""
    found = {
        name: module for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)
    }
    yield from ((name.replace(".", "_"), module) for name, module in found.items())
    if isinstance(network, UNet):
        rules = key_tables.unet_ldm([f"{name}.weight" for name in found])
        for name, module in found.items():
            yield rules.name(f"{name}.weight").removesuffix(".weight").replace(".", "_"), module


def _check(lora: Lora, places: Mapping[tuple[str, str], nn.Linear | nn.Conv2d]) -> None:
    """Raise InvalidWeights where a LoRA does not fit: shapes first, which say more than names."""
    for place, change in lora.layers.items():
        if place in places:
            needed = places[place].weight
            found = (change.up.shape[0], *change.down.shape[1:])
            if found != tuple(needed.shape) and (*found, 1, 1)[:4] != (*needed.shape, 1, 1)[:4]:
                raise InvalidWeights(
                    f"{lora.path}: a LoRA for another family{_family_of(lora)}: {change.name} changes a "
                    f"layer of {'x'.join(map(str, found))}, which is {_sides(needed)} in this model"
                )
    unknown = sorted(lora.layers[place].name for place in set(lora.layers) - set(places))
    if unknown:
        raise InvalidWeights(
            f"{lora.path}: a LoRA for another family{_family_of(lora)}: of its {len(lora.layers)} layers "
            f"{len(unknown)} are not in this model, such as {unknown[0]}"
        )


def _family_of(lora: Lora) -> str:
    """ " (Stable Diffusion XL, base or Turbo)", by the text embedding that it reads; "" if it reads none."""
    for (component, name), layer in lora.layers.items():
        if component == UNET and name.endswith("_attn2_to_k"):
            for family in FAMILIES.values():
                if family.unet.context == layer.down.shape[1]:
                    return f" ({family.what})"
    return ""


def _sorted(checkpoint: Checkpoint) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The names of the tensors: {layer: {"down": name, "up": name}} and {layer: its alpha's}."""
    halves: dict[str, dict[str, str]] = {}
    alphas: dict[str, str] = {}
    unknown = []
    for name in checkpoint:
        for pattern, kind in _OTHERS:
            if re.search(pattern, name):
                raise InvalidWeights(
                    f"{checkpoint.path}: this is no plain LoRA but {kind}, which is not read ({name}); merge "
                    "it into its model with the tool that made it, and use that"
                )
        match, alpha = _TENSOR.fullmatch(name), _ALPHA.fullmatch(name)
        if match:
            half = "down" if match["half"] in ("down", "A") else "up"
            halves.setdefault(_layer(match), {})[half] = name
        elif alpha:
            layer = _TENSOR.fullmatch(f"{alpha['layer']}.down.weight")  # ...to_q_lora.alpha, of old diffusers
            alphas[_layer(layer) if layer else alpha["layer"]] = name
        else:
            unknown.append(name)
    if unknown or not halves:
        what = "has also other tensors" if halves else "holds no LoRA"
        raise InvalidWeights(f"{checkpoint.path}: {what}: {listed('unknown', sorted(unknown))}")
    orphans = sorted(set(alphas) - set(halves))
    if orphans:
        raise InvalidWeights(f"{checkpoint.path}: {listed('alpha without matrices', orphans)}")
    return halves, alphas


def _layer(match: re.Match[str]) -> str:
    """The layer's name; old diffusers kept the changes of four projections beside them, in a processor."""
    projection = match["projection"]
    if projection is None:
        return match["layer"]
    if ".self_attn" in match["layer"]:  # text encoders
        return f"{match['layer']}.{projection.removeprefix('to_')}_proj"
    return f"{match['layer']}.{'to_out.0' if projection == 'to_out' else projection}"


def _place_of(name: str) -> tuple[str, str]:
    """The network of a layer of a file, and the layer's name there with all dots as _."""
    prefix = max((prefix for prefix in _PREFIXES if name.startswith(prefix)), key=len)
    component, rest = _PREFIXES[prefix], name.removeprefix(prefix).replace(".", "_")
    return component, rest if component == UNET else rest.removeprefix("text_model_")


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """What peft or diffusers note of a LoRA: "unet.lora_alpha" and so on; peft's own lack "unet."."""
    sidecar = checkpoint.path.with_name(_CONFIG)
    text = checkpoint.metadata.get(_METADATA)
    if text is None and checkpoint.path.name == _FILES[1] and sidecar.is_file():
        if sidecar.stat().st_size > MAX_CONFIG_BYTES:
            raise InvalidWeights(f"{sidecar}: {sidecar.stat().st_size} bytes; at most {MAX_CONFIG_BYTES}")
        text = sidecar.read_text(encoding="utf-8", errors="replace")
    try:
        settings = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise InvalidWeights(
            f"{checkpoint.path}: its settings ({_METADATA}) are no JSON ({error})"
        ) from error
    if not isinstance(settings, dict):
        raise InvalidWeights(f"{checkpoint.path}: its settings ({_METADATA}) are no JSON object")
    return settings


def _scale(
    checkpoint: Checkpoint, alpha: str | None, settings: Mapping[str, Any], name: str, rank: int
) -> float:
    """alpha / r, of the file's own alpha, else of what peft notes, else 1."""
    if alpha is not None:
        stored = checkpoint[alpha]  # some trainers write integers
        if stored.numel() != 1 or not math.isfinite(float(stored)):
            raise InvalidWeights(f"{checkpoint.path}: {alpha} is {_sides(stored)}, expected a finite number")
        return float(stored) / rank
    component, _ = _place_of(name)
    prefix = "" if "lora_alpha" in settings else f"{component}."
    module = name.removeprefix("base_model.model.").removeprefix(f"{component}.")
    value = settings.get(f"{prefix}lora_alpha", rank)
    pattern = settings.get(f"{prefix}alpha_pattern")
    if isinstance(pattern, dict):
        value = next((v for key, v in pattern.items() if module == key or module.endswith(f".{key}")), value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidWeights(f"{checkpoint.path}: its settings say lora_alpha {value!r}, expected a number")
    return value / (math.sqrt(rank) if settings.get(f"{prefix}use_rslora") else rank)


def _sides(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
