"""latentcodec models: the store of other models' weights.

list | info NAME ─────► store, registry ─► a table, or JSON
add PATH --name N ────► intake ─► the store          fetch NAME ─► licence shown ─► hub ─► the store
verify [NAME] ────────► every file's SHA-256         remove NAME
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from latentcodec.cli.console import (
    cell,
    explain,
    say,
    say_error,
    say_json,
    say_result,
    show_rows,
    show_table,
)

if TYPE_CHECKING:
    from latentcodec.weights.checkpoints.manifest import Stored
    from latentcodec.weights.registry import Known

_FAMILY_HELP = "What the model is, where it is detected wrongly: sd1, sd2, sdxl, kl-sdxl, taesdxl ..."


@click.group()
def models() -> None:
    """Keep the weights of other models: autoencoders to compress with, diffusion models.

    \b
    latentcodec models list
    latentcodec models add vae-ft-mse-840000-ema-pruned.safetensors --name ft-mse
    latentcodec models add sd15 --vae ft-mse --name sd15-mse
    latentcodec models fetch taesd
    latentcodec models verify

    They are kept in $LATENTCODEC_HOME, by default in the user's cache folder. Nothing but fetch uses the
    network.
    """


@models.command("list", short_help="What is in the store, and what can be fetched.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for each model in the store.")
def list_(as_json: bool) -> None:
    """List the models in the store, and the known ones that are not there."""
    from latentcodec.weights.registry import KNOWN
    from latentcodec.weights.store import models_folder, stored, stored_names

    listed: list[Stored] = []
    names = stored_names()
    for name in names:
        try:
            listed.append(stored(name))
        except Exception as error:
            line = explain(error)
            if line is None:
                raise
            say_error(line)
    if as_json:
        for model in listed:
            say_json(model.to_dict())
    else:
        _show_list(listed, [known for known in KNOWN.values() if known.name not in names])
        say(f"the store is {models_folder()}")
    if len(listed) < len(names):
        raise click.exceptions.Exit(1)


@models.command(short_help="Put a model that is on disk into the store.")
@click.argument("path")
@click.option("--name", required=True, metavar="NAME", help="What to call it.")
@click.option(
    "--vae",
    metavar="PATH",
    help="An autoencoder to use in place of the model's own: a path, or a name in the store.",
)
@click.option(
    "--link", "linked", is_flag=True, help="Leave the files where they are, and note where that is."
)
@click.option("--family", metavar="NAME", help=_FAMILY_HELP)
@click.option(
    "--prediction",
    type=click.Choice(["epsilon", "v_prediction"]),
    help="What its UNet predicts, where it is detected wrongly.",
)
def add(
    path: str, name: str, vae: str | None, linked: bool, family: str | None, prediction: str | None
) -> None:
    """Put a model into the store, as NAME.

    PATH is a .safetensors, .ckpt or .pth file, a diffusers folder, a folder with an *_encoder and a *_decoder
    file, or a name in the store, whose files are shared. What it was recognised as is reported, with the
    reasons. A file with code in it is refused, and so is one whose tensors are not those of its networks.
    """
    from latentcodec.weights.intake import add as add_model

    model = add_model(path, name, linked=linked, family=family, prediction=prediction, autoencoder=vae)
    _show_one(model)


@models.command(short_help="Download a known model into the store.")
@click.argument("name")
@click.option("--as", "store_as", metavar="NAME", help="What to call it.  [default: its own name]")
def fetch(name: str, store_as: str | None) -> None:
    """Download a known model (see list) from the Hugging Face hub into the store.

    Its licence is shown first. An interrupted download goes on where it ended. HF_HOME, HF_ENDPOINT, HF_TOKEN
    and HF_HUB_OFFLINE are honoured.
    """
    from latentcodec.weights.fetch import fetch as fetch_model
    from latentcodec.weights.fetch import known

    model = known(name)
    say(f"{model.name}: {model.what}")
    say(f"licence: {model.licence} ({model.page})")
    if model.restrictions:
        say(f"restrictions: {model.restrictions}")
    _show_one(fetch_model(name, store_as=store_as, report=say))


@models.command(short_help="What is known of a model.")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def info(name: str, as_json: bool) -> None:
    """Show what is known of a model: what it is and why it is taken for that, files, source, licence.

    NAME is a model in the store, or a known one.
    """
    from latentcodec.weights.registry import KNOWN
    from latentcodec.weights.store import stored, stored_names

    if name in KNOWN and name not in stored_names():
        known = KNOWN[name]
        if as_json:
            say_json(asdict(known))
        else:
            show_rows(_known_rows(known))
        return
    model = stored(name)
    if as_json:
        say_json(model.to_dict())
    else:
        _show_one(model)


@models.command(short_help="Compare models' files with what was added.")
@click.argument("name", required=False)
def verify(name: str | None) -> None:
    """Read the files of a model, or of all, and compare them with their SHA-256 of when they were added."""
    from latentcodec.weights.store import stored, stored_names
    from latentcodec.weights.store import verify as verify_model

    failed = False
    for model_name in [name] if name else stored_names():
        try:
            wrong = verify_model(stored(model_name))
        except Exception as error:
            line = explain(error)
            if line is None or name:
                raise
            wrong = [line]
        for line in wrong:
            say_error(line)
        failed |= bool(wrong)
        say_result(f"{model_name}: {'damaged' if wrong else 'as it was added'}")
    if failed:
        raise click.exceptions.Exit(1)


@models.command(short_help="Take a model out of the store.")
@click.argument("name")
def remove(name: str) -> None:
    """Take a model out of the store. A linked one's files stay where they are."""
    from latentcodec.weights.store import remove as remove_model

    remove_model(name)
    say(f"{name}: removed")


def _show_list(listed: list[Stored], others: list[Known]) -> None:
    from rich.table import Table

    table = Table()
    for label in ("name", "size", "what it is"):
        table.add_column(label, overflow="fold", justify="right" if label == "size" else "left")
    for model in listed:
        linked = f", linked to {model.path}" if model.linked else ""
        table.add_row(cell(model.name), cell(_size(model.bytes)), cell(f"{model.detected}{linked}"))
    if listed and others:
        table.add_section()
    for known in others:
        sizes = [file.bytes for file in known.files]
        size = _size(sum(size or 0 for size in sizes)) if all(sizes) else "?"
        style = "dim"
        table.add_row(
            cell(known.name, style),
            cell(size, style),
            cell(f"{'to fetch' if known.repository else 'to get'}: {known.what}", style),
        )
    show_table(table)


def _show_one(model: Stored) -> None:
    rows = [("name", model.name), ("path", str(model.path) + (" (linked)" if model.linked else ""))]
    if model.detected is not None:
        rows.append(("detected", str(model.detected)))
        rows += [("", reason) for reason in model.detected.reasons]
    if model.autoencoder is not None:
        rows.append(("autoencoder", f"not the model's own: {model.autoencoder}"))
    for component, digest in model.fingerprints.items():
        rows.append((component.replace("unet", "UNet"), f"fingerprint {digest}"))
    rows += [("licence", model.licence or "not known"), ("source", model.source)]
    for label, file in zip(("files", *[""] * len(model.files)), model.files, strict=False):
        rows.append((label, f"{file.path}, {file.bytes} bytes, SHA-256 {file.sha256}"))
    show_rows(rows)


def _known_rows(known: Known) -> list[tuple[str, str]]:
    rows = [("name", known.name), ("what", known.what), ("family", known.family), ("licence", known.licence)]
    rows += [("restrictions", known.restrictions)] if known.restrictions else []
    rows += [("page", known.page)]
    if known.repository:
        rows += [("repository", f"{known.repository}, revision {known.revision or 'of its newest files'}")]
    for label, file in zip(("files", *[""] * len(known.files)), known.files, strict=False):
        size = "size not known" if file.bytes is None else f"{file.bytes} bytes"
        digest = "SHA-256 not known" if file.sha256 is None else f"SHA-256 {file.sha256}"
        rows.append((label, f"{file.path}, {size}, {digest}"))
    fetched = f"latentcodec models fetch {known.name}"
    return [*rows, ("in the store", f"no; get it with: {fetched}" if known.repository else "no")]


def _size(number: int) -> str:
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.1f} MB"
