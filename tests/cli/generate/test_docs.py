"""docs/generation.md says what is so: defaults, models to fetch, commands and their options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from latentcodec.cli.main import main
from latentcodec.generate.defaults import SAMPLERS, defaults_of
from latentcodec.weights.checkpoints.families import FAMILIES
from latentcodec.weights.registry import KNOWN

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "generation.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:1] == "|"
]
DEFAULTS = [row for row in ROWS if len(row) == 5 and re.match(r"[\d.]+$", row[2]) and row[1].isdigit()]


@pytest.mark.parametrize("row", DEFAULTS, ids=lambda row: row[0])
def test_defaults(row: list[str]) -> None:
    names = re.findall(r"`([\w-]+)`", row[0])
    assert set(names) <= set(FAMILIES)
    for name in names:
        found = defaults_of(name, None, few_steps="turbo" in row[0])
        assert (found.steps, found.guidance) == (int(row[1]), float(row[2]))
        assert re.search(r"`([^`]+)`", row[3])[1] == found.sampler  # type: ignore[index]
        assert ("eta 1" in row[3]) == (found.eta == 1)
        assert ("trailing" in row[3]) == (found.spacing == "trailing")


def test_every_family_has_its_defaults() -> None:
    assert len(DEFAULTS) == 8
    named = {name for row in DEFAULTS for name in re.findall(r"`([\w-]+)`", row[0])}
    assert named == set(FAMILIES)


def test_models_to_fetch() -> None:
    rows = [row for row in ROWS if row[-1] in {"MIT", *(known.licence for known in KNOWN.values())}]
    for name in (name for row in rows for name in re.findall(r"`([\w-]+)`", row[0])):
        assert name in KNOWN
    named = set(re.findall(r"`([\w-]+)`", PAGE))
    generates = {name for name, known in KNOWN.items() if known.family in FAMILIES}
    assert generates <= named


def test_commands_and_options_exist() -> None:
    lines = re.findall(r"^    latentcodec (.+)$", PAGE, re.MULTILINE)
    assert len(lines) > 10
    for line in lines:
        words = shlex.split(line, comments=True)
        command = main.commands[words[0]]
        if words[0] == "models":
            continue
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if re.match(r"--?[a-z]", word)} <= known, line
    options = set(re.findall(r"--[a-z][a-z-]*", PAGE)) - {"--name", "--strip"}  # of other commands
    every = {
        name for each in main.commands.values() for p in each.params for name in (*p.opts, *p.secondary_opts)
    }
    assert options <= every | {"--help"}
    assert all(sampler in SAMPLERS for sampler in re.findall(r"--sampler ([\w+-]+)`", PAGE))
