"""The options of the commands that generate, and what their texts mean.

    --size 768x512 ─► (768, 512)      --lora film.safetensors:0.8 ─► ("film.safetensors", 0.8)

Values are only taken apart here. What is out of range is the library's error, in one line, as for a value
that a file's parameters give.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

import click

from latentcodec.cli.options import Command, device_option
from latentcodec.generate.defaults import SAMPLERS, SPACINGS

_LORA = re.compile(r"(?P<file>.+?)(:(?P<weight>[-+]?(\d+\.?\d*|\.\d+)))?")
DTYPES = ("auto", "float16", "bfloat16", "float32")


def parse_dimensions(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    """Width and height of 768x512, or of 512 for a square; a callback."""
    match = re.fullmatch(r"(\d{1,6})(?:[xX×](\d{1,6}))?", text.strip()) if text else None
    if text and match is None:
        raise click.BadParameter(f"{text!r} is no size: write 768x512 (width x height), or 512 for a square.")
    return (int(match[1]), int(match[2] or match[1])) if match else None


def parse_lora(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> Any:
    """File and weight of FILE or FILE:WEIGHT, of each; a callback."""
    pairs = []
    for text in texts:
        match = _LORA.fullmatch(text)
        if match is None:
            raise click.BadParameter("it is empty: name a file.")
        pairs.append((match["file"], float(match["weight"] or 1)))
    return tuple(pairs)


def generation_options(*own: str) -> Callable[[Command], Command]:
    """The options of a command; `own`: those that only some commands have, without their dashes."""
    chosen = [option for name, option in _OPTIONS if name in (*own, "")]

    def add(command: Command) -> Command:
        for option in reversed(chosen):
            command = option(command)
        return command

    return add


def _text(name: str, metavar: str, help: str, **more: Any) -> Callable[[Command], Command]:
    return click.option(*name.split(), metavar=metavar, help=help, **more)


def _number(name: str, kind: type, metavar: str, help: str, **more: Any) -> Callable[[Command], Command]:
    """A number that the library checks: what a file's parameters give has the same limits."""
    return click.option(*name.split(), type=kind, metavar=metavar, help=help, **more)


def _choice(name: str, names: Collection[str], help: str, **more: Any) -> Callable[[Command], Command]:
    kind = click.Choice(list(names))
    return click.option(*name.split(), type=kind, metavar="NAME", help=f"{help}{', '.join(names)}.", **more)


def _flag(name: str, help: str, **more: Any) -> Callable[[Command], Command]:
    return click.option(*name.split(), is_flag=True, help=help, **more)


# Each with the name by which a command asks for it, or "" where all have it, in the order of the help.
_OPTIONS: tuple[tuple[str, Callable[[Any], Any]], ...] = (
    ("", _text("--model", "NAME|PATH", "A name of `latentcodec models list`, a file or a folder.  "
               "[default: the one in the store that can]")),
    ("prompt", _text("--prompt", "TEXT", "What the picture shows.")),
    ("", _text("--negative", "TEXT", "What the picture should not show.")),
    ("", _number("--steps", int, "N", "Denoising steps.")),
    ("", _number("--guidance", float, "G", "How strongly the prompt counts. Up to 1 the negative prompt does "
                 "not, and a step takes half the time.")),
    ("strength", _number("--strength", float, "S", "0 to 1, the share of the steps that is run: 1 forgets "
                         "the picture.")),
    ("noise-level", _number("--noise-level", int, "N", "0 to 350, noise on the picture before it is "
                            "enlarged: more invents more.")),
    ("", _number("--seed", int, "N", "Of the noise; of more pictures N, N + 1 ...  "
                 "[default: drawn, and reported]")),
    ("", _number("--count", int, "N", "Pictures; OUT then needs %d.", default=1)),
    ("size", _text("--size", "WxH", "In pixels; of one number a square.  [default: the model's, or IN's]",
                   callback=parse_dimensions)),
    ("", _choice("--sampler", SAMPLERS, "One of ")),
    ("", _choice("--spacing", SPACINGS, "Of the timesteps: ")),
    ("", click.option("--karras/--no-karras", default=None,
                      help="Noise levels of Karras et al., for euler and dpm++2m.")),
    ("", _number("--eta", float, "X", "0 to 1, the noise that ddim adds.")),
    ("", _number("--rescale", float, "X", "0 to 1, against the glare of strong guidance.")),
    ("", _text("--lora", "FILE[:WEIGHT]", "Merge a LoRA into the model; may be given several times.",
               multiple=True, callback=parse_lora)),
    ("", _text("--vae", "NAME|PATH", "An autoencoder in place of the model's own.")),
    ("", _flag("--fast-decode", "Decode by a tiny autoencoder (models fetch taesd, or taesdxl).")),
    ("", _text("--safety-checker", "PATH", "Black out what this network of yours takes for unsafe "
               "(docs/generation.md).")),
    ("", _text("--from source", "FILE", "The settings that made the picture in FILE; other options go before "
               "them.")),
    ("", _choice("--prediction", ("epsilon", "v_prediction"), "What the UNet predicts, where it is detected "
                 "wrongly: ")),
    ("", _text("--family", "NAME", "What the model is, where it is detected wrongly.")),
    ("", _choice("--dtype", DTYPES, "Precision; auto is float16 on a GPU, else float32: ")),
    ("", device_option),
    ("", _choice("--offload", ("auto", "always", "never"), "Bring the parts to the GPU one at a time (auto: "
                 "where they do not fit): ", default="auto")),
    ("", _flag("--compile compile_", "Compile the UNet, which takes minutes once.")),
    ("", _flag("--preview", "Show the picture as it grows, in terminals with colours.")),
    ("", _number("-q --quality", float, "Q", "Of a .lci file, 0 to 100.  [default: 60]")),
    ("", _text("--format format_", "NAME", "Of OUT where it is -: png, jpg, webp, lci ...  [default: png]")),
    ("", _flag("-v --verbose", "Say what was found in the model, and what it took.")),
    ("", _flag("-Q --quiet", "Print errors and warnings only.")),
)  # fmt: skip
