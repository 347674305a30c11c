"""Known models from the Hugging Face hub into the store.

name ─► registry ─► each file at its pinned revision ─► hub cache (resumed, HF_HOME) ─► SHA-256 ─► store

huggingface_hub is an extra. Its own settings hold: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE (only what
its cache has is used then). A model that is on disk never needs any of this.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path

from latentcodec.errors import InvalidArgument, InvalidWeights, MissingDependency, ModelError, UnknownModel
from latentcodec.weights.intake import add_fetched
from latentcodec.weights.registry import KNOWN, Known, KnownFile
from latentcodec.weights.store import Stored, check_name, models_folder

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_PART = 1 << 22  # bytes read at a time


def known(name: str) -> Known:
    """A model of the registry. Raises UnknownModel that lists them."""
    if name not in KNOWN:
        raise UnknownModel(f"{name}: not in the registry; known are {', '.join(KNOWN)}")
    return KNOWN[name]


def fetch(name: str, *, store_as: str | None = None) -> Stored:
    """Download a known model and put it into the store, under its own name or another.

    An interrupted download goes on where it ended. Raises UnknownModel where the registry has no such name
    or no repository for it, InvalidArgument where the store has the name, MissingDependency without
    huggingface_hub, ModelError where the hub cannot be reached or refuses, InvalidWeights where a file is
    not the one that is known (it is removed from the hub's cache too), and OSError.
    """
    model, store_as = known(name), check_name(store_as or name)
    if model.repository is None:
        files = " and ".join(file.path for file in model.files)
        raise UnknownModel(
            f"{name}: is not on the hub; get {files} from {model.page} into a folder, and then: "
            f"latentcodec models add FOLDER --name {store_as}"
        )
    if (models_folder() / store_as).exists():
        raise InvalidArgument(
            f"{store_as}: the store has such a model; remove it first, or choose another name"
        )
    paths = {file.path: _download(model, file) for file in model.files}
    commits = {each for path in paths.values() for each in path.parts if _COMMIT.fullmatch(each)}
    revision = model.revision or (commits.pop() if len(commits) == 1 else "its newest revision")
    expected = {file.path: file.sha256 for file in model.files}
    for path, where in paths.items():
        _check(model, path, where, expected[path])
    return add_fetched(
        store_as,
        paths,
        family=model.family,
        source=f"{model.repository} at {revision}",
        licence=model.licence,
    )


def _download(model: Known, file: KnownFile) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingDependency(
            f"{model.name}: fetching needs huggingface_hub; install it with: pip install 'latentcodec[hub]'"
        ) from error
    try:
        return Path(hf_hub_download(str(model.repository), file.path, revision=model.revision))
    except KeyboardInterrupt:
        raise
    except Exception as error:  # the hub's client passes on those of several HTTP libraries
        said = " ".join(str(error).split())[:300] or repr(error)
        raise ModelError(
            f"{model.name}: {file.path} cannot be fetched from {model.repository} ({said}); what has "
            "arrived is kept, so that fetching again goes on from there; or get it from "
            f"{model.page} and use models add"
        ) from error


def _check(model: Known, path: str, where: Path, expected: str | None) -> None:
    """Compare a download with the registry's hash, or else with the one that the hub names its file by."""
    blob = where.resolve()
    expected = expected or (blob.name if _SHA256.fullmatch(blob.name) else None)
    if expected is None:
        return
    digest = hashlib.sha256()
    with blob.open("rb") as reader:
        while part := reader.read(_PART):
            digest.update(part)
    if digest.hexdigest() != expected:
        for each in (where, blob):
            with contextlib.suppress(OSError):
                each.unlink()
        raise InvalidWeights(
            f"{model.name}: {path} arrived with SHA-256 {digest.hexdigest()}, expected {expected}; it is "
            "removed: fetch again, and do not use it from elsewhere if this repeats"
        )
