"""One measurement a line: rows.jsonl, to which a run appends and which a later run takes up again.

    OUT/rows.jsonl               {"schema": 2, "picture": "kodim01.png", "codec": "jpeg", "setting": 50,
                                  "bytes": 42517, "metrics": {"psnr": 32.2, ...}, ...}
    OUT/streams/<stream>         the coded bytes, a whole file, named by their SHA-256 and the codec's suffix
    OUT/pictures/<digest>.png    the reference: the picture's pixels as 8-bit RGB
    OUT/run.json                 the command, data set, pictures, codecs, metrics, and what was skipped

A failure is a row too: it says so in "error" and holds what was measured before. An infinite quality (the
same picture came back) is null, since JSON has no infinity; a metric that a picture is too small for is not
in "metrics" but, with the reason, in "undefined".
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Self

from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidArgument

__all__ = ["PICTURES", "ROWS", "RUN", "SCHEMA", "STREAMS", "Row", "read_rows", "write_rows"]

ROWS, STREAMS, PICTURES, RUN = "rows.jsonl", "streams", "pictures", "run.json"
SCHEMA = 2
"""Schema 1, which had no "schema", lacked what follows `error` here: it reads as None."""
KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "str | None": (str, NoneType),
    "int | None": (int, NoneType),
    "float | None": (int, float, NoneType),
    "dict[str, float]": (dict,),
    "dict[str, str]": (dict,),
}
"""What JSON may hold for a field of each type; true and false are no numbers."""
LEAST = {"setting": -math.inf}  # of other numbers it is 0


@dataclass(frozen=True)
class Row:
    """What one codec did to one picture at one setting."""

    picture: str
    """The file's name in its data set."""
    digest: str
    """Names the file's contents (datasets.digest): a changed picture is measured again."""
    codec: str
    version: str
    setting: float
    machine: str
    """Where it was timed: system, processor, cores, threads of a codec."""
    pixels: int | None = None
    """Width times height, never padded."""
    bytes: int | None = None
    bpp: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    encode_seconds: float | None = None
    """Wall clock, as decode_seconds."""
    decode_seconds: float | None = None
    error: str | None = None
    """The step that failed and what it raised."""
    width: int | None = None
    height: int | None = None
    encode_cpu_seconds: float | None = None
    """Of all threads of the process, as decode_cpu_seconds."""
    decode_cpu_seconds: float | None = None
    peak_memory: int | None = None
    """Bytes that encode and decode took at their peak above what was resident before (runs.measure)."""
    jobs: int | None = None
    """Processes that measured at once: with more than one, wall clocks suffer."""
    packages: str | None = None
    """Versions of Python and of the packages that pictures and metrics went through."""
    stream: str | None = None
    """The coded bytes' file name in STREAMS."""
    undefined: dict[str, str] = field(default_factory=dict)
    """Metrics that have no value for this picture, and why."""
    schema: int = SCHEMA
    """Of the file that the row was read from."""

    def to_json(self) -> str:
        """The row as one line, without its end."""
        values = {"schema": self.schema, **asdict(self)}
        values["metrics"] = {
            name: value if math.isfinite(value) else None for name, value in self.metrics.items()
        }
        return json.dumps(values, allow_nan=False)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The inverse of to_json, and for schema 1. Raises InvalidArgument for anything else."""
        try:
            values: dict[str, Any] = json.loads(line)
            schema = values.get("schema", 1)
            if isinstance(schema, int) and schema > SCHEMA:
                raise InvalidArgument(
                    f"schema {schema}, and this version reads up to {SCHEMA}; use the version that wrote it"
                )
            metrics = {
                name: math.inf if value is None else float(value) for name, value in values["metrics"].items()
            }
            unknown = values.keys() - {column.name for column in fields(cls)}
            if unknown:
                raise KeyError(*unknown)
            row = cls(**{**values, "metrics": metrics, "schema": schema})
            row._check()
            return row
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidArgument):
                raise
            raise InvalidArgument(f"not a row: {type(error).__name__}: {error}; mend or delete it") from error

    def _check(self) -> None:
        """Raises TypeError or ValueError for a value that is of another kind or out of its range."""
        for column in fields(self):
            value = getattr(self, column.name)
            kinds = KINDS[str(column.type)]
            if type(value) not in kinds:
                raise TypeError(f"{column.name} is {value!r}, and must be {' or '.join(map(_name, kinds))}")
            if isinstance(value, int | float) and not (
                math.isfinite(value) and value >= LEAST.get(column.name, 0)
            ):
                raise ValueError(f"{column.name} is {value!r}, out of its range")
        if any(math.isnan(value) for value in self.metrics.values()):
            raise ValueError("a metric is not a number")
        if self.metrics and not (self.bytes and self.bpp and self.pixels):
            raise ValueError("metrics without bytes, bpp and pixels above 0")
        if not all(isinstance(why, str) for why in self.undefined.values()):
            raise TypeError("undefined holds reasons, which are texts")


def _name(kind: type) -> str:
    return "null" if kind is NoneType else kind.__name__


def read_rows(path: Path) -> list[Row]:
    """The rows of a file, none if it is not there. A last line that a killed run left unfinished is dropped.

    Raises InvalidArgument for a line that is no row, or one of a newer schema.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last line end is empty or unfinished
        try:
            rows.append(Row.from_json(line))
        except InvalidArgument as error:
            raise InvalidArgument(f"{path}, line {number}: {error}") from error
    return rows


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Replaces the file's rows, all or nothing."""
    write_atomically(path, "".join(row.to_json() + "\n" for row in rows).encode())
