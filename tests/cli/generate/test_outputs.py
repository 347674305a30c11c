"""Names of outputs: numbers, pipes, formats; and the texts of options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from latentcodec.cli.console import Failure
from latentcodec.cli.generate.options import parse_dimensions, parse_lora
from latentcodec.cli.generate.outputs import is_lci, plan_outputs
from latentcodec.errors import InvalidArgument

NO_CONTEXT: Any = None


def targets(out: str, count: int, format_: str | None = None, inputs: tuple[str, ...] = ()) -> list[str]:
    return [job.target for job in plan_outputs(out, count, format_, inputs)]


@pytest.mark.parametrize(
    ("out", "count", "expected"),
    [
        ("a.png", 1, ["a.png"]),
        ("a-%d.png", 1, ["a-1.png"]),
        ("a-%d.png", 3, ["a-1.png", "a-2.png", "a-3.png"]),
        ("%03d.jpg", 2, ["001.jpg", "002.jpg"]),
        ("%2d.lci", 1, [" 1.lci"]),
        ("100%.png", 1, ["100%.png"]),
    ],
)
def test_numbers(out: str, count: int, expected: list[str]) -> None:
    assert targets(out, count) == expected


def test_only_the_files_name_is_numbered(tmp_path: Path) -> None:
    folder = tmp_path / "%d"
    folder.mkdir()
    assert targets(str(folder / "%d.png"), 2) == [str(folder / "1.png"), str(folder / "2.png")]


@pytest.mark.parametrize(
    ("out", "count", "error", "why"),
    [
        ("%d-%d.png", 2, click.UsageError, "may be there once"),
        ("a.png", 2, click.UsageError, r"put %d into OUT, such as a-%d.png"),
        ("-", 2, click.UsageError, r"such as out-%d.png"),
        ("nowhere/a.png", 1, Failure, "there is no folder nowhere"),
        ("a.png", 0, InvalidArgument, "--count 0"),
        ("a.gif", 1, click.UsageError, "no picture format is known"),
    ],
)
def test_what_is_refused(out: str, count: int, error: type[Exception], why: str) -> None:
    with pytest.raises(error) as raised:
        targets(out, count)
    assert why in str(getattr(raised.value, "message", raised.value))


def test_nothing_is_written_over_its_source(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(click.UsageError, match="written over itself"):
        targets(str(tmp_path / "a.png"), 1, inputs=(str(tmp_path / "link.png"),))


def test_latents_by_name_or_format() -> None:
    (file,), (pipe,) = plan_outputs("a.LCI", 1, None, ()), plan_outputs("-", 1, "lci", ())
    assert is_lci(file, None)
    assert is_lci(pipe, "lci")
    assert not is_lci(pipe, "png")
    (bare,) = plan_outputs("bare", 1, "lci", ())
    assert is_lci(bare, "lci")
    for out in ("a.lci", "a.png"):
        with pytest.raises(click.UsageError, match="OUT's extension sets the format"):
            plan_outputs(out, 1, "lci", ())


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("512", (512, 512)), ("768x512", (768, 512)), (" 8X9 ", (8, 9))]
)
def test_dimensions(text: str | None, expected: object) -> None:
    assert parse_dimensions(NO_CONTEXT, NO_CONTEXT, text) == expected


@pytest.mark.parametrize("text", ["", "x", "5x", "-5", "1e3", "512x512x3", "1234567"])
def test_no_dimensions(text: str) -> None:
    if text:
        with pytest.raises(click.BadParameter, match="is no size"):
            parse_dimensions(NO_CONTEXT, NO_CONTEXT, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("a.safetensors:0.8", ("a.safetensors", 0.8)),
        ("a.safetensors:-.5", ("a.safetensors", -0.5)),
        (r"C:\loras\a.safetensors", (r"C:\loras\a.safetensors", 1.0)),
        (r"C:\loras\a.safetensors:2", (r"C:\loras\a.safetensors", 2.0)),
        ("a:b", ("a:b", 1.0)),
    ],
)
def test_loras(text: str, expected: tuple[str, float]) -> None:
    assert parse_lora(NO_CONTEXT, NO_CONTEXT, (text,)) == (expected,)


def test_no_lora() -> None:
    with pytest.raises(click.BadParameter, match="it is empty"):
        parse_lora(NO_CONTEXT, NO_CONTEXT, ("",))
