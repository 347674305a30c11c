"""What commands say, and how: everything but results goes to stderr, a line each.

exception ─► explain ─► "latentcodec: what, which, and the way out"
warning ──────────────► "latentcodec: warning: ..."
several files ─► progress bar, where stderr is a terminal
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from latentcodec.errors import LatentCodecError

if TYPE_CHECKING:
    from rich.console import Console

Item = TypeVar("Item")

_PLAIN_WIDTH = 110  # of tables, where no terminal says how wide it is
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # PyTorch has no class for it


class Failure(click.ClickException):
    """An error that ends the program with its line and exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        say_error(self.message)


def say(line: str) -> None:
    """A line on stderr, above a progress bar if one is shown: rich puts itself in the place of sys.stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def say_error(message: str) -> None:
    """An error's line on stderr."""
    say(f"latentcodec: {_one_line(message)}")


def explain(error: Exception, source: str = "") -> str | None:
    """The line for an error that is no bug of ours, naming the file `source`; None for one that is."""
    if isinstance(error, LatentCodecError):
        message = str(error)
    elif isinstance(error, OSError):
        message = error.strerror or str(error)
        if error.filename is not None:
            message = f"{_name(error.filename)}: {message}"
    elif isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY):
        message = "not enough memory"
    else:
        return None
    named = not source or message.startswith((f"{source}:", f"{source} "))
    return message if named else f"{source}: {message}"


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show warnings as one line each, without the place in the code."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        say(f"latentcodec: warning: {_one_line(str(message))}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def table_console() -> Console:
    """Where tables go: stdout."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_PLAIN_WIDTH)


@contextmanager
def tracked(items: list[Item], what: str, *, quiet: bool = False) -> Iterator[Iterable[Item]]:
    """The items, with a progress bar on stderr if there are several, it is a terminal, and not `quiet`."""
    if quiet or len(items) < 2 or not on_terminal():
        yield items
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar.track(items, description=what)


def on_terminal() -> bool:
    """Whether stderr is a terminal, which can show progress."""
    return sys.stderr is not None and sys.stderr.isatty()


def _one_line(message: str) -> str:
    return " ".join(line.strip() for line in message.splitlines() if line.strip())


def _name(path: str | bytes | int) -> str:
    return str(path) if isinstance(path, int) else click.format_filename(path)
