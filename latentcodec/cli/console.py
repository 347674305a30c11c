"""What commands say, and how. All text reaches the terminal through here; stdout is for results alone.

exception ─► explain ─► "latentcodec: what, which, and the way out" ─┐
warning ──────────────► "latentcodec: warning: ..." ─────────────────┤
a bug ────────────────► a traceback ─────────────────────────────────┼─► printable ─► stderr, a line each
click's own errors ──────────────────────────────────────────────────┘
several files ─► progress bar, where stderr is a terminal
results ─► lines and tables of cells ─► printable ─► stdout            JSON ─► as it is: it escapes by itself

Names come from strangers: of files, of what is in them, of models. `printable` shows what would move the
cursor, set colours, make links or turn the direction of writing; a cell is never taken for rich's markup.
"""

from __future__ import annotations

import json
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from latentcodec.errors import LatentCodecError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

Item = TypeVar("Item")

_PLAIN_WIDTH = 110  # of tables, where no terminal says how wide it is
# Unicode's control characters, invisible formats (with the overrides of direction), halves of surrogate pairs
# (bytes of file names that are no text), and ends of lines and paragraphs.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # PyTorch has no class for it


class Failure(click.ClickException):
    """An error that ends the program with its line and exit code 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        say_error(self.message)


def printable(text: str) -> str:
    """The text with what a terminal would obey, or not show, as escapes: \\x1b, \\n, \\u202e."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in _UNPRINTABLE
        else character
        for character in text
    )


def say(line: str) -> None:
    """A line on stderr, above a progress bar if one is shown: rich puts itself in the place of sys.stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"{printable(line)}\n")
        sys.stderr.flush()


def say_result(line: str) -> None:
    """A line on stdout."""
    click.echo(printable(line))


def say_json(value: dict[str, Any]) -> None:
    """A JSON object, exact, as a line on stdout."""
    click.echo(json.dumps(value))


def say_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback on stderr, in the place of sys.excepthook: its last line is the error's text."""
    for line in "".join(traceback.format_exception(kind, error, trace)).splitlines():
        say(line)


@contextmanager
def printable_errors() -> Iterator[None]:
    """Let click, which shows its own errors, have printable ones: they name arguments."""
    try:
        yield
    except (Failure, click.exceptions.NoArgsIsHelpError):  # shown by `say`; the help, in many lines
        raise
    except click.ClickException as error:
        error.message = printable(error.message)  # type: ignore[misc]  # no other place is on click's way
        raise


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
    source = printable(source)
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


def cell(value: object, style: str = "") -> Text:
    """A table's cell: the value as printable text."""
    from rich.text import Text

    return Text(printable(str(value)), style)


def show_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Labels and values on stdout, a row each."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(cell(label), cell(value))
    show_table(table)


def show_table(table: Table) -> None:
    """A table of cells on stdout."""
    console = _console()
    (console if console.is_terminal else _console(width=_PLAIN_WIDTH)).print(table)


def error_console() -> Console:
    """Where progress goes: stderr."""
    return _console(stderr=True)


def _console(**options: Any) -> Console:
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False, **options)


@contextmanager
def tracked(items: list[Item], label: str, *, quiet: bool = False) -> Iterator[Iterable[Item]]:
    """The items, with a progress bar on stderr if there are several, it is a terminal, and not `quiet`."""
    if quiet or len(items) < 2 or not on_terminal():
        yield items
        return
    from rich.progress import Progress

    with Progress(console=error_console(), transient=True) as bar:
        yield bar.track(items, description=label)


def on_terminal() -> bool:
    """Whether stderr is a terminal, which can show progress."""
    return sys.stderr is not None and sys.stderr.isatty()


def _one_line(message: str) -> str:
    return " ".join(line.strip(" ") for line in message.split("\n") if line.strip(" "))


def _name(path: str | bytes | int) -> str:
    return str(path) if isinstance(path, int) else printable(click.format_filename(path))
