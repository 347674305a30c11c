"""Where the networks of a model are on disk: one file, a diffusers folder, or an encoder and decoder pair.

path ─┬─ file ─────────────────────────────► its parts, by prefix (layouts)
      ├─ *_encoder.pth and *_decoder.pth ──► an autoencoder of two files
      ├─ unet/, vae/, text_encoder/ ... ───► a part of each folder
      └─ config.json and its weights ──────► one part
                 ├─ beside them: what schedulers and configurations say of prediction and scale
                 └─ another autoencoder in the place of a diffusion model's own
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from latentcodec.errors import InvalidWeights, UnknownModel
from latentcodec.weights.checkpoints.checkpoint import Checkpoint, is_index, joined, open_checkpoint
from latentcodec.weights.checkpoints.detected import (
    AUTOENCODER,
    DEPTH,
    SECOND_TEXT_ENCODER,
    TEXT_ENCODER,
    UNET,
)
from latentcodec.weights.checkpoints.key_rules import listed
from latentcodec.weights.checkpoints.layouts import Part, find_parts
from latentcodec.weights.checkpoints.manifest import Stored

FOLDERS = {
    "unet": UNET,
    "vae": AUTOENCODER,
    "text_encoder": TEXT_ENCODER,
    "text_encoder_2": SECOND_TEXT_ENCODER,
    "depth_estimator": DEPTH,
}
# In this order: full precision before half, safetensors before pickles, whole before sharded.
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_ENDINGS = (
    ".safetensors",
    ".safetensors.index.json",
    ".fp16.safetensors",
    ".safetensors.index.fp16.json",
    ".bin",
    ".bin.index.json",
    ".fp16.bin",
    ".bin.index.fp16.json",
)
_SIDECARS = ("scheduler/scheduler_config.json", "vae/config.json", "config.json", "model_index.json")
_PAIR_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
_WEIGHTS_ENDINGS = (".safetensors", ".ckpt", ".pth", ".pt", ".bin")
MAX_SIDECAR_BYTES = 1 << 20


@dataclass(frozen=True)
class ModelFiles:
    """A model's parts, opened; what lies beside them; the files that it needs, for copying.

    notes: of what a sidecar or the file's metadata says: "prediction" and "scale", with the place.
    whole: all tensors, where they are in one file or pair. autoencoder: the files of the one that stands in
    for the model's own (with_autoencoder); `files` are the model's.
    """

    path: Path
    parts: Mapping[str, Part]
    files: tuple[Path, ...]
    notes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    whole: Checkpoint | None = None
    autoencoder: ModelFiles | None = None

    @property
    def root(self) -> Path:
        """The folder that its files are in."""
        return self.path if self.path.is_dir() else self.path.parent


def open_model(path: Path) -> ModelFiles:
    """Find and open the parts of a model.

    Raises UnknownModel where there is nothing, InvalidWeights where what is there is no model that is known,
    is damaged or holds code, and OSError.
    """
    if not path.exists():
        raise UnknownModel(f"{path}: no such file or folder")
    if not path.is_dir():
        return _single_file(path)
    pair = _pair(path)
    if pair:
        halves = {half: open_checkpoint(file) for half, file in pair.items()}
        whole = joined(path, {f"{half}.": checkpoint for half, checkpoint in halves.items()})
        return ModelFiles(path, find_parts(whole), (*pair.values(), *_notices(path)), whole=whole)
    model = _diffusers(path)
    if model:
        return model
    single = sorted(file for file in path.iterdir() if file.suffix in _WEIGHTS_ENDINGS)
    if len(single) == 1:
        return _single_file(single[0])
    names = ", ".join(file.name for file in single[:8]) or "none"
    raise InvalidWeights(
        f"{path}: no diffusers folder, and no *_encoder and *_decoder pair; weights files in it: {names}"
    )


def with_autoencoder(model: ModelFiles, other: ModelFiles) -> ModelFiles:
    """A diffusion model with another file's autoencoder in its own's place, if it has one.

    Raises InvalidWeights where the one has no UNet, or the other is not an autoencoder alone.
    """
    if UNET not in model.parts:
        raise InvalidWeights(
            f"{model.path}: holds {', '.join(model.parts)}, and no UNet that an autoencoder could serve: use "
            f"{other.path} by itself"
        )
    if set(other.parts) != {AUTOENCODER}:
        raise InvalidWeights(
            f"{other.path}: holds {', '.join(other.parts)}, where an autoencoder alone is wanted"
        )
    own = {note: statement for note, statement in model.notes.items() if note != "scale"}
    scale = {note: statement for note, statement in other.notes.items() if note == "scale"}
    files = tuple(file for file in model.files if file.parent != model.path / "vae")
    parts = {**model.parts, **other.parts}
    return replace(model, parts=parts, files=files, notes=own | scale, autoencoder=other)


def open_stored(stored: Stored) -> ModelFiles:
    """Open the parts of a model of the store, or of a path. Errors are open_model's; lost files are named."""
    try:
        model = open_model(stored.path)
        if stored.autoencoder is None:
            return model
        return with_autoencoder(model, open_model(stored.autoencoder))
    except (UnknownModel, InvalidWeights) as error:
        missing = [str(path) for path in map(stored.locate, stored.files) if not path.is_file()]
        if not missing:
            raise
        trouble = f"is linked to {stored.path}, where" if stored.linked else "has lost files:"
        raise UnknownModel(
            f"{stored.name}: {trouble} {listed('gone', missing)}; put them back, or take it out with "
            f"'latentcodec models remove {stored.name}' and add it again"
        ) from error


def _single_file(path: Path) -> ModelFiles:
    checkpoint = open_checkpoint(path)
    files = [path]
    notes: dict[str, tuple[str, str]] = {}
    if "modelspec.prediction_type" in checkpoint.metadata:
        notes["prediction"] = (checkpoint.metadata["modelspec.prediction_type"], "its metadata")
    for ending in (".yaml", ".yml"):  # the configuration that CompVis's and Stability's models come with
        sidecar = path.with_suffix(ending)
        if sidecar.is_file():
            files.append(sidecar)
            text = _read_text(sidecar)
            stated = re.search(r"^\s*parameterization:\s*[\"']?(\w+)", text, re.MULTILINE)
            if stated or "model:" in text:  # such a configuration means eps where it is silent
                notes["prediction"] = (stated[1] if stated else "eps", sidecar.name)
    if is_index(path):
        files += _shards(path)
    if path.parent.joinpath("config.json").is_file():
        notes |= _diffusers_notes(path.parent, ("config.json",))
    return ModelFiles(path, find_parts(checkpoint), tuple(files), notes, checkpoint)


def _pair(folder: Path) -> dict[str, Path]:
    """{"encoder": file, "decoder": file}, or nothing. Raises InvalidWeights where there are several pairs."""
    stems = sorted(
        file.name.removesuffix(f"_encoder{ending}")
        for ending in _PAIR_ENDINGS
        for file in folder.glob(f"*_encoder{ending}")
    )
    pairs = [
        {half: file for half in ("encoder", "decoder") if (file := _first(folder, f"{stem}_{half}"))}
        for stem in dict.fromkeys(stems)
    ]
    pairs = [pair for pair in pairs if len(pair) == 2]
    if len(pairs) > 1:
        encoders = ", ".join(pair["encoder"].name for pair in pairs)
        raise InvalidWeights(f"{folder}: several encoder and decoder pairs ({encoders}); put one in a folder")
    return pairs[0] if pairs else {}


def _first(folder: Path, stem: str) -> Path | None:
    named = (folder / (stem + ending) for ending in _PAIR_ENDINGS)
    return next((file for file in named if file.is_file()), None)


def _diffusers(folder: Path) -> ModelFiles | None:
    """A folder of parts, or of one."""
    # Beside a transformer (SD 3, FLUX) an autoencoder is all that is used.
    wanted = ("vae",) if (folder / "transformer").is_dir() else tuple(FOLDERS)
    places = {name: folder / name for name in wanted if (folder / name).is_dir()} or {"": folder}
    parts: dict[str, Part] = {}
    files: list[Path] = []
    for name, place in places.items():
        weights = _weights(place)
        if weights is None:
            continue
        components = find_parts(open_checkpoint(weights))
        files += [weights, *(_shards(weights) if weights.name.endswith(".json") else [])]
        if not name:
            parts |= components
        elif [part.naming.component for part in components.values()] == [FOLDERS[name].removesuffix("_2")]:
            (parts[FOLDERS[name]],) = components.values()
        else:
            raise InvalidWeights(
                f"{weights}: holds {', '.join(components)}, where its folder says {FOLDERS[name]}"
            )
    if not parts:
        return None
    sidecars = [folder / name for name in (*_SIDECARS, *(f"{subfolder}/config.json" for subfolder in wanted))]
    files += [sidecar for sidecar in dict.fromkeys(sidecars) if sidecar.is_file()] + _notices(folder)
    scale_from = ("config.json",) if "" in places else ("vae/config.json",)
    return ModelFiles(folder, parts, tuple(files), _diffusers_notes(folder, scale_from))


def _notices(folder: Path) -> list[Path]:
    """A folder's licences, which go along with copies of what they license."""
    named = (file for file in folder.iterdir() if re.search(r"licen[cs]e|notice", file.name.lower()))
    return sorted(file for file in named if file.is_file() and file.stat().st_size <= MAX_SIDECAR_BYTES)


def _weights(folder: Path) -> Path | None:
    named = (folder / (stem + ending) for ending in _ENDINGS for stem in _STEMS)
    return next((file for file in named if file.is_file()), None)


def _shards(index: Path) -> list[Path]:
    """The files of an index that open_checkpoint has read."""
    return [
        index.parent / name for name in sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    ]


def _diffusers_notes(folder: Path, scale_from: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    notes = {}
    for name, key, note in (
        ("scheduler/scheduler_config.json", "prediction_type", "prediction"),
        *((config, "scaling_factor", "scale") for config in scale_from),
    ):
        value = _read_json(folder / name).get(key)
        if isinstance(value, str | int | float):
            notes[note] = (str(value), name)
    return notes


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object; an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise InvalidWeights(f"{path}: no JSON ({error})") from error
    if not isinstance(values, dict):
        raise InvalidWeights(f"{path}: no JSON object")
    return values


def _read_text(path: Path) -> str:
    if path.stat().st_size > MAX_SIDECAR_BYTES:
        raise InvalidWeights(f"{path}: {path.stat().st_size} bytes; at most {MAX_SIDECAR_BYTES} are read")
    return path.read_text(encoding="utf-8", errors="replace")
