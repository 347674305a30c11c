"""Known models from the Hugging Face hub into the store.

name ─► registry ─► one commit ─► each file of it ─► hub cache (resumed, HF_HOME) ─► SHA-256 ─► store
                       └─ the registry's, or the one that the main branch stands at when a download begins

huggingface_hub is an extra. Its own settings hold: HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE (only what
its cache has is used then). A model that is on disk never needs any of this.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidWeights, MissingDependency, ModelError, UnknownModel
from latentcodec.weights.checkpoints.manifest import Stored
from latentcodec.weights.intake import add_fetched
from latentcodec.weights.registry import KNOWN, Known, KnownFile
from latentcodec.weights.store import check_free, check_name, home

_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BRANCH = "main"
_PART = 1 << 22  # bytes read at a time


def known(name: str) -> Known:
    """A model of the registry. Raises UnknownModel that lists them."""
    if name not in KNOWN:
        raise UnknownModel(f"{name}: not in the registry; known are {', '.join(KNOWN)}")
    return KNOWN[name]


def fetch(
    name: str, *, store_as: str | None = None, report: Callable[[str], None] = lambda _: None
) -> Stored:
    """Download a known model and put it into the store, under its own name or another.

    All files are of one commit: the registry's, or where that has none, the one that the main branch stands
    at when the download begins. That goes to `report` (a line of text) and is noted, so that an interrupted
    download goes on where it ended, with the same commit. Raises UnknownModel where the registry has no such
    name or no repository for it, InvalidArgument where the store has the name, MissingDependency without
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
    check_free(store_as)
    note = home() / "fetching" / f"{name}.json"
    commit = _commit(model, model.repository, note, report)
    paths = {file.path: _download(model, model.repository, commit, file, note) for file in model.files}
    try:
        for file in model.files:
            _check(model, file.path, paths[file.path], file.sha256)
        fetched = add_fetched(
            store_as,
            paths,
            family=model.family,
            source=f"{model.repository} at {commit}",
            revision=commit,
            licence=model.licence,
        )
    except InvalidWeights:
        _forget(note)  # this commit is no good: another try asks for the newest again
        raise
    _forget(note)
    return fetched


def _commit(model: Known, repository: str, note: Path, report: Callable[[str], None]) -> str:
    """The commit to fetch: the registry's, that of an interrupted download, or the main branch's now."""
    if model.revision is not None:
        return model.revision
    begun = _read_note(note, repository)
    if begun is not None:
        report(f"{model.name}: going on with {repository} at {begun}, as the interrupted fetch before it")
        return begun
    commit = _newest(model, repository)
    note.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(note, json.dumps({"repository": repository, "commit": commit}).encode())
    report(f"{model.name}: no commit is registered; {repository} stands at {commit}: all files are of that")
    return commit


def _newest(model: Known, repository: str) -> str:
    """The commit of the main branch; offline what the cache knows as that, or else its newest whole copy."""
    hub = _hub(model)
    if not hub.constants.HF_HUB_OFFLINE:
        with _as_model_error(model, "its newest commit", repository):
            commit = hub.HfApi().model_info(repository, revision=_BRANCH).sha
            if commit is None or not _COMMIT.fullmatch(commit):
                raise ValueError(f"the hub says that {_BRANCH} is at {commit!r}")
            return str(commit)
    folder: Path = Path(hub.constants.HF_HUB_CACHE) / hub.file_download.repo_folder_name(
        repo_id=repository, repo_type="model"
    )
    with contextlib.suppress(OSError):
        branch = (folder / "refs" / _BRANCH).read_text().strip()
        if _COMMIT.fullmatch(branch):
            return branch
    whole = [
        snapshot
        for snapshot in folder.glob("snapshots/*")
        if _COMMIT.fullmatch(snapshot.name) and all((snapshot / file.path).is_file() for file in model.files)
    ]
    if not whole:
        raise ModelError(
            f"{model.name}: the hub is offline (HF_HUB_OFFLINE), and its cache has no whole copy of "
            f"{repository}; fetch it online, or get it from {model.page} and use models add"
        )
    return max(whole, key=lambda snapshot: snapshot.stat().st_mtime).name


def _read_note(note: Path, repository: str) -> str | None:
    """The commit of an interrupted download; None where there was none of this repository."""
    try:
        values = json.loads(note.read_bytes())
        commit = str(values["commit"])
        return commit if values["repository"] == repository and _COMMIT.fullmatch(commit) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _forget(note: Path) -> None:
    with contextlib.suppress(OSError):
        note.unlink()
    with contextlib.suppress(OSError):  # others are on their way
        note.parent.rmdir()


def _hub(model: Known) -> Any:
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors, file_download  # noqa: F401  as its attributes
    except ImportError as error:
        raise MissingDependency(
            f"{model.name}: fetching needs huggingface_hub; install it with: pip install 'latentcodec[hub]'"
        ) from error
    return huggingface_hub


@contextlib.contextmanager
def _as_model_error(model: Known, item: str, repository: str) -> Iterator[None]:
    """Whatever the hub's client raises as a ModelError: it passes on those of several HTTP libraries."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or repr(error)
        raise ModelError(
            f"{model.name}: {item} cannot be fetched from {repository} ({reason}); what has "
            "arrived is kept, so that fetching again goes on from there; or get it from "
            f"{model.page} and use models add"
        ) from error


def _download(model: Known, repository: str, commit: str, file: KnownFile, note: Path) -> Path:
    hub = _hub(model)
    with _as_model_error(model, file.path, repository):
        try:
            return Path(hub.hf_hub_download(repository, file.path, revision=commit))
        except hub.errors.RevisionNotFoundError:
            _forget(note)  # the repository's history was rewritten
            raise


def _check(model: Known, path: str, download: Path, expected: str | None) -> None:
    """Compare a download with the registry's hash, or else with the one that the hub names its file by."""
    blob = download.resolve()
    expected = expected or (blob.name if _SHA256.fullmatch(blob.name) else None)
    if expected is None:
        return
    digest = hashlib.sha256()
    with blob.open("rb") as reader:
        while part := reader.read(_PART):
            digest.update(part)
    if digest.hexdigest() != expected:
        for file in (download, blob):
            with contextlib.suppress(OSError):
                file.unlink()
        raise InvalidWeights(
            f"{model.name}: {path} arrived with SHA-256 {digest.hexdigest()}, expected {expected}; it is "
            "removed: fetch again, and do not use it from elsewhere if this repeats"
        )
