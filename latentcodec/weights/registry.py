"""Known models, as data: what they are, where they are, what may be done with them.

    registry.json   {name: {what, family, licence, restrictions, page, repository, revision, files}}

A file's SHA-256 and size stand there where they are known, null where they are not; so does the revision, a
commit of the repository. Importing this loads neither PyTorch nor numpy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType


@dataclass(frozen=True)
class KnownFile:
    """A file of a repository. bytes, sha256: None where unknown."""

    path: str
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Known:
    """A published model.

    family: what it is detected as. restrictions: of its use, in words; None where the licence has none.
    page: for people. repository: on the Hugging Face hub; None where it is not there. revision: the commit
    that is fetched; None where none is known, and the one that the main branch stands at then is fetched.
    """

    name: str
    what: str
    family: str
    licence: str
    restrictions: str | None
    page: str
    repository: str | None
    revision: str | None
    files: tuple[KnownFile, ...]


def _read() -> Mapping[str, Known]:
    text = resources.files("latentcodec.weights").joinpath("registry.json").read_text(encoding="utf-8")
    return MappingProxyType(
        {
            name: Known(
                name=name, **(values | {"files": tuple(KnownFile(**file) for file in values["files"])})
            )
            for name, values in json.loads(text).items()
        }
    )


KNOWN = _read()
