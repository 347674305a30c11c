"""Models on their way into the store: opened, detected, checked against their networks, then placed.

PATH, or a stored model's name ─► open_stored ─► [another's autoencoder in the place of its own] ─► detect
    ─► CRC-32s; every network's tensors there, none left over, of the right shapes, finite ─► fingerprints
    ─► store.place (a copy) or store.link ─► Stored
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from latentcodec.errors import InvalidArgument, InvalidWeights
from latentcodec.weights.checkpoints.detect import OTHER, detect
from latentcodec.weights.checkpoints.detected import UNET, Detected
from latentcodec.weights.checkpoints.families import FAMILIES
from latentcodec.weights.checkpoints.manifest import REPLACEMENT, Stored
from latentcodec.weights.checkpoints.model_files import ModelFiles, open_model, open_stored, with_autoencoder
from latentcodec.weights.checkpoints.networks import fingerprints
from latentcodec.weights.pytorch.archive import check_sums
from latentcodec.weights.store import check_free, link, place, resolve


def add(
    model: str | os.PathLike[str],
    name: str,
    *,
    linked: bool = False,
    family: str | None = None,
    prediction: str | None = None,
    autoencoder: str | os.PathLike[str] | None = None,
) -> Stored:
    """Put a model that is on disk into the store; the store is as it was where that fails.

    model: a weights file, a diffusers folder, a folder with an *_encoder and *_decoder pair, or the name of a
    model of the store, whose files the new one shares. linked: note where it is instead of copying it.
    family, prediction: override what is detected (see detect). autoencoder: a path or name too, of the one
    that the model uses from now on in the place of its own: ft-MSE's in Stable Diffusion 1.5, say.

    Raises UnknownModel where there is nothing; InvalidWeights where a file is damaged, holds code or numbers
    that are not finite, or is not what it seems; InvalidArgument for a name that is taken or cannot be one,
    and for links to the store's own files; and OSError.
    """
    check_free(name)
    base = other = _located(model)
    model_files = open_stored(base)
    if autoencoder is not None:
        other = _located(autoencoder)
        model_files = with_autoencoder(model_files, open_stored(other))
    own, theirs = _relative(model_files), {}
    if model_files.autoencoder is not None:
        theirs = {f"{REPLACEMENT}/{path}": file for path, file in _relative(model_files.autoencoder).items()}
    if base.detected is not None:
        family, prediction = family or base.detected.family, prediction or base.detected.prediction
    detected, prints = _inspect(model_files, family, prediction)
    source = base.source if other is base else f"{base.source}, with the autoencoder of {other.source}"
    known = Stored(
        name=name,
        path=base.path if linked else _opened(model_files),
        autoencoder=_opened_autoencoder(model_files, linked),
        detected=detected,
        source=source,
        revision=base.revision,
        licence="; ".join(dict.fromkeys(stored.licence for stored in (base, other) if stored.licence))
        or None,
        fingerprints=prints,
    )
    in_store = [stored for stored in (base, other) if _is_in_store(stored)]
    if linked and in_store:
        raise InvalidArgument(
            f"{in_store[0].name}: the store has its files and shares them with {name}: add it without a link"
        )
    if linked:
        return link(known, own | theirs)
    shared = [
        path
        for own_files, stored in ((own, base), (theirs, other))
        if _is_in_store(stored)
        for path in own_files
    ]
    return place(known, own | theirs, shared)


def add_fetched(
    name: str,
    files: Mapping[str, Path],
    *,
    family: str,
    source: str,
    revision: str,
    licence: str,
) -> Stored:
    """Put downloaded files into the store, by hard links where that can be; errors are as for add.

    files: by their paths in the repository, and where the hub's cache has that repository's folder.
    """
    first_path, first_file = next(iter(files.items()))
    opened = Path(first_path) if len(files) == 1 else Path()
    model_files = open_model(first_file if len(files) == 1 else first_file.parents[first_path.count("/")])
    if family in FAMILIES and UNET not in model_files.parts:
        parts = ", ".join(model_files.parts)
        raise InvalidWeights(f"{model_files.path}: holds {parts}, where the UNet of {family} is needed")
    detected, prints = _inspect(model_files, family, None)
    known = Stored(
        name=name,
        path=opened,
        detected=detected,
        source=source,
        revision=revision,
        licence=licence,
        fingerprints=prints,
    )
    return place(known, files, files)


def _inspect(
    model_files: ModelFiles, family: str | None, prediction: str | None
) -> tuple[Detected, dict[str, str]]:
    """What a model is, and its networks' fingerprints."""
    detected = detect(model_files, family=family, prediction=prediction)
    if detected.family == OTHER:
        raise InvalidWeights(
            f"{model_files.path}: {detected.reasons[0]}; say which family it is, if it is of one"
        )
    for file in (*model_files.files, *(model_files.autoencoder.files if model_files.autoencoder else ())):
        check_sums(file)
    return detected, fingerprints(model_files, detected)


def _located(model: str | os.PathLike[str]) -> Stored:
    """The model of a path; where there is no such path, that of the name in the store."""
    path = Path(model).expanduser()
    if os.fspath(model) and path.exists():
        return Stored(name=path.stem, path=path, source=str(path.resolve()))
    return resolve(model)


def _is_in_store(model: Stored) -> bool:
    """Whether its files are the store's."""
    return model.detected is not None and not model.linked


def _relative(model_files: ModelFiles) -> dict[str, Path]:
    return {file.relative_to(model_files.root).as_posix(): file for file in model_files.files}


def _opened(model_files: ModelFiles) -> Path:
    """What of a model to open, below its root."""
    return Path() if model_files.path.is_dir() else Path(model_files.path.name)


def _opened_autoencoder(model_files: ModelFiles, linked: bool) -> Path | None:
    if model_files.autoencoder is None:
        return None
    return model_files.autoencoder.path if linked else REPLACEMENT / _opened(model_files.autoencoder)
