"""latentcodec train prior: an entropy model for an autoencoder that stays as it is.

MODEL, PICTURES ─► latents of crops, coded ─► fit ─► FILE ─► compress --model MODEL --prior FILE
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentcodec.cli.console import say, say_result
from latentcodec.cli.options import Number, device_option, exclusive
from latentcodec.cli.training.progress import TrainingProgress, prior_line

if TYPE_CHECKING:
    from latentcodec.training.prior.data import Examples
    from latentcodec.training.prior.model import TrainablePrior

_MINUTES = 15.0
_CHECKED = 24  # crops of the pictures held out


@click.command(short_help="Fit an entropy model to an autoencoder's latents.")
@click.argument("model")
@click.argument("pictures", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The prior, a .safetensors file.  [default: in the store, where decoders find it by themselves]",
)
@click.option(
    "--minutes",
    type=Number(0, min_open=True),
    metavar="N",
    help="At most so long; a few passes over the crops are enough.  [default: 15]",
)
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Instead of --minutes.")
@click.option(
    "--crops",
    type=click.IntRange(1),
    default=400,
    show_default=True,
    metavar="N",
    help="Crops to fit it to; encoding them takes about half of --minutes at most.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, metavar="N")
@device_option
@click.option("--threads", type=click.IntRange(0), metavar="N", help="CPU threads; 0 leaves it to PyTorch.")
@click.option("-Q", "--quiet", is_flag=True, help="Print errors and warnings only.")
def prior(
    model: str,
    pictures: Path,
    out: Path | None,
    minutes: float | None,
    steps: int | None,
    crops: int,
    seed: int,
    device: str,
    threads: int | None,
    quiet: bool,
) -> None:
    """Fit a small integer entropy model to the latents of the autoencoder MODEL of the pictures in PICTURES.

    \b
    latentcodec train prior taef2 pictures/ --out taef2-prior.safetensors
    latentcodec compress --model taef2 --prior taef2-prior.safetensors photo.png photo.lci

    5 % of the pictures, chosen by their names, are held out; the prior is tried on crops of them, and what it
    saves there is reported. Ctrl-C ends it early and writes what is there.
    Decoding a file that was made with a prior needs the prior.
    """
    exclusive(minutes=minutes, steps=steps)
    import torch

    from latentcodec.codec.autoencoder.models import open_codec
    from latentcodec.codec.values.prior_file import stored_path, write_prior
    from latentcodec.nn.device import choose_device
    from latentcodec.training.data import find_pictures, is_held_out
    from latentcodec.training.prior.data import QUALITIES, gather_examples
    from latentcodec.training.prior.export import prior_weights
    from latentcodec.training.prior.fit import fit_prior
    from latentcodec.training.provenance import describe_pictures
    from latentcodec.training.stopping import noted_signals

    if threads:
        torch.set_num_threads(threads)
    codec = open_codec(model, choose_device(device))
    paths = find_pictures(pictures)
    seconds = None if steps else 60 * (minutes or _MINUTES)
    with noted_signals() as noted, TrainingProgress(quiet=quiet, describe=prior_line) as progress:
        usable, unseen = ([p for p in paths if is_held_out(p) is held_out] for held_out in (False, True))

        def stopped() -> bool:
            return bool(noted)

        if not quiet:
            say(f"{codec.identity.name}: encoding up to {crops} crops of {len(usable)} pictures")
        share = None if seconds is None else seconds / 2
        data = gather_examples(codec, usable, seed, crops, share, stopped, progress.show)
        if not quiet:
            say(f"{codec.identity.name}: fitting to {len(data.quality)} samples, {QUALITIES} of each crop")
        fitted, step = fit_prior(
            data,
            seed=seed,
            steps=steps,
            seconds=None if seconds is None else seconds / 2,
            device=codec.device,
            stopped=stopped,
            progress=progress.show,
        )
        card = {"pictures": describe_pictures(pictures, paths), "samples": len(data.quality), "steps": step}
        if unseen and not noted:
            share = None if seconds is None else seconds / 10
            gather = partial(
                gather_examples, codec, unseen, seed, _CHECKED, share, stopped, progress.show, data.centres
            )
            card["held_out"] = _check(codec.identity.name, fitted, gather, quiet)
        elif not quiet:
            say(f"{codec.identity.name}: not tried on pictures held out")
    weights = prior_weights(codec, fitted, data, card)
    path = out or stored_path(weights.hash)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_prior(weights, path)
    say_result(
        f"{click.format_filename(path)}: step {step}, {path.stat().st_size} bytes, "
        f"prior {weights.hash.hex()} of {codec.identity.name}"
    )
    if noted:
        raise click.exceptions.Exit(128 + noted[0])


def _check(
    name: str, fitted: TrainablePrior, gather: Callable[[], Examples], quiet: bool
) -> dict[str, float] | None:
    """What the prior takes on crops of pictures that it was not fitted to, also reported; for its card."""
    from latentcodec.errors import TrainingError
    from latentcodec.training.prior.data import QUALITIES
    from latentcodec.training.prior.fit import compare

    try:
        examples = gather()
    except TrainingError as error:  # too small, or stopped: no reason to lose the prior
        say(f"{name}: not tried on pictures held out: {error}")
        return None
    own, adaptive = compare(fitted, examples)
    percent = 100 * (own / adaptive - 1)
    if percent >= 0 or not quiet:
        change = f"{abs(percent):.1f} % {'less' if percent < 0 else 'more'} than without it"
        advice = "" if percent < 0 else "; fit it to more pictures (--crops, --minutes), or leave it out"
        say(f"{name}: on pictures held out {own:.4f} bits a latent, {change}{advice}")
    return {"crops": len(examples.quality) // QUALITIES, "bits": own, "adaptive": adaptive}
