"""The local store of models: a folder for each, with what is known of it.

    $LATENTCODEC_HOME/models/
        taef2/model.json            name, source, licence, what it was detected as; sizes and SHA-256s
        taef2/files/...             the weights; linked models have none, model.json says where theirs are
        .incoming-1f3c.../          a model on its way in: renamed when it is whole, removed when it fails

Importing this loads neither PyTorch nor numpy. A model appears in one rename and disappears in one; files in
the store are never changed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from latentcodec.errors import InvalidArgument, InvalidWeights, UnknownModel
from latentcodec.weights.checkpoints.manifest import (
    FILES,
    Stored,
    StoredFile,
    note_fingerprint,
    read_manifest,
    write_manifest,
)
from latentcodec.weights.registry import KNOWN

STALE_SECONDS = 24 * 3600  # after which what an interrupted process left is removed
_INCOMING, _OUTGOING = ".incoming-", ".removed-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PART = 1 << 22  # bytes read at a time


def home() -> Path:
    """Where this user's models are: $LATENTCODEC_HOME, or a folder in the system's place for caches."""
    if os.environ.get("LATENTCODEC_HOME"):
        return Path(os.environ["LATENTCODEC_HOME"]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "latentcodec"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "latentcodec"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "latentcodec"


def models_folder() -> Path:
    """The store itself; it need not exist."""
    return home() / "models"


def stored_names() -> list[str]:
    """The names of the models in the store, sorted."""
    folder = models_folder()
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
    return [name for name in names if _NAME.fullmatch(name)]


def list_models() -> list[Stored]:
    """The models in the store, by name, without those whose model.json is damaged (`stored` raises then)."""
    models = []
    for name in stored_names():
        with contextlib.suppress(InvalidWeights):
            models.append(stored(name))
    return models


def stored(name: str) -> Stored:
    """A model of the store. Raises UnknownModel where there is none, InvalidWeights for damage."""
    folder = models_folder() / check_name(name)
    if not folder.is_dir():
        raise UnknownModel(f"{name}: no such model in {models_folder()}; {_way_out(name)}")
    return read_manifest(folder)


def resolve(model: str | os.PathLike[str]) -> Stored:
    """The model of a name in the store, or of a path.

    What exists, or has a separator or a weights file's suffix, is a path. A name that is both in the store
    and in the current folder means the store. Raises UnknownModel where there is neither, and InvalidArgument
    for an empty text, which as a path would be the current folder.
    """
    text = os.fspath(model)
    if not text:
        raise InvalidArgument("model '': give the name of a model in the store, or a path")
    if _NAME.fullmatch(text) and (models_folder() / text).is_dir():
        return stored(text)
    path = Path(text).expanduser()
    if path.exists():
        return Stored(name=path.stem if path.is_file() else path.resolve().name, path=path, source=str(path))
    if _NAME.fullmatch(text) and not isinstance(model, os.PathLike):
        raise UnknownModel(f"{text}: no such model in {models_folder()}, nor such a file; {_way_out(text)}")
    raise UnknownModel(f"{text}: no such file or folder, nor a model in {models_folder()}")


def check_free(name: str) -> Path:
    """The folder of a model to come. Raises InvalidArgument where the name is taken, or cannot be one."""
    folder = models_folder() / check_name(name)
    if folder.exists() or folder.is_symlink():
        raise InvalidArgument(f"{name}: the store has such a model; remove it first, or choose another name")
    return folder


def note(name: str, component: str, fingerprint: str) -> None:
    """Note a network's fingerprint of a model that was added before the store kept it, where that can be."""
    with contextlib.suppress(OSError, InvalidWeights):  # a store that is only read
        note_fingerprint(models_folder() / name, component, fingerprint)


def check_name(name: str) -> str:
    """The name, if it may be a model's. Raises InvalidArgument."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"model name {name!r}: use up to 64 letters, digits, points, dashes and underscores; "
            "the first a letter or a digit"
        )
    if name == "native":
        raise InvalidArgument("model name 'native': it means this package's own model; use another")
    return name


def place(model: Stored, sources: Mapping[str, Path], shared: Collection[str] = ()) -> Stored:
    """Copy files into the store as a model; it is there whole, or the store is as it was.

    model: what is known of it; its files are noted as they are copied, its path is that of what to open
    below the model's folder (Path() is the folder), its autoencoder's likewise. sources: where the files are
    now, by their paths below the model's folder. shared: those of them that are linked where the file system
    can, for files that nobody changes. The licences of known models with these very files join its own.
    Raises InvalidArgument where the name is taken, and OSError (a full disk).
    """
    with _incoming(model.name) as incoming:
        needed = sum(source.stat().st_size for path, source in sources.items() if path not in shared)
        _check_space(incoming, needed)
        copied = []
        for path, source in sorted(sources.items()):
            target = incoming / FILES / path
            target.parent.mkdir(parents=True, exist_ok=True)
            copied.append(StoredFile(path, *_copy(source, target, path in shared)))
        noted = replace(model, files=tuple(copied), licence=_licence(copied, model.licence))
        autoencoder = model.autoencoder.as_posix() if model.autoencoder else None
        write_manifest(incoming, noted, "" if model.path == Path() else model.path.as_posix(), autoencoder)
    return stored(model.name)


def link(model: Stored, sources: Mapping[str, Path]) -> Stored:
    """Note a model that stays where it is: only model.json is written. Errors are as for place.

    model: its path and its autoencoder's are where they are.
    """
    with _incoming(model.name) as incoming:
        files = [
            StoredFile(path, source.stat().st_size, _hash(source)) for path, source in sorted(sources.items())
        ]
        noted = replace(model, files=tuple(files), licence=_licence(files, model.licence), linked=True)
        autoencoder = str(model.autoencoder.resolve()) if model.autoencoder else None
        write_manifest(incoming, noted, str(model.path.resolve()), autoencoder)
    return stored(model.name)


def remove(name: str) -> None:
    """Take a model out of the store; the files of a link stay. Raises UnknownModel, OSError."""
    folder = models_folder() / check_name(name)
    if not folder.is_dir() and not folder.is_symlink():
        raise UnknownModel(f"{name}: no such model in {models_folder()}")
    outgoing = folder.with_name(_OUTGOING + secrets.token_hex(8))
    folder.rename(outgoing)
    _delete(outgoing)


def verify(model: Stored) -> list[str]:
    """What is wrong with a stored model's files, in words; empty where all are as they were added."""
    wrong = []
    for file in model.files:
        path = model.locate(file)
        if not path.is_file():
            wrong.append(f"{path}: missing")
        elif path.stat().st_size != file.bytes:
            wrong.append(f"{path}: {path.stat().st_size} bytes, was added with {file.bytes}")
        elif (digest := _hash(path)) != file.sha256:
            wrong.append(f"{path}: SHA-256 is {digest}, was added with {file.sha256}")
    return wrong


def _licence(files: Sequence[StoredFile], own: str | None) -> str | None:
    """The licence that is known already, and those of the known models that have these very files."""
    have = {file.sha256 for file in files}
    known = [
        model.licence
        for model in KNOWN.values()
        if all(file.sha256 is not None and file.sha256 in have for file in model.files)
    ]
    return (
        "; ".join(dict.fromkeys(part for text in (own, *known) if text for part in text.split("; "))) or None
    )


def _way_out(name: str) -> str:
    if name in KNOWN:
        return f"get it with: latentcodec models fetch {name}"
    have = ", ".join(stored_names()[:8]) or "nothing"
    return f"the store has {have}; see latentcodec models list"


@contextlib.contextmanager
def _incoming(name: str) -> Iterator[Path]:
    """A folder that becomes the model's when the block ends well, and is removed when it does not."""
    target = check_free(name)
    models_folder().mkdir(parents=True, exist_ok=True)
    _remove_stale()
    incoming = models_folder() / (_INCOMING + secrets.token_hex(8))
    incoming.mkdir()
    try:
        yield incoming
        try:
            incoming.rename(target)
        except OSError:
            check_free(name)  # somebody was faster
            raise
    except BaseException:  # KeyboardInterrupt too
        shutil.rmtree(incoming, ignore_errors=True)
        raise


def _remove_stale() -> None:
    """What a process that was killed has left: folders with no name that were not written to for a day."""
    for folder in models_folder().iterdir():
        if folder.name.startswith((_INCOMING, _OUTGOING)):
            with contextlib.suppress(OSError):
                if time.time() - folder.lstat().st_mtime > STALE_SECONDS:
                    _delete(folder)


def _delete(folder: Path) -> None:
    """Delete a folder, or a link to one: what is there is not the store's."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        words = f"No space left on device: the model needs {needed} bytes, {free} are free"
        raise OSError(errno.ENOSPC, words, str(folder.parent))


def _copy(source: Path, target: Path, share: bool) -> tuple[int, str]:
    """Copy a file, or link it; its bytes and SHA-256."""
    if share:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(os.path.realpath(source), target)
            return target.stat().st_size, _hash(target)
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reader, target.open("xb") as writer:
        while part := reader.read(_PART):
            writer.write(part)
            digest.update(part)
            size += len(part)
        writer.flush()
        os.fsync(writer.fileno())
    return size, digest.hexdigest()


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()
