"""Models on their way into the store: opened, detected, checked against their networks, then placed.

PATH ─► open_model ─► detect ─► every network's tensors there, none left over, of the right shapes
          ─► store.place (a copy) or store.link ─► Stored
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from latentcodec.errors import InvalidWeights
from latentcodec.weights.detect import OTHER, detect
from latentcodec.weights.detected import Detected
from latentcodec.weights.load import check_parts, identify
from latentcodec.weights.model_files import ModelFiles, open_model
from latentcodec.weights.store import Stored, link, place


def add(
    path: str | os.PathLike[str],
    name: str,
    *,
    linked: bool = False,
    family: str | None = None,
    prediction: str | None = None,
) -> Stored:
    """Put a model that is on disk into the store; the store is as it was where that fails.

    path: a weights file, a diffusers folder, or a folder with an *_encoder and *_decoder pair. linked: note
    where it is instead of copying it. family, prediction: override what is detected (see detect).

    Raises UnknownModel where there is nothing, InvalidWeights where a file is damaged, holds code or is not
    what it seems, InvalidArgument for a name that is taken or that cannot be one, and OSError.
    """
    given = Path(path).expanduser()
    found, detected, fingerprint = _inspect(given, family, prediction)
    files = _relative(found)
    if linked:
        return link(name, given, files, detected, fingerprint)
    opened = "" if given.is_dir() else given.name
    return place(name, files, opened, detected, fingerprint, source=str(given.resolve()))


def add_fetched(
    name: str,
    files: Mapping[str, Path],
    *,
    family: str,
    source: str,
    licence: str,
) -> Stored:
    """Put downloaded files into the store, by hard links where that can be; errors are as for add.

    files: by their paths in the repository, and where the hub's cache has that repository's folder.
    """
    path, where = next(iter(files.items()))
    opened = path if len(files) == 1 else ""
    given = where if opened else where.parents[path.count("/")]
    _, detected, fingerprint = _inspect(given, family, None)
    return place(name, files, opened, detected, fingerprint, source=source, licence=licence, share=True)


def _inspect(
    path: Path, family: str | None, prediction: str | None
) -> tuple[ModelFiles, Detected, str | None]:
    """A model's files, what it is, and its autoencoder's fingerprint."""
    found = open_model(path)
    detected = detect(found, family=family, prediction=prediction)
    if detected.family == OTHER:
        raise InvalidWeights(f"{path}: {detected.reasons[0]}; say which family it is, if it is of one")
    check_parts(found, detected)
    return found, detected, identify(found, detected)


def _relative(found: ModelFiles) -> dict[str, Path]:
    root = found.path if found.path.is_dir() else found.path.parent
    return {file.relative_to(root).as_posix(): file for file in found.files}
