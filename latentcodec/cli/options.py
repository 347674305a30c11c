"""Options that commands share, and the kinds of values that click has none for."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentcodec.cli.console import Failure, say
from latentcodec.container.chunks import DEFAULT_LIMITS, Limits
from latentcodec.errors import InvalidArgument, LatentCodecError

if TYPE_CHECKING:
    from latentcodec.codec.api import Codec
    from latentcodec.codec.cleanup.settings import CleanupSettings
    from latentcodec.weights.checkpoints.detected import Detected

Command = TypeVar("Command", bound=Callable[..., Any])

_UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "kib": 1024, "mib": 1024**2}


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error for any other text."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number.", param, ctx)
        return number


def parse_size(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """The bytes in 5000, 5000B, 5KB (of 1000), 1.5MB, 4KiB (of 1024) or 1MiB, rounded down; a callback."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise click.BadParameter(f"{text!r} is no size: write 5000, 5KB (= 5000 bytes), 1.5MB, 4KiB or 1MiB.")
    size = Decimal(match[1]) * _UNITS[match[2]]
    if size < 1 or (_UNITS[match[2]] == 1 and size != int(size)):
        raise click.BadParameter(f"{text!r} is no whole number of bytes, 1 or more.")
    return int(size)


def device_option(command: Command) -> Command:
    """--device"""
    text = "auto (a GPU if there is one), cpu, cuda or cuda:N."
    return click.option("--device", default="auto", show_default=True, metavar="NAME", help=text)(command)


def model_option(command: Command) -> Command:
    """--model"""
    text = "native, or an autoencoder: a name of `latentcodec models list`, a file or a folder."
    option = click.option("--model", default="native", show_default=True, metavar="NAME|PATH", help=text)
    return option(command)


def prior_option(command: Command) -> Command:
    """--prior"""
    text = "With an autoencoder: a prior that `latentcodec train prior` fitted to it."
    exists = click.Path(exists=True, dir_okay=False)
    return click.option("--prior", type=exists, metavar="FILE", help=text)(command)


def max_pixels_option(command: Command) -> Command:
    """--max-pixels; see `limits_of`"""
    text = (
        "The largest picture, as width times height. Decompressing one above the default needs this option "
        f"too.  [default: {DEFAULT_LIMITS.max_pixels}; with an autoencoder "
        f"{DEFAULT_LIMITS.max_autoencoder_pixels}]"
    )
    count = click.IntRange(min=1)
    return click.option("--max-pixels", type=count, metavar="N", help=text)(command)


def strict_option(command: Command) -> Command:
    """--strict"""
    text = "Make it an error where something of a picture cannot be kept, in place of a warning."
    return click.option("--strict", is_flag=True, help=text)(command)


def limits_of(max_pixels: int | None) -> Limits:
    """What --max-pixels asks for; None: the defaults."""
    if max_pixels is None:
        return DEFAULT_LIMITS
    return Limits(max_pixels=max_pixels, max_autoencoder_pixels=max_pixels)


def file_arguments(command: Command) -> Command:
    """IN OUT, or IN ... for --out-dir"""
    metavar = "IN OUT | IN... --out-dir DIR"
    return click.argument("paths", nargs=-1, required=True, type=click.Path(), metavar=metavar)(command)


def file_options(outputs: str) -> Callable[[Command], Command]:
    """--out-dir, --keep-extension, --preserve, --verbose, --quiet; `outputs`: what is written, for help."""
    folder = f"Write {outputs} into DIR, for several IN and for folders, whose sub-folders are kept."
    keep = "With --out-dir: keep IN's extension before the new one, so that a.jpg and a.png stay apart."

    def add(command: Command) -> Command:
        for decorate in (
            click.option("-Q", "--quiet", is_flag=True, help="Print errors and warnings only."),
            click.option(
                "-v", "--verbose", is_flag=True, help="Print more about each file, and the time it took."
            ),
            click.option(
                "-p", "--preserve", is_flag=True, help="Give OUT the permissions and the times of IN."
            ),
            click.option("--keep-extension", is_flag=True, help=keep),
            click.option("--out-dir", type=click.Path(file_okay=False), metavar="DIR", help=folder),
        ):
            command = decorate(command)
        return command

    return add


def exclusive(**options: object) -> None:
    """Usage error where more than one of these options (named as parameters are) has a value."""
    names = [
        f"--{name.replace('_', '-')}"
        for name, value in options.items()
        if value is not None and value is not False
    ]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)}: give one of them")


@contextmanager
def usage_errors() -> Iterator[None]:
    """Make the library's error about arguments a usage error about the options that are named as they are."""
    try:
        yield
    except InvalidArgument as error:
        text = str(error)
        for name in error.names:  # the message begins with them
            text = text.replace(name, f"--{name.replace('_', '-')}", 1)
        raise click.UsageError(text) from error


def load_codec(
    model: str,
    device: str,
    verbose: bool,
    limits: Limits = DEFAULT_LIMITS,
    prior: str | None = None,
    cleanup: CleanupSettings | None = None,
    *,
    announce: bool = False,
) -> Codec:
    """A codec with what has a name loaded: an autoencoder, its prior and the UNet of its clean-up.

    announce: say, also without `verbose`, what was found at paths: the store knows what its models are.
    Raises Failure: without it, no file can be worked on.
    """
    begun = time.perf_counter()
    from latentcodec.codec.api import Codec
    from latentcodec.weights.checkpoints.detected import describe
    from latentcodec.weights.store import resolve

    def report(part: str, path: str, detected: Detected | None) -> None:
        if detected is not None and (verbose or (announce and resolve(path).detected is None)):
            say(f"{part} {path}: {describe(detected)}")

    try:
        codec = Codec(model, device, limits=limits, prior=prior, cleanup_settings=cleanup)
    except LatentCodecError as error:
        raise Failure(str(error)) from error
    if verbose and codec.detected is not None:
        say(f"model {model} on {codec.device}, loaded in {time.perf_counter() - begun:.2f} s")
    report("model", model, codec.detected)
    if cleanup is not None:
        report("clean-up UNet", str(cleanup.unet), codec.cleanup_detected)
    return codec


def load_native(codec: Codec, verbose: bool, pixels: int = 0) -> None:
    """Load the native model, if it is the codec's, for a picture of so many pixels.

    Raises Failure: without it, no file can be worked on.
    """
    if codec.detected is not None:
        return
    begun = time.perf_counter()
    try:
        codec.load(pixels)
    except LatentCodecError as error:
        raise Failure(str(error)) from error
    if verbose:
        say(f"model native, by {codec.engine}, loaded in {time.perf_counter() - begun:.2f} s")
