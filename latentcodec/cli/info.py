"""latentcodec info: what .lci files say about themselves, read without decoding and without PyTorch.

FILE ... ─► codec.info ─► a table, or a line of JSON for each
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from latentcodec.cli.console import cell, explain, say_error, say_json, show_rows, show_table
from latentcodec.cli.files import PIPE, Job, read_source
from latentcodec.picture.colour.points import name_of

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

    infos: list[tuple[str, Info]] = []
    for path in files:
        job = Job(path, PIPE)
        try:
            infos.append((job.name, read_info(read_source(job))))
        except Exception as error:
            line = explain(error, job.name)
            if line is None or isinstance(error, click.ClickException):
                raise
            say_error(line)
    if as_json:
        for name, info in infos:
            say_json({"file": name} | asdict(info))
    elif len(infos) == 1:
        show_rows(_properties(*infos[0]).items())
    elif infos:
        _show_many(infos)
    if len(infos) < len(files):
        raise click.exceptions.Exit(1)


def _properties(name: str, info: Info) -> dict[str, str]:
    metadata = {"ICC profile": info.profile, "EXIF": info.exif, "XMP": info.xmp, "IPTC": info.iptc}
    properties = {
        "file": name,
        "picture": f"{info.width}x{info.height}, {_CHANNELS.get(info.channels, '?')}, {info.depth} bits",
        "bytes": f"{info.bytes} ({info.bpp:.3f} bits per pixel), of them {info.structure_bytes} of structure",
        "quality": _quality(info),
        "model": _model(info),
        "tiles": f"{info.tiles} of {info.tile_size}x{info.tile_size}" if info.tile_size else "1",
        "metadata": ", ".join(label for label, there in metadata.items() if there) or "none",
    }
    if info.cicp is not None:
        properties["colours"] = f"{name_of(info.cicp)} (code points {', '.join(map(str, info.cicp))})"
    if info.dpi is not None:
        across, down = info.dpi
        properties["resolution"] = f"{across:g} dpi" if across == down else f"{across:g} x {down:g} dpi"
    for key, value in info.text:
        label = f"text {key}"
        properties[label] = f"{properties[label]}; {value}" if label in properties else value
    if info.left_out:
        properties["left out"] = "; ".join(info.left_out)
    if info.cleanup is not None:
        properties["clean-up"] = _cleanup(info.cleanup)
    if info.goal is not None:
        reached = "" if info.goal.psnr is None else f", reached {info.goal.psnr:.2f} dB"
        if info.goal.ssimulacra2 is not None:
            reached = f", reached {info.goal.ssimulacra2:.2f}"
        reached = ", stored losslessly" if info.lossless else reached
        unit = _GOAL_UNITS.get(info.goal.kind, "")
        properties["asked for"] = f"{info.goal.kind} {info.goal.target:g}{unit}{reached}"
    return properties


def _quality(info: Info) -> str:
    if info.lossless:
        return "none: lossless"
    if info.step is not None:
        return (
            f"none: samples in steps of {info.step}, off by at most {info.step // 2} of {2**info.depth - 1}"
        )
    return f"{info.quality:g}" if info.has_quality else "none: the palette has one rate"


def _model(info: Info) -> str:
    if info.step is not None:
        return f"{info.model} (the pixels themselves: no networks)"
    needs = info.autoencoder
    if needs is None:
        return f"{info.model} (networks {info.networks_hash}, synthesis {info.synthesis_hash})"
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


def _show_many(infos: list[tuple[str, Info]]) -> None:
    """Several files, one a row."""
    from rich.table import Table

    table = Table()
    table.add_column("file", overflow="fold")
    for label in ("picture", "bytes", "bpp", "quality", "tiles", "model"):
        table.add_column(label, justify="right", no_wrap=True)
    for name, info in infos:
        values = (
            f"{info.width}x{info.height}",
            info.bytes,
            f"{info.bpp:.3f}",
            f"{info.quality:g}" if info.has_quality else "-",
            info.tiles,
            info.autoencoder.name if info.autoencoder else info.model,
        )
        table.add_row(cell(name), *map(cell, values))
    show_table(table)
