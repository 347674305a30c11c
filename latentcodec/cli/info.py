"""latentcodec info: what .lci files say about themselves, read without decoding and without PyTorch.

FILE ... ─► codec.info ─► a table, or a line of JSON for each
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from latentcodec.cli.console import cell, explain, say_error, say_json, show_rows, show_table
from latentcodec.cli.files import PIPE, Job, read_source

if TYPE_CHECKING:
    from latentcodec.codec.info import CleanupInfo, Info

_CHANNELS = {1: "gray", 2: "gray and alpha", 3: "RGB", 4: "RGB and alpha"}
_GOAL_UNITS = {"size": " bytes", "bpp": " bpp", "psnr": " dB", "quality": ""}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(), metavar="FILE...")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line, for each file that can be read."
)
def info(files: tuple[str, ...], as_json: bool) -> None:
    """Show what .lci files hold: size, quality, model, metadata.

    FILE may be - for standard input. Nothing is decoded, so that this takes milliseconds.
    """
    from latentcodec.codec.info import info as read_info

    found: list[tuple[str, Info]] = []
    for path in files:
        job = Job(path, PIPE)
        try:
            found.append((job.name, read_info(read_source(job))))
        except Exception as error:
            line = explain(error, job.name)
            if line is None or isinstance(error, click.ClickException):
                raise
            say_error(line)
    if as_json:
        for name, each in found:
            say_json({"file": name} | asdict(each))
    elif len(found) == 1:
        show_rows(_properties(*found[0]).items())
    elif found:
        _show_many(found)
    if len(found) < len(files):
        raise click.exceptions.Exit(1)


def _properties(name: str, each: Info) -> dict[str, str]:
    metadata = {"ICC profile": each.profile, "EXIF": each.exif, "XMP": each.xmp}
    properties = {
        "file": name,
        "picture": f"{each.width}x{each.height}, {_CHANNELS.get(each.channels, '?')}, {each.depth} bits",
        "bytes": f"{each.bytes} ({each.bpp:.3f} bits per pixel), of them {each.structure_bytes} of structure",
        "quality": _quality(each),
        "model": _model(each),
        "tiles": f"{each.tiles} of {each.tile_size}x{each.tile_size}" if each.tile_size else "1",
        "metadata": ", ".join(label for label, there in metadata.items() if there) or "none",
    }
    if each.cleanup is not None:
        properties["clean-up"] = _cleanup(each.cleanup)
    if each.goal is not None:
        reached = "" if each.goal.psnr is None else f", reached {each.goal.psnr:.2f} dB"
        reached = ", stored losslessly" if each.lossless else reached
        unit = _GOAL_UNITS.get(each.goal.kind, "")
        properties["asked for"] = f"{each.goal.kind} {each.goal.target:g}{unit}{reached}"
    return properties


def _quality(each: Info) -> str:
    if each.lossless:
        return "none: lossless"
    return f"{each.quality:g}" if each.has_quality else "none: the palette has one rate"


def _model(each: Info) -> str:
    if each.lossless:
        return f"{each.model} (the pixels themselves: no networks)"
    needs = each.autoencoder
    if needs is None:
        return f"{each.model} (networks {each.networks_hash}, synthesis {each.synthesis_hash})"
    coded = f"prior {needs.prior}" if needs.prior else f"{needs.quantiser} quantiser"
    return (
        f"autoencoder {needs.name} ({needs.kind}, fingerprint {needs.fingerprint}), {needs.latents} channels "
        f"at 1/{needs.downscale}, {coded}"
    )


def _cleanup(stored: CleanupInfo) -> str:
    matched = "matched to the error" if stored.strength is None else f"at strength {stored.strength:g}"
    return (
        f"by the UNet {stored.unet} (fingerprint {stored.fingerprint}), {stored.steps} steps {matched}; "
        f"tiles: {stored.full} full, {stored.weak} weak, {stored.off} off"
    )


def _show_many(found: list[tuple[str, Info]]) -> None:
    """Several files, one a row."""
    from rich.table import Table

    table = Table()
    table.add_column("file", overflow="fold")
    for label in ("picture", "bytes", "bpp", "quality", "tiles", "model"):
        table.add_column(label, justify="right", no_wrap=True)
    for name, each in found:
        values = (
            f"{each.width}x{each.height}",
            each.bytes,
            f"{each.bpp:.3f}",
            f"{each.quality:g}" if each.has_quality else "-",
            each.tiles,
            each.autoencoder.name if each.autoencoder else each.model,
        )
        table.add_row(cell(name), *map(cell, values))
    show_table(table)
