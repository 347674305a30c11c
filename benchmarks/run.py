"""A rate-distortion run: every picture through every codec at every setting, a row each.

    picture ─► encode ─► bytes ─► decode ─► metrics(picture, decoded) ─► Row ─► rows.jsonl
               timed              timed

A run takes up where an earlier one stopped: rows that hold what is asked for are kept, failures are tried
again, and rows of another version of a codec or of a changed picture are replaced.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmarks.datasets import Pixels, digest, load
from benchmarks.peers import Peer
from benchmarks.rows import ROWS, Row, read_rows, write_rows
from latentcodec.errors import InvalidArgument

__all__ = ["Job", "measure", "run"]

Metric = Callable[[Pixels, Pixels], float]
"""metric(reference, distorted): both uint8 (H, W, 3)."""


@dataclass(frozen=True)
class Job:
    """One row to be made."""

    path: Path
    digest: str
    peer: Peer
    setting: float

    def answered_by(self, row: Row, metrics: Mapping[str, Metric]) -> bool:
        """Whether the row already holds all that this job would measure."""
        return (
            (row.picture, row.digest) == (self.path.name, self.digest)
            and (row.codec, row.version, row.setting) == (self.peer.name, self.peer.version, self.setting)
            and row.error is None
            and row.metrics.keys() >= metrics.keys()
        )


def run(
    pictures: Sequence[Path],
    peers: Sequence[Peer],
    metrics: Mapping[str, Metric],
    out: Path,
    *,
    settings: Sequence[float] | None = None,
    console: Console | None = None,
) -> list[Row]:
    """Measures whatever out/rows.jsonl does not hold yet and returns all its rows.

    `settings` replaces every peer's own sweep. Raises InvalidArgument if `out` belongs to other pictures;
    what goes wrong with one picture is a row with an error, and the run goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / ROWS
    jobs = [
        Job(picture, name, peer, setting)
        for picture in pictures
        for name in [digest(picture)]
        for peer in peers
        for setting in (peer.settings if settings is None else settings)
    ]
    kept = _still_valid(read_rows(path), pictures, peers, path)
    done = {_key(row): row for row in kept}
    due = [job for job in jobs if not (_key(job) in done and job.answered_by(done[_key(job)], metrics))]
    for job in due:
        done.pop(_key(job), None)
    write_rows(path, done.values())
    with path.open("a", encoding="utf-8") as file, _progress(console) as progress:
        task = progress.add_task("", total=len(jobs), completed=len(jobs) - len(due))
        for job, picture in _with_pictures(due):
            progress.update(task, description=f"{job.path.name} {job.peer.name} {job.setting:g}")
            row = measure(job, picture, metrics)
            file.write(row.to_json() + "\n")
            file.flush()
            done[_key(job)] = row
            progress.advance(task)
    return list(done.values())


def measure(job: Job, picture: Pixels | Exception, metrics: Mapping[str, Metric]) -> Row:
    """One row. What a codec or a metric raises goes into its error, beside what was measured before."""
    peer = job.peer
    row = Row(job.path.name, job.digest, peer.name, peer.version, job.setting, _machine())
    step = "load"
    try:
        if isinstance(picture, Exception):
            raise picture
        row = replace(row, pixels=picture.shape[0] * picture.shape[1])
        step = "encode"
        start = time.perf_counter()
        data = peer.encode(picture, job.setting)
        seconds = time.perf_counter() - start
        row = replace(row, bytes=len(data), bpp=8 * len(data) / (row.pixels or 1), encode_seconds=seconds)
        step = "decode"
        start = time.perf_counter()
        decoded = peer.decode(data)
        row = replace(row, decode_seconds=time.perf_counter() - start)
        if decoded.shape != picture.shape:
            raise InvalidArgument(f"the picture is {picture.shape}, and {decoded.shape} came back")
        for name, metric in metrics.items():
            step = name
            value = metric(picture, decoded)
            if math.isnan(value):
                raise InvalidArgument("not a number")
            row = replace(row, metrics={**row.metrics, name: value})
    except Exception as error:  # noqa: BLE001 - a benchmark reports what a codec raises, whatever it is
        row = replace(row, error=f"{step}: {type(error).__name__}: {error}")
    return row


def _still_valid(rows: list[Row], pictures: Sequence[Path], peers: Sequence[Peer], path: Path) -> list[Row]:
    """The rows but those that another version of these codecs made."""
    strangers = {row.picture for row in rows} - {picture.name for picture in pictures}
    if strangers:
        raise InvalidArgument(
            f"{path} holds rows of {min(strangers)}, which is not among the {len(pictures)} pictures of this "
            "run; choose another --out, or delete the file"
        )
    versions = {peer.name: peer.version for peer in peers}
    return [row for row in rows if row.version == versions.get(row.codec, row.version)]


def _key(of: Row | Job) -> tuple[str, str, float]:
    if isinstance(of, Row):
        return of.picture, of.codec, float(of.setting)
    return of.path.name, of.peer.name, float(of.setting)


def _with_pictures(jobs: Sequence[Job]) -> Iterator[tuple[Job, Pixels | Exception]]:
    """Each job with its picture, loaded once, after its codec has coded one picture of this size untimed."""
    path: Path | None = None
    picture: Pixels | Exception = InvalidArgument("not loaded")
    warm: set[tuple[str, tuple[int, ...]]] = set()
    for job in jobs:
        if job.path != path:
            path = job.path
            try:
                picture = load(path)
            except Exception as error:  # noqa: BLE001 - an unreadable picture is rows with an error
                picture = error
        if not isinstance(picture, Exception) and (job.peer.name, picture.shape) not in warm:
            warm.add((job.peer.name, picture.shape))
            with contextlib.suppress(Exception):  # it will be raised again, and caught, where it is measured
                job.peer.decode(job.peer.encode(picture, job.setting))
        yield job, picture


def _machine() -> str:
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, OMP_NUM_THREADS {threads}"


def _progress(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )
