"""One measurement: a picture through a codec at a setting, timed, weighed and compared.

picture ─► encode ─► bytes ─► decode ─► metrics(picture, decoded) ─► Row
             └─ wall and CPU ─┘ └─► OUT/streams/<hash>
             └── peak memory ──┘
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.metrics import Metric
from benchmarks.peers import Peer
from benchmarks.pictures.arrays import Pixels, to_png
from benchmarks.pictures.datasets import load
from benchmarks.runs.environment import machine, packages
from benchmarks.runs.memory import PeakMemory
from benchmarks.runs.rows import PICTURES, STREAMS, Row
from latentcodec.atomic import write_atomically
from latentcodec.errors import InvalidArgument

__all__ = ["HASH_DIGITS", "Bench", "Job"]

HASH_DIGITS = 32


@dataclass(frozen=True)
class Job:
    """One row to be made."""

    path: Path
    digest: str
    codec: str
    version: str
    setting: float


class Bench:
    """Makes rows, in one process and on one thread; goes to other processes by pickle."""

    def __init__(
        self, peers: Sequence[Peer], metrics: Mapping[str, Metric], out: Path, jobs: int = 1
    ) -> None:
        """out: the result folder, for streams and reference pictures. jobs: processes at work at once."""
        self.peers = {peer.name: peer for peer in peers}
        self.metrics, self.out, self.jobs = dict(metrics), out, jobs
        self._machine, self._packages = machine(), packages()
        self._loaded: tuple[Path, Pixels | Exception] | None = None
        self._warm: set[tuple[str, tuple[int, ...]]] = set()

    def measure(self, job: Job) -> Row:
        """One row. What a codec or a metric raises goes into its error, beside what was measured before."""
        row = self.row(job)
        peer = self.peers[job.codec]
        step = "load"
        try:
            picture = self._picture(job)
            height, width = picture.shape[:2]
            row = replace(row, pixels=height * width, width=width, height=height)
            self._warm_up(peer, picture, job.setting)
            with PeakMemory() as peak:
                step = "encode"
                start, cpu = time.perf_counter(), time.process_time()
                data = peer.encode(picture, job.setting)
                row = replace(
                    row,
                    bytes=len(data),
                    bpp=8 * len(data) / (height * width),
                    encode_seconds=time.perf_counter() - start,
                    encode_cpu_seconds=time.process_time() - cpu,
                )
                step = "decode"
                start, cpu = time.perf_counter(), time.process_time()
                decoded = peer.decode(data)
                row = replace(
                    row,
                    decode_seconds=time.perf_counter() - start,
                    decode_cpu_seconds=time.process_time() - cpu,
                )
            row = replace(row, peak_memory=peak.bytes)
            if decoded.shape != picture.shape:
                raise InvalidArgument(f"the picture is {picture.shape}, and {decoded.shape} came back")
            step = "stream"
            row = replace(row, stream=self._keep(data, peer.suffix))
            for step, metric in self.metrics.items():
                row = _compared(row, step, metric, picture, decoded)
        except Exception as error:  # noqa: BLE001 - a benchmark reports what a codec raises, whatever it is
            why = f"{step}: {type(error).__name__}: {error}"
            row = replace(
                row, stream=None, error=why.replace(str(job.path), job.path.name)
            )  # no folder names
        return row

    def row(self, job: Job) -> Row:
        """The job's row with nothing measured yet."""
        return Row(
            job.path.name,
            job.digest,
            job.codec,
            job.version,
            job.setting,
            self._machine,
            jobs=self.jobs,
            packages=self._packages,
        )

    def _picture(self, job: Job) -> Pixels:
        """The job's picture, loaded once for the jobs that follow each other, and its copy in `out`."""
        if self._loaded is None or self._loaded[0] != job.path:
            try:
                picture = load(job.path)
                self._loaded = job.path, picture
                reference = self.out / PICTURES / f"{job.digest}.png"
                if not reference.exists():
                    reference.parent.mkdir(parents=True, exist_ok=True)
                    write_atomically(reference, to_png(picture))
            except Exception as error:  # noqa: BLE001 - an unreadable picture is rows with an error
                self._loaded = job.path, error
        loaded = self._loaded[1]
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    def _warm_up(self, peer: Peer, picture: Pixels, setting: float) -> None:
        """Codes one picture of each size untimed: the first run of a network sets up its kernels."""
        if (peer.name, picture.shape) not in self._warm:
            self._warm.add((peer.name, picture.shape))
            with contextlib.suppress(Exception):  # it will be raised again, and caught, where it is measured
                peer.decode(peer.encode(picture, setting))

    def _keep(self, data: bytes, suffix: str) -> str:
        name = hashlib.sha256(data).hexdigest()[:HASH_DIGITS] + suffix
        path = self.out / STREAMS / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)
        return name


def _compared(row: Row, name: str, metric: Metric, picture: Pixels, decoded: Pixels) -> Row:
    """The row with the metric's value, or with why it has none."""
    least = metric.smallest_side
    if min(picture.shape[:2]) < least:
        return replace(row, undefined={**row.undefined, name: f"needs {least}x{least}"})
    value = metric(picture, decoded)
    if math.isnan(value):
        raise InvalidArgument("not a number")
    return replace(row, metrics={**row.metrics, name: value})
