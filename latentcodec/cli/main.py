"""The command line's root: latentcodec compress | decompress | info | compare | generate | ... | train.

argv ─► click ─► a command ─► the library
                     └─► LatentCodecError, OSError, no memory ─► one line on stderr, exit code 1
usage errors ─► exit code 2        Ctrl-C ─► 130        a reader that has gone (a closed pipe) ─► silence
SIGTERM, SIGHUP ─► what was begun is undone ─► killed by that signal

Importing this loads click and nothing heavy: help and `info` work in milliseconds. Commands import what they
need when they run.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from latentcodec import __version__
from latentcodec.cli.compare import compare
from latentcodec.cli.compress import compress
from latentcodec.cli.console import Failure, explain, printable_errors, say_bug, warnings_as_lines
from latentcodec.cli.decompress import decompress
from latentcodec.cli.generate.commands import depth2img, generate, img2img, inpaint, upscale
from latentcodec.cli.info import info
from latentcodec.cli.models import models
from latentcodec.cli.signals import undone_by_signals
from latentcodec.cli.training.run import train
from latentcodec.threads import spin_briefly

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


class _Commands(click.Group):
    """What was raised on purpose, or by the machine, is reported in one line."""

    def main(self, *args: Any, **extra: Any) -> Any:
        sys.excepthook = say_bug
        with undone_by_signals():
            return super().main(*args, **extra)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with printable_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with warnings_as_lines(), printable_errors():
            try:
                result = super().invoke(ctx)
                if sys.stdout is not None:
                    sys.stdout.flush()  # here, where a closed pipe is still dealt with
            except BrokenPipeError:
                raise  # click knows what to do
            except KeyboardInterrupt:
                ctx.exit(_INTERRUPTED)
            except (click.ClickException, click.exceptions.Exit, click.Abort):
                raise
            except Exception as error:
                line = explain(error)
                if line is None:
                    raise
                raise Failure(line) from error
        return result


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="latentcodec", message="%(prog)s %(version)s")
def main() -> None:
    """A neural image codec: small files that decode to the same symbols on every machine.

    \b
    latentcodec compress photo.jpg photo.lci
    latentcodec decompress photo.lci photo.png
    latentcodec info photo.lci
    latentcodec generate "a lighthouse at dusk" lighthouse.png
    """
    spin_briefly()  # the commands load PyTorch, after this


for _command in (
    *(compress, decompress, info, compare, models, train),
    *(generate, img2img, inpaint, depth2img, upscale),
):
    main.add_command(_command)
