"""The options of diffusion clean-up: what compress stores of it, and what decompress makes of that.

compress    --cleanup-unet UNET --cleanup-limit DB ... ─► cleanup_settings ─► Codec(cleanup_settings=)
decompress  --cleanup [STRENGTH] --cleanup-unet UNET
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latentcodec.cli.options import Command, Number
from latentcodec.container.cleanup import MAX_SEED
from latentcodec.diffusion.presets import PRESETS

if TYPE_CHECKING:
    from latentcodec.codec.cleanup.settings import CleanupSettings


class CommandWithStrength(click.Command):
    """A command whose --cleanup may stand without its strength, also in front of a file's name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put a strength of 1 behind --cleanup where no number follows; a file 0.5 is ./0.5."""
        end = args.index("--") if "--" in args else len(args)
        places = [place for place in range(end) if args[place] == "--cleanup"]
        for place in reversed(places):
            if place + 1 >= end or not _is_number(args[place + 1]):
                args[place] = "--cleanup=1"
        return super().parse_args(ctx, args)


def cleanup_option(command: Command) -> Command:
    """--cleanup and --cleanup-unet, of decompress"""
    strength = (
        "Clean an autoencoder's latents up with a diffusion model, as far as the encoder allowed; STRENGTH "
        "from 0, none, to 1, the default, is how much of that."
    )
    unet = (
        "The diffusion model of --cleanup, where it is not installed or the file names none: a name of "
        "`latentcodec models list`, a file or a folder."
    )
    for decorate in (
        click.option("--cleanup-unet", metavar="NAME|PATH", help=unet),
        click.option("--cleanup", type=Number(0, 1), default=0.0, metavar="[STRENGTH]", help=strength),
    ):
        command = decorate(command)
    return command


def cleanup_options(command: Command) -> Command:
    """--cleanup-unet, --cleanup-limit, --cleanup-preset, --cleanup-prompt and --cleanup-seed, of compress"""
    unet = (
        "With an autoencoder: store what decompress --cleanup needs, and how much of this diffusion model's "
        "clean-up each tile bears. A name of `latentcodec models list`, a file or a folder."
    )
    limit = "The PSNR that a tile may lose by it against the plain picture.  [default: 0]"
    preset = "Noise matched to the error, or the steps of 2022.  [default: matched]"
    prompt = "A description of the picture for the diffusion model, up to 75 tokens.  [default: none]"
    for decorate in (
        click.option("--cleanup-seed", type=click.IntRange(0, MAX_SEED), metavar="N", help="[default: 0]"),
        click.option("--cleanup-prompt", metavar="TEXT", help=prompt),
        click.option("--cleanup-preset", type=click.Choice(list(PRESETS)), help=preset),
        click.option("--cleanup-limit", type=Number(0), metavar="DB", help=limit),
        click.option("--cleanup-unet", metavar="NAME|PATH", help=unet),
    ):
        command = decorate(command)
    return command


def cleanup_settings(unet: str | None, **options: float | str | None) -> CleanupSettings | None:
    """The settings of these options, named as its fields are; None without --cleanup-unet.

    Usage error for one without it. Raises InvalidArgument for a prompt that is too long.
    """
    fields = {name: value for name, value in options.items() if value is not None}
    if unet is None:
        for name in fields:
            raise click.UsageError(f"--cleanup-{name}: give --cleanup-unet too")
        return None
    from latentcodec.codec.cleanup.settings import CleanupSettings

    return CleanupSettings(unet=unet, **fields)  # type: ignore[arg-type]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
