"""latentcodec train: run, resume, export, eval, pack, prior.

PICTURES ─► run ─► RUN/ ─► resume ... ─► eval (figures for the card) ─► export ─► native-1.safetensors
PICTURES ─► pack ─► tars, to be copied ─► run
MODEL, PICTURES ─► prior ─► a prior for compress --model MODEL --prior FILE
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentcodec.cli.console import Failure, cell, say, say_result, show_table
from latentcodec.cli.options import Number, device_option, exclusive
from latentcodec.cli.training.pack import pack
from latentcodec.cli.training.prior import prior
from latentcodec.cli.training.progress import TrainingProgress, evaluation_progress

if TYPE_CHECKING:
    from latentcodec.training.native.evaluate import Point
    from latentcodec.training.native.loop import Run

Command = TypeVar("Command", bound=Callable[..., Any])

_RUN = click.Path(file_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
_COOLDOWN = 0.25  # of --minutes
_CROP_UNIT = 32
_SMALLEST_CROP = 128  # a multiple of 32 that leaves all five scales of MS-SSIM their window


@click.group()
def train() -> None:
    """Train the native model on your own pictures.

    \b
    latentcodec train run pictures/ --out my-run --minutes 600
    latentcodec train eval my-run kodak/
    latentcodec train export my-run
    latentcodec train prior taef2 pictures/ --out taef2-prior.safetensors
    """


def _length_options(command: Command) -> Command:
    """How long to train, and how to report it."""
    for decorate in (
        click.option("-Q", "--quiet", is_flag=True, help="Print errors and warnings only."),
        click.option(
            "--threads",
            type=click.IntRange(0),
            metavar="N",
            help="CPU threads; 0 leaves it to PyTorch, as at first.",
        ),
        device_option,
        click.option(
            "--cooldown",
            type=Number(0, 1),
            metavar="SHARE",
            help="The share at the end over which the learning rate falls to zero.  [default: 0.25 of "
            "--minutes, 0 of --steps: 10 steps and then 10 more are the same as 20]",
        ),
        click.option("--steps", type=click.IntRange(1), metavar="N", help="Train for so many (more) steps."),
        click.option(
            "--minutes",
            type=Number(0, min_open=True),
            metavar="N",
            help="Train for so many (more) minutes; on a GPU loading and saving are part of them.",
        ),
    ):
        command = decorate(command)
    return command


train.add_command(pack)
train.add_command(prior)


@train.command(short_help="Train on a folder of pictures.")
@click.argument("pictures", type=_FOLDER)
@click.option("--out", type=_RUN, required=True, metavar="RUN", help="The run's folder, to be made.")
@_length_options
@click.option(
    "--init",
    type=click.Path(exists=True, path_type=Path),
    metavar="WEIGHTS",
    help="Begin with the weights of another RUN, or of a .safetensors file.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, metavar="N")
@click.option(
    "--batch", type=click.IntRange(1), default=16, show_default=True, metavar="N", help="Crops a step."
)
@click.option(
    "--crop",
    type=click.IntRange(_SMALLEST_CROP),
    default=_SMALLEST_CROP,
    show_default=True,
    metavar="PX",
    help=f"The crops' side, a multiple of {_CROP_UNIT}.",
)
@click.option(
    "--learning-rate", type=Number(0, 1, min_open=True), default=5e-4, show_default=True, metavar="RATE"
)
@click.option(
    "--only-synthesis",
    is_flag=True,
    help="Keep analysis and entropy model: files stay the same and are decoded better. Needs --init.",
)
@click.option("--full-precision", is_flag=True, help="No bfloat16: slower, hardly better.")
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Fuse the networks (on a GPU two parts of the loss) by torch.compile, which needs a C++ compiler: "
    "minutes to start, then faster.",
)
def run(
    pictures: Path,
    out: Path,
    minutes: float | None,
    steps: int | None,
    cooldown: float | None,
    init: Path | None,
    seed: int,
    batch: int,
    crop: int,
    learning_rate: float,
    only_synthesis: bool,
    full_precision: bool,
    compiled: bool,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Train on the pictures below the folder PICTURES, for --minutes, for --steps, or until Ctrl-C.

    Pictures in tar files (train pack) count too.
    5 % of the pictures, chosen by their names, are held out. Ctrl-C stops after the step at hand, and
    `train resume` goes on from there.
    """
    started = time.monotonic()
    exclusive(minutes=minutes, steps=steps)
    if only_synthesis and init is None:
        raise click.UsageError("--only-synthesis: there is no analysis to keep; name its weights with --init")
    if crop % _CROP_UNIT:
        raise click.UsageError(f"--crop {crop}: it must be a multiple of {_CROP_UNIT}")
    from latentcodec.nn.device import choose_device
    from latentcodec.nn.native.config import NativeConfig
    from latentcodec.training.native.loop import Run
    from latentcodec.training.native.settings import TrainingConfig
    from latentcodec.training.native.warm_start import warm_start

    torch_device = choose_device(device)
    _set_threads(threads)
    config = TrainingConfig(
        pictures=str(pictures.resolve()),
        seed=seed,
        batch=batch,
        crop=crop,
        learning_rate=learning_rate,
        only_synthesis=only_synthesis,
        autocast=not full_precision,
        compile=compiled,
        threads=threads or 0,
    )
    start = None if init is None else warm_start(init)
    if start is None:
        new_run = Run.create(out, config, NativeConfig(), torch_device)
    else:
        new_run = Run.create(out, config, start.config, torch_device, start.state, start.origin)
    _train(new_run, started, minutes, steps, cooldown, quiet)


@train.command(short_help="Go on with a run, exactly.")
@click.argument("run", type=_RUN)
@_length_options
@click.option("--pictures", type=_FOLDER, metavar="FOLDER", help="Where the run's pictures are now.")
def resume(
    run: Path,
    minutes: float | None,
    steps: int | None,
    cooldown: float | None,
    device: str,
    threads: int | None,
    pictures: Path | None,
    quiet: bool,
) -> None:
    """Go on with RUN: to the end that it was given, or for more --minutes or --steps.

    On the same machine's CPU with the same --threads this is exact: the weights are, bit for bit, those of a
    run that was never interrupted.
    """
    started = time.monotonic()
    exclusive(minutes=minutes, steps=steps)
    if cooldown is not None and minutes is None and steps is None:
        raise click.UsageError("--cooldown: it is a share of --minutes or --steps; give one of them")
    from latentcodec.nn.device import choose_device
    from latentcodec.training.native.loop import Run
    from latentcodec.training.native.run_folder import read_config

    torch_device = choose_device(device)
    noted = read_config(run)["training"].get("threads", 0)
    _set_threads(noted if threads is None else threads)
    resumed = Run.resume(run, torch_device, pictures=pictures and pictures.resolve())
    if minutes is not None or steps is not None:
        resumed.reopen()
    elif resumed.finished:
        raise Failure(
            f"{run}: finished at step {resumed.step}; train on with --minutes or --steps, or export it"
        )
    _train(resumed, started, minutes, steps, cooldown, quiet)


def _set_threads(threads: int | None) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _train(
    run: Run,
    started: float,
    minutes: float | None,
    steps: int | None,
    cooldown: float | None,
    quiet: bool,
) -> None:
    """Train, show how it goes, and say how to go on."""
    if not quiet:
        pictures = f"pictures: {len(run.pictures)} of {run.config.pictures}"
        say(f"{run.folder}: at step {run.step}; {pictures}; {run.hardware[-1]}")
    if cooldown is None:
        cooldown = _COOLDOWN if minutes is not None else 0.0
    seconds = None if minutes is None else 60 * minutes
    with TrainingProgress(quiet=quiet) as progress:
        run.train(steps=steps, seconds=seconds, cooldown=cooldown, progress=progress.show, started=started)
    name = click.format_filename(run.folder)
    if not quiet:
        summary = f"{name}: step {run.step}, {run.seconds / 60:.1f} minutes of training"
        then = "resume" if run.stopped_by else "export"
        say(f"{summary}, saved; next: latentcodec train {then} {name}")
    if run.stopped_by:
        raise click.exceptions.Exit(128 + run.stopped_by)


@train.command(short_help="Write a run's weights to a .safetensors file.")
@click.argument("run", type=_RUN)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="[default: RUN/native-1.safetensors]",
)
def export(run: Path, out: Path | None) -> None:
    """Write RUN's weights (their moving average) to a .safetensors file, with its model card.

    The card holds the figures of `train eval`, if it was run on this very state.
    """
    import torch

    from latentcodec.training.native.card import make_card
    from latentcodec.training.native.export import export as write
    from latentcodec.training.native.run_folder import averaged_model
    from latentcodec.weights.native import FILES, NATIVE_MODEL, read_weights

    card = make_card(run)
    model, step = averaged_model(run, torch.device("cpu"))
    path = out or run / FILES[NATIVE_MODEL]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(model, card, path)
    weights = read_weights(path)
    hashes = f"networks {weights.networks_hash.hex()}, synthesis {weights.synthesis_hash.hex()}"
    say_result(f"{click.format_filename(path)}: step {step}, {path.stat().st_size} bytes, {hashes}")
    if "figures" not in card:
        say(f"the card has no figures of step {step}: `latentcodec train eval` before the export adds them")


@train.command(name="eval", short_help="Measure rate and distortion of a run.")
@click.argument("run", type=_RUN)
@click.argument("folder", type=_FOLDER)
@device_option
@click.option("--threads", type=click.IntRange(0), metavar="N", help="CPU threads; 0 leaves it to PyTorch.")
@click.option("--held-out", is_flag=True, help="Only those of FOLDER that training holds out, by name.")
@click.option("--zero-branches", is_flag=True, help="Without the convolutional branches, to compare.")
@click.option("-Q", "--quiet", is_flag=True, help="No progress.")
def evaluate(
    run: Path,
    folder: Path,
    device: str,
    threads: int | None,
    held_out: bool,
    zero_branches: bool,
    quiet: bool,
) -> None:
    """Measure rate and distortion of RUN on the pictures below FOLDER, and keep them for its model card.

    Rates are code lengths of the real symbols; files come out a little larger.
    """
    from latentcodec.errors import TrainingError
    from latentcodec.nn.device import choose_device
    from latentcodec.training.data import find_pictures, is_held_out
    from latentcodec.training.native.card import save_figures
    from latentcodec.training.native.evaluate import evaluate as measure
    from latentcodec.training.native.evaluate import zero_branches as without_branches
    from latentcodec.training.native.run_folder import averaged_model
    from latentcodec.training.provenance import describe_pictures

    _set_threads(threads)
    model, step = averaged_model(run, choose_device(device))
    paths = [path for path in find_pictures(folder) if not held_out or is_held_out(path)]
    if not paths:
        raise TrainingError(f"{folder}: none of its pictures is held out; leave --held-out out")
    if zero_branches:
        without_branches(model)
    with evaluation_progress(quiet=quiet) as progress:
        points = measure(model, paths, progress=progress)
    say_result(f"{click.format_filename(run)}, step {step}, {len(paths)} pictures of {folder.name}")
    _print_points(points)
    if not zero_branches:
        save_figures(run, step, describe_pictures(folder, paths), points)


def _print_points(points: list[Point]) -> None:
    from rich.table import Table

    table = Table()
    for label in ("quality", "bpp", "PSNR (dB)", "MS-SSIM"):
        table.add_column(label, justify="right")
    for point in points:
        values = f"{point.quality:g}", f"{point.bpp:.4f}", f"{point.psnr:.2f}", f"{point.ms_ssim:.4f}"
        table.add_row(*map(cell, values))
    show_table(table)
