"""What the commands share: kinds of arguments, lists of words and numbers, where results and errors go."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from latentcodec.errors import LatentCodecError

__all__ = ["FILE", "FOLDER", "OUT", "SAMPLE", "Commands", "numbers", "say_skipped", "stdout", "words"]

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
OUT = click.Path(file_okay=False, path_type=Path)
SAMPLE = Path(__file__).parents[2] / "samples" / "astronaut.png"


class Commands(click.Group):
    """A group that reports errors raised on purpose in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (LatentCodecError, OSError) as error:  # OSError: a picture or folder that cannot be used
            raise click.ClickException(str(error)) from error


def stdout() -> Console:
    """Where results go; wide enough for the tables where no terminal says how wide it is."""
    console = Console()
    return console if console.is_terminal else Console(width=132)


def words(_: click.Context, __: click.Parameter, value: str | None) -> list[str] | None:
    """The words of a list such as native,jpeg; a click callback."""
    return None if value is None else [word.strip() for word in value.split(",") if word.strip()]


def numbers(_: click.Context, __: click.Parameter, value: str | None) -> list[float] | None:
    """The finite numbers of a list such as 5,20,50,90; a click callback."""
    if value is None:
        return None
    try:
        listed = [float(word) for word in value.split(",")]
    except ValueError:
        listed = [math.nan]
    if not all(map(math.isfinite, listed)):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 5,20,50,90")
    return listed


def say_skipped(codecs: dict[str, str], metrics: dict[str, str]) -> None:
    """Names what is left out and why, both by name, on stderr."""
    for kind, skipped in (("codec", codecs), ("metric", metrics)):
        for name, reason in skipped.items():
            click.echo(f"{kind} {name} is skipped: {reason}", err=True)
