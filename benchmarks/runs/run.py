"""A rate-distortion run: every picture through every codec at every setting, a row each.

    data set × codecs × settings ─► jobs ─► what rows.jsonl answers already ─► kept
                                      └───► the rest ─► workers ─► appended ─► all, in order

A run takes up where an earlier one stopped, however it stopped: rows of the same picture (by its hash),
version of the codec and setting that hold what is asked for are kept; failures are tried again; rows of
another version of a codec or of a changed picture are replaced. At its end the rows stand in the order of
picture, codec and setting, so that a run that was killed and taken up leaves the same file as one that was
not, but for times and memory.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.metrics import Metric
from benchmarks.peers import Peer
from benchmarks.pictures.datasets import DIGITS, DataSet, digest, sha256
from benchmarks.runs.environment import machine, packages
from benchmarks.runs.measure import HASH_DIGITS, Bench, Job
from benchmarks.runs.rows import PICTURES, ROWS, RUN, SCHEMA, STREAMS, Row, read_rows, write_rows
from benchmarks.runs.workers import measure_all
from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidArgument

__all__ = ["run"]

LOCK = ".lock"
TEMPORARY = r"\.[0-9a-f]{16}\.tmp"  # what a kill leaves of latentcodec.atomic's
OWN = {
    STREAMS: re.compile(rf"[0-9a-f]{{{HASH_DIGITS}}}\.\w+|{TEMPORARY}"),
    PICTURES: re.compile(rf"[0-9a-f]{{{DIGITS}}}\.png|{TEMPORARY}"),
    "": re.compile(TEMPORARY),
}
"""The names that a run gives its files, by folder: what matches may be removed."""
Key = tuple[str, str, float]


def run(
    data: DataSet,
    peers: Sequence[Peer],
    metrics: Mapping[str, Metric],
    out: Path,
    *,
    settings: Sequence[float] | None = None,
    jobs: int = 1,
    resume: bool = True,
    command: Sequence[str] = (),
    skipped: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> list[Row]:
    """Measures whatever out/rows.jsonl does not hold yet and returns all its rows.

    settings: in place of every peer's own sweep. jobs: processes that measure at once. resume: False forgets
    the rows that are there. command, skipped: for run.json alone. Raises InvalidArgument if `out` belongs to
    other pictures or to a run that is under way, would mix with the data set, or holds rows of a newer
    schema; what goes wrong with one picture is a row with an error, and the run goes on.
    """
    console = console or Console(stderr=True)
    if any(picture.parent.resolve() == (out / PICTURES).resolve() for picture in data.pictures):
        raise InvalidArgument(
            f"{out / PICTURES} holds the data set, and results go there; choose another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        todo = _jobs(data, peers, settings)
        by_key = _reusable(read_rows(out / ROWS) if resume else [], todo, peers, metrics, out, console)
        due = [job for job in todo if _key(job) not in by_key]
        write_rows(out / ROWS, by_key.values())
        _describe(out / RUN, data, peers, metrics, settings, jobs, command, skipped or {})
        if by_key and due:
            console.print(f"{out / ROWS}: {len(todo) - len(due)} rows are there, {len(due)} to go")
        bench = Bench(peers, metrics, out, jobs)
        with (out / ROWS).open("a", encoding="utf-8") as file, _progress(console) as progress:
            task = progress.add_task("", total=len(todo), completed=len(todo) - len(due))
            with contextlib.closing(measure_all(bench, due)) as rows:
                for row in rows:
                    file.write(row.to_json() + "\n")
                    file.flush()
                    by_key[_key(row)] = row
                    progress.update(task, advance=1, description=f"{row.picture} {row.codec} {row.setting:g}")
        ordered = [by_key[key] for key in sorted(by_key)]
        write_rows(out / ROWS, ordered)
        _prune(out, ordered)
        return ordered


def _jobs(data: DataSet, peers: Sequence[Peer], settings: Sequence[float] | None) -> list[Job]:
    """In the order of the pictures, so that each is loaded once."""
    return [
        Job(picture, name, peer.name, peer.version, float(setting))
        for picture in data.pictures
        for name in [_digest(picture)]
        for peer in peers
        for setting in dict.fromkeys(peer.settings if settings is None else settings)
    ]


def _digest(picture: Path) -> str:
    try:
        return digest(picture)
    except OSError:
        return "unreadable"  # why is reported where it is loaded, in every row


def _reusable(
    rows: Sequence[Row],
    jobs: Sequence[Job],
    peers: Sequence[Peer],
    metrics: Mapping[str, Metric],
    out: Path,
    console: Console,
) -> dict[Key, Row]:
    """The rows that answer a job, and those that are of no job but still of these pictures and versions."""
    digests = {job.path.name: job.digest for job in jobs}
    strangers = {row.picture for row in rows if row.digest not in digests.values()} - digests.keys()
    if strangers:
        raise InvalidArgument(
            f"{out / ROWS} holds rows of {min(strangers)}, which is not among the {len(digests)} pictures of "
            "this run; choose another --out, or forget them with --fresh"
        )
    answers = {
        (row.digest, row.codec, row.version, row.setting): row for row in rows if _answers(row, metrics, out)
    }
    versions = {peer.name: peer.version for peer in peers}
    job_keys = {_key(job) for job in jobs}
    reusable = {
        _key(row): row
        for row in rows
        if digests.get(row.picture) == row.digest
        and row.version == versions.get(row.codec, row.version)
        and _key(row) not in job_keys
    }
    for job in jobs:
        answer = answers.get((job.digest, job.codec, job.version, job.setting))
        if answer:
            reusable[_key(job)] = replace(answer, picture=job.path.name)  # the file may have another name now
    old = sum(row.schema < SCHEMA and _key(row) in job_keys for row in rows)
    if old:
        console.print(
            f"{out / ROWS}: {old} rows are of an older schema, without streams and memory: measured again"
        )
    return reusable


def _answers(row: Row, metrics: Mapping[str, Metric], out: Path) -> bool:
    """Whether the row and its files are all that a job would make."""
    return (
        row.error is None
        and row.schema == SCHEMA
        and (row.metrics.keys() | row.undefined.keys()) >= metrics.keys()
        and row.stream is not None
        and (out / STREAMS / row.stream).is_file()
        and (out / PICTURES / f"{row.digest}.png").is_file()
    )


def _key(of: Row | Job) -> Key:
    return of.picture if isinstance(of, Row) else of.path.name, of.codec, float(of.setting)


def _describe(
    path: Path,
    data: DataSet,
    peers: Sequence[Peer],
    metrics: Mapping[str, Metric],
    settings: Sequence[float] | None,
    jobs: int,
    command: Sequence[str],
    skipped: Mapping[str, str],
) -> None:
    """run.json: what the last command was to do, and with what."""
    pictures = []
    for picture in data.pictures:
        with contextlib.suppress(OSError):
            pictures.append(
                {"name": picture.name, "sha256": sha256(picture), "bytes": picture.stat().st_size}
            )
    about: dict[str, Any] = {
        "schema": SCHEMA,
        "command": list(command),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "data_set": data.name,
        "pictures": pictures,
        "codecs": {
            peer.name: {"version": peer.version, "settings": list(settings or peer.settings)}
            for peer in peers
        },
        "metrics": {
            name: {
                "label": metric.label,
                "unit": metric.unit,
                "higher_is_better": metric.higher_is_better,
                "worst": metric.worst if math.isfinite(metric.worst) else None,
                "best": metric.best if math.isfinite(metric.best) else None,
                "smallest_side": metric.smallest_side,
            }
            for name, metric in metrics.items()
        },
        "skipped": dict(skipped),
        "jobs": jobs,
        "machine": machine(),
        "packages": packages(),
    }
    write_atomically(path, (json.dumps(about, indent=2, allow_nan=False) + "\n").encode())


def _prune(out: Path, rows: Sequence[Row]) -> None:
    """Removes files that no row names: of replaced rows, of rows that a kill prevented, half-written ones."""
    named = {row.stream for row in rows} | {f"{row.digest}.png" for row in rows}
    for folder, own in OWN.items():
        if (out / folder).is_dir():
            for path in (out / folder).iterdir():
                if path.name not in named and own.fullmatch(path.name):
                    path.unlink()


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keeps a second run out of the folder. The lock goes with the process, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows: there the user must take care
        yield
        return
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InvalidArgument(
                f"{out}: another run is writing there; wait for it, or choose another"
            ) from error
        yield


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
