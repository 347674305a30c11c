"""What a picture loses on its way in or out, said in one way only.

report(name, what) ─┬─► a warning, which the command line prints as a line
                    ├─► in `noted`: also the words themselves, which the file's record keeps
                    └─► in `strictly`: NotKept instead
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from latentcodec.errors import NotKept

__all__ = ["DroppedDataWarning", "ReducedDepthWarning", "noted", "report", "strictly"]

_strict: ContextVar[bool] = ContextVar("strict", default=False)
_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


class DroppedDataWarning(UserWarning):
    """Something beside the pixels could not be kept; the picture itself is whole."""


class ReducedDepthWarning(UserWarning):
    """A picture with more bits a channel than can be kept was reduced."""


def report(name: str, what: str, category: type[UserWarning] = DroppedDataWarning) -> None:
    """Say that something of the picture `name` is not kept as it was; `what` is a clause without the name.

    Raises NotKept inside `strictly`.
    """
    message = f"{name}: {what}"
    if _strict.get():
        raise NotKept(f"{message}; strict forbids it")
    notes = _notes.get()
    if notes is not None:
        notes.append(what)
    warnings.warn(message, category, stacklevel=3)


@contextmanager
def strictly(strict: bool = True) -> Iterator[None]:
    """Where `strict`, `report` raises NotKept in here."""
    token = _strict.set(strict or _strict.get())
    try:
        yield
    finally:
        _strict.reset(token)


@contextmanager
def noted() -> Iterator[list[str]]:
    """What `report` says in here, in its order."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)
