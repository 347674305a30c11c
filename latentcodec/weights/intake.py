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
    base = other = _given(model)
    found = open_stored(base)
    if autoencoder is not None:
        other = _given(autoencoder)
        found = with_autoencoder(found, open_stored(other))
    own, theirs = _relative(found), {}
    if found.autoencoder is not None:
        theirs = {f"{REPLACEMENT}/{path}": where for path, where in _relative(found.autoencoder).items()}
    if base.detected is not None:
        family, prediction = family or base.detected.family, prediction or base.detected.prediction
    detected, prints = _inspect(found, family, prediction)
    source = base.source if other is base else f"{base.source}, with the autoencoder of {other.source}"
    known = Stored(
        name=name,
        path=base.path if linked else _opened(found),
        autoencoder=_opened_autoencoder(found, linked),
        detected=detected,
        source=source,
        revision=base.revision,
        licence="; ".join(dict.fromkeys(each.licence for each in (base, other) if each.licence)) or None,
        fingerprints=prints,
    )
    kept = [each for each in (base, other) if _is_kept(each)]
    if linked and kept:
        raise InvalidArgument(
            f"{kept[0].name}: the store has its files and shares them with {name}: add it without a link"
        )
    if linked:
        return link(known, own | theirs)
    shared = [path for files, each in ((own, base), (theirs, other)) if _is_kept(each) for path in files]
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
    path, where = next(iter(files.items()))
    opened = Path(path) if len(files) == 1 else Path()
    found = open_model(where if len(files) == 1 else where.parents[path.count("/")])
    if family in FAMILIES and UNET not in found.parts:
        held = ", ".join(found.parts)
        raise InvalidWeights(f"{found.path}: holds {held}, where the UNet of {family} is needed")
    detected, prints = _inspect(found, family, None)
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
    found: ModelFiles, family: str | None, prediction: str | None
) -> tuple[Detected, dict[str, str]]:
    """What a model is, and its networks' fingerprints."""
    detected = detect(found, family=family, prediction=prediction)
    if detected.family == OTHER:
        raise InvalidWeights(f"{found.path}: {detected.reasons[0]}; say which family it is, if it is of one")
    for file in (*found.files, *(found.autoencoder.files if found.autoencoder else ())):
        check_sums(file)
    return detected, fingerprints(found, detected)


def _given(model: str | os.PathLike[str]) -> Stored:
    """The model of a path; where there is no such path, that of the name in the store."""
    path = Path(model).expanduser()
    if os.fspath(model) and path.exists():
        return Stored(name=path.stem, path=path, source=str(path.resolve()))
    return resolve(model)


def _is_kept(model: Stored) -> bool:
    """Whether its files are the store's."""
    return model.detected is not None and not model.linked


def _relative(found: ModelFiles) -> dict[str, Path]:
    return {file.relative_to(found.root).as_posix(): file for file in found.files}


def _opened(found: ModelFiles) -> Path:
    """What of a model to open, below its root."""
    return Path() if found.path.is_dir() else Path(found.path.name)


def _opened_autoencoder(found: ModelFiles, linked: bool) -> Path | None:
    if found.autoencoder is None:
        return None
    return found.autoencoder.path if linked else REPLACEMENT / _opened(found.autoencoder)
