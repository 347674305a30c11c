"""What the store knows of a model: model.json, written once and read back.

Stored ─► write_manifest ─► {version, name, detected, files, fingerprints ...} ─► read_manifest ─► Stored

Importing this loads neither PyTorch nor numpy.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidWeights
from latentcodec.weights.checkpoints.detected import AUTOENCODER, Detected

MANIFEST, FILES = "model.json", "files"
MANIFEST_VERSION = 1
MAX_MANIFEST_BYTES = 1 << 20
REPLACEMENT = "autoencoder"  # the folder of files for an autoencoder in another's place (Stored.autoencoder)


@dataclass(frozen=True)
class StoredFile:
    """A file of a model: its path below the model's folder, with forward slashes; bytes; SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A model on disk. path: what to open; the rest is unknown for a model outside of the store.

    autoencoder: what to open for its autoencoder, where that is not its own. source: where it came from;
    revision: the commit, where that is a repository. linked: its files are the user's, outside of the store.
    fingerprints: by component, of its autoencoder and its UNet (fingerprint), as they were added.
    """

    name: str
    path: Path
    autoencoder: Path | None = None
    detected: Detected | None = None
    files: tuple[StoredFile, ...] = ()
    source: str = ""
    revision: str | None = None
    licence: str | None = None
    linked: bool = False
    fingerprints: Mapping[str, str] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Of all of its files."""
        return sum(file.bytes for file in self.files)

    @property
    def fingerprint(self) -> str | None:
        """Of its autoencoder (load.Identity); None where it has none."""
        return self.fingerprints.get(AUTOENCODER)

    def locate(self, file: StoredFile) -> Path:
        """Where one of its files is."""
        prefix, replaced = f"{REPLACEMENT}/", self.autoencoder
        theirs = [stored_file.path for stored_file in self.files if stored_file.path.startswith(prefix)]
        if replaced is not None and file.path in theirs:
            names = [path.removeprefix(prefix) for path in theirs]
            return _root(replaced, names) / file.path.removeprefix(prefix)
        return _root(self.path, [stored_file.path for stored_file in self.files]) / file.path

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        detected = self.detected.to_dict() if self.detected else None
        replaced = str(self.autoencoder) if self.autoencoder else None
        values = asdict(self) | {"path": str(self.path), "autoencoder": replaced, "detected": detected}
        return values | {"bytes": self.bytes, "fingerprint": self.fingerprint}


def read_manifest(folder: Path) -> Stored:
    """The model of a folder of the store. Raises InvalidWeights for damage."""
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes")
        values = json.loads(path.read_bytes())
        if values["version"] != MANIFEST_VERSION:
            raise ValueError(f"version {values['version']}")
        linked, replaced = values["linked"], values.get("autoencoder")
        files = tuple(StoredFile(**entry) for entry in values["files"])
        return Stored(
            name=folder.name,
            path=Path(linked) if linked else folder / FILES / values["open"],
            autoencoder=folder / FILES / replaced if replaced else None,  # an absolute path stays one
            detected=Detected.from_dict(values["detected"]),
            files=files,
            source=values["source"],
            revision=values.get("revision"),
            licence=values["licence"],
            linked=bool(linked),
            fingerprints=_fingerprints(values),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidWeights(f"{path}: damaged ({error!r}); remove {folder.name} and add it again") from error


def write_manifest(folder: Path, model: Stored, opened: str, autoencoder: str | None) -> None:
    """Write model.json into a folder that has none.

    opened, autoencoder: Stored.path and Stored.autoencoder as they will be read: below the folder's files, or
    absolute where the model is linked.
    """
    values = {
        "version": MANIFEST_VERSION,
        "name": model.name,
        "source": model.source,
        "revision": model.revision,
        "licence": model.licence,
        "linked": opened if model.linked else None,
        "open": "" if model.linked else opened,
        "autoencoder": autoencoder,
        "detected": model.detected.to_dict() if model.detected else None,
        "fingerprints": dict(model.fingerprints),
        "files": [asdict(stored_file) for stored_file in model.files],
    }
    with (folder / MANIFEST).open("x", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def note_fingerprint(folder: Path, component: str, fingerprint: str) -> None:
    """Add a fingerprint to a model.json of an earlier version, which had that of the autoencoder only.

    Raises OSError, InvalidWeights where the file is damaged.
    """
    known = read_manifest(folder).fingerprints
    values = json.loads((folder / MANIFEST).read_bytes())
    values["fingerprints"] = {**known, component: fingerprint}
    values.pop("fingerprint", None)
    write_atomically(folder / MANIFEST, json.dumps(values, indent=1).encode())


def _fingerprints(values: Mapping[str, Any]) -> dict[str, str]:
    if "fingerprints" not in values:  # written before UNets had theirs
        return {AUTOENCODER: values["fingerprint"]} if values["fingerprint"] else {}
    fingerprints = {str(component): value for component, value in values["fingerprints"].items()}
    if not all(isinstance(value, str) for value in fingerprints.values()):
        raise ValueError("a fingerprint is no text")
    return fingerprints


def _root(opened: Path, files: Iterable[str]) -> Path:
    """The folder that files are relative to: what is opened, or where that is one of them, what it is in."""
    for file in files:
        parts = Path(file).parts
        if opened.parts[-len(parts) :] == parts:
            return opened.parents[len(parts) - 1]
    return opened
