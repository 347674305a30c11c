"""speed, busy, hostile, networks: what coding takes, on a busy machine too, and of the worst files."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.commands.options import FILE, OUT, SAMPLE, say_skipped, stdout

__all__ = ["busy_command", "hostile_command", "networks_command", "speed_command"]

QUIET = 0.5  # the most processes at work, on average of the last minute, that a measurement bears


@click.command("speed")
@click.argument("sample", type=FILE, default=SAMPLE)
@click.option("--quality", default=60.0, show_default=True, type=click.FloatRange(0, 100))
@click.option("--threads", type=click.IntRange(1), help="Of the engine.  [default: 1, 2, 4 ... all cores]")
@click.option(
    "--engine",
    "engines",
    multiple=True,
    default=("auto",),
    show_default=True,
    help="compiled, numpy, torch-int8, torch-float32, or auto: what a new process takes. May be given again.",
)
@click.option("--runs", default=9, show_default=True, type=click.IntRange(1))
@click.option("--scaling", is_flag=True, help="Time and memory against the picture's size instead.")
@click.option(
    "--largest",
    default=50.0,
    show_default=True,
    type=click.FloatRange(0.1),
    help="Megapixels, with --scaling.",
)
@click.option("--out", type=OUT, default="build/speed", show_default=True, help="For --scaling's files.")
def speed_command(
    sample: Path,
    quality: float,
    threads: int | None,
    engines: tuple[str, ...],
    runs: int,
    scaling: bool,
    largest: float,
    out: Path,
) -> None:
    """Say where the time goes when SAMPLE is encoded and decoded, warm, and set it beside JPEG, WebP, AVIF.

    With --scaling: time and peak memory of synthetic pictures of 0.1 to 50 megapixels, each in a fresh
    process.
    """
    from benchmarks.experiments.scaling import SIZES, run, write
    from benchmarks.experiments.speed import PEERS, measure, speed_table
    from benchmarks.peers import find_peers
    from benchmarks.pictures.datasets import load
    from latentcodec.parallel import cores

    if scaling:
        points = []
        for point in run([size for size in SIZES if size <= largest], quality, threads or cores()):
            points.append(point)
            write(points, out)  # after each: the largest may take long, or all memory
            click.echo(
                f"{point.megapixels:g} megapixels: encode {point.encode_seconds:.2f} s, "
                f"{point.encode_memory / 2**20:.0f} MiB; decode {point.decode_seconds:.2f} s, "
                f"{point.decode_memory / 2**20:.0f} MiB"
            )
        return
    try:
        picture = load(sample)
    except OSError as error:
        raise click.ClickException(f"{sample}: {error}") from error
    peers, absent = find_peers(PEERS)
    say_skipped(absent, {})
    height, width = picture.shape[:2]
    click.echo(f"{sample.name}, {width}x{height}, quality {quality:g}, medians of {runs} interleaved rounds")
    counts = [threads] if threads else sorted({*(2**power for power in range(cores().bit_length())), cores()})
    names = [peer.name for peer in peers]
    for engine in engines:
        for count in counts:
            speed = measure(picture, quality, engine, count, runs, names)
            stdout().print(speed_table(speed, height * width))


def _settings(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """NAME=VALUE,NAME=VALUE as environment variables, for each of the texts; a click callback."""
    settings = {}
    for value in values:
        words = [word.partition("=") for word in value.split(",")]
        if not all(name and sign for name, sign, _ in words):
            raise click.BadParameter(f"{value!r} is not of the form NAME=VALUE,NAME=VALUE")
        settings[value] = {name: text for name, _, text in words}
    return settings


@click.command("busy")
@click.argument("sample", type=FILE, default=SAMPLE)
@click.option("--quality", default=60.0, show_default=True, type=click.FloatRange(0, 100))
@click.option("--threads", type=click.IntRange(1), help="Of PyTorch.  [default: all cores]")
@click.option("--runs", default=30, show_default=True, type=click.IntRange(1), help="Of each setting.")
@click.option(
    "--setting",
    "others",
    multiple=True,
    callback=_settings,
    metavar="NAME=VALUE[,...]",
    help="One more setting of OpenMP to measure, such as GOMP_SPINCOUNT=3000; may be given again.",
)
def busy_command(
    sample: Path, quality: float, threads: int | None, runs: int, others: dict[str, dict[str, str]]
) -> None:
    """Time decoding SAMPLE alone and beside one process that never rests, as OpenMP's threads wait.

    Compared are OpenMP's own default and the setting of the command line (latentcodec/threads.py), in turns,
    each in fresh processes. Nothing else should run meanwhile: what does is in the figures.
    """
    import os
    import tempfile

    from benchmarks.experiments.busy import busy_table, measure
    from latentcodec.codec.api import Codec
    from latentcodec.parallel import cores
    from latentcodec.threads import BRIEF_SPIN

    used = threads or cores()
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > QUIET:
        click.echo(f"this machine is at work already: load average {os.getloadavg()[0]:.1f}", err=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sample.lci"
        Codec(device="cpu").compress(sample, file, quality=quality)
        settings = {"OpenMP's default": {}, "latentcodec's": BRIEF_SPIN, **others}
        times = measure(file, settings, used, runs)
    click.echo(f"{sample.name}, quality {quality:g}, threads {used}, cores {cores()}, {runs} warm decodes")
    stdout().print(busy_table(times))


@click.command("hostile")
@click.option("--side", default=2048, show_default=True, type=click.IntRange(256), help="Pixels.")
@click.option("--threads", type=click.IntRange(1), help="Of PyTorch.  [default: all cores]")
def hostile_command(side: int, threads: int | None) -> None:
    """Say what the worst files cost to decode, beside an honest file of as many pixels (docs/security.md)."""
    from benchmarks.experiments.hostile import hostile_table, measure
    from latentcodec.parallel import cores

    if side % 256:
        raise click.BadParameter(f"{side} is no multiple of 256", param_hint="--side")
    stdout().print(hostile_table(dict(measure(side, threads or cores())), side))


@click.command("networks")
@click.argument("names", nargs=-1)
@click.option("--side", default=64, show_default=True, help="Latent positions along a side.")
@click.option("--rounds", default=3, show_default=True, help="Calls of each network.")
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda; of generate.")
@click.option(
    "--dtype",
    default="auto",
    show_default=True,
    help="float16, bfloat16 or float32; auto is float16 on CUDA, else float32. Of generate.",
)
@click.option(
    "--family",
    default="sdxl",
    show_default=True,
    type=click.Choice(["sd1", "sd2", "sdxl"]),
    help="Of generate; sdxl as Turbo, which takes 14 GB in float32.",
)
@click.option(
    "--steps", default=4, show_default=True, type=click.IntRange(2), help="Of generate's longer run."
)
def networks_command(
    names: tuple[str, ...], side: int, rounds: int, device: str, dtype: str, family: str, steps: int
) -> None:
    """Time our networks against diffusers' on the same weights: NAMES of unet, x4, vae; all without any.

    `generate`: whole pictures, against diffusers' pipelines and the floor of one UNet call.
    """
    from benchmarks.experiments.networks import CONTESTS, compare, generation

    unknown = set(names) - CONTESTS.keys() - {"generate"}
    if unknown:
        known = ", ".join((*CONTESTS, "generate"))
        raise click.BadParameter(f"no network is called {min(unknown)}; there are {known}")
    contests = [name for name in names if name in CONTESTS] if names else list(CONTESTS)
    if contests:
        stdout().print(compare(contests, side, rounds))
    if "generate" in names:
        from benchmarks.peers.diffusion import make_pair
        from latentcodec.generate.models import choose_dtype
        from latentcodec.nn.device import choose_device

        where = choose_device(device)
        pair = make_pair(family, choose_dtype(dtype, where), where)
        stdout().print(generation(pair, 8 * side, steps, rounds))
