"""One measurement a line: rows.jsonl, to which a run appends and which a later run takes up again.

    {"picture": "kodim01.png", "digest": ..., "codec": "jpeg", "version": ..., "setting": 50, "machine": ...,
     "pixels": 393216, "bytes": 42517, "bpp": 0.865, "metrics": {"psnr": 32.2, ...},
     "encode_seconds": ..., "decode_seconds": ..., "error": null}

A failure is a row too: it says so in "error" and holds what was measured before. An infinite quality (the
same picture came back) is null, since JSON has no infinity.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from latentcodec.errors import InvalidArgument

__all__ = ["ROWS", "Row", "read_rows", "write_rows"]

ROWS = "rows.jsonl"


@dataclass(frozen=True)
class Row:
    """What one codec did to one picture at one setting."""

    picture: str
    """The file's name in its folder."""
    digest: str
    """Names the file's contents (datasets.digest): a changed picture is measured again."""
    codec: str
    version: str
    setting: float
    machine: str
    """Where it was timed: processor, cores, threads."""
    pixels: int | None = None
    """Width times height, never padded."""
    bytes: int | None = None
    bpp: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    error: str | None = None

    def to_json(self) -> str:
        """The row as one line, without its end."""
        values = asdict(self)
        values["metrics"] = {
            name: value if math.isfinite(value) else None for name, value in self.metrics.items()
        }
        return json.dumps(values, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The inverse of to_json. Raises InvalidArgument for anything that to_json does not write."""
        try:
            values: dict[str, Any] = json.loads(line)
            metrics = {
                name: math.inf if value is None else float(value) for name, value in values["metrics"].items()
            }
            unknown = values.keys() - {each.name for each in fields(cls)}
            if unknown:
                raise KeyError(*unknown)
            return cls(**{**values, "metrics": metrics})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidArgument(f"not a row: {type(error).__name__}: {error}") from error


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none if it is not there. A last line that a killed run left unfinished is dropped.

    Raises InvalidArgument for a line that is no row.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line end is empty or unfinished
        try:
            rows.append(Row.from_json(line))
        except InvalidArgument as error:
            raise InvalidArgument(f"{path}, line {number}: {error}; mend or delete it") from error
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replaces the file's rows, all or nothing."""
    draft = path.with_name(path.name + ".new")
    draft.write_text("".join(row.to_json() + "\n" for row in rows), encoding="utf-8")
    os.replace(draft, path)
