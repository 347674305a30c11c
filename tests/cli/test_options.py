"""Values of options."""

from __future__ import annotations

import click
import pytest

from latentcodec.cli.compress import compress
from latentcodec.cli.options import exclusive, parse_size

CONTEXT = click.Context(compress)
OPTION = compress.params[0]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5000", 5000),
        ("1", 1),
        ("5000B", 5000),
        ("5KB", 5000),
        ("5kb", 5000),
        ("5 KB", 5000),
        ("1.5MB", 1_500_000),
        ("0.1KB", 100),
        ("1.0015KB", 1001),  # rounded down: a target is never exceeded
        ("4KiB", 4096),
        ("1MiB", 1 << 20),
        ("0.3MiB", 314572),
        ("5.0", 5),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(CONTEXT, OPTION, text) == size


@pytest.mark.parametrize(
    "text",
    ["", "KB", "-5", "5XB", "5K", "five", "5.5", "0", "0KB", "0.0001KB", "1e3", "٥", "5KB5", "nan", "1,5KB"],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no"):
        parse_size(CONTEXT, OPTION, text)


def test_no_size() -> None:
    assert parse_size(CONTEXT, OPTION, None) is None


def test_exclusive() -> None:
    exclusive()
    exclusive(a_b=None, c=False, d=0.0, e=None)
    with pytest.raises(click.UsageError, match="--target-bpp and --min-psnr: give one of them"):
        exclusive(target_bpp=1.0, target_size=None, min_psnr=30.0)
    with pytest.raises(click.UsageError, match="--quality and --target-size"):
        exclusive(quality=0.0, target_size=5)  # zero is a value
