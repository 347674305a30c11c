"""Measurements in this process, or in several that may die.

    jobs ─► [pipe ─► Bench.measure in a process ─► pipe] × N ─► rows, as they come

Each process is a fresh Python (spawn) with a pipe of its own and one job at a time, so that a codec that
takes its process down costs that job alone, which becomes a failed row. A process whose parent is gone ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import cast

from benchmarks.runs.measure import Bench, Job
from benchmarks.runs.rows import Row
from latentcodec.errors import InvalidArgument

__all__ = ["measure_all"]

READY = "ready"
PATIENCE = 5.0  # seconds that a process gets to end on its own


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job: Job | None = None
    ready: bool = False


def measure_all(bench: Bench, jobs: Sequence[Job]) -> Generator[Row, None, None]:
    """The jobs' rows; with bench.jobs > 1 in the order in which they are finished.

    Raises InvalidArgument if a process dies before its first job.
    """
    if bench.jobs > 1 and jobs:
        yield from _in_processes(bench, deque(jobs))
        return
    with _one_thread():
        for job in jobs:
            yield bench.measure(job)


def _in_processes(bench: Bench, queue: deque[Job]) -> Iterator[Row]:
    workers: list[_Worker] = []
    try:
        workers.extend(_start(bench) for _ in range(min(bench.jobs, len(queue))))
        while workers:
            by_connection = {worker.connection: worker for worker in workers}
            for connection in wait(list(by_connection)):
                worker = by_connection[cast(Connection, connection)]
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):  # it is dead, for it alone held the other end
                    workers.remove(worker)
                    failed = _died(worker, bench)
                    if failed:
                        yield failed
                    if queue:
                        workers.append(_start(bench))
                    continue
                worker.ready, worker.job = True, None
                if isinstance(message, Row):
                    yield message
                if queue:
                    worker.job = queue.popleft()
                    with contextlib.suppress(OSError):  # it died just now, which the next recv reports
                        worker.connection.send(worker.job)
                else:
                    workers.remove(worker)
                    _end([worker])
    finally:
        _end(workers)


def _died(worker: _Worker, bench: Bench) -> Row | None:
    """The failed row of the job that the worker died of, if it had one."""
    worker.process.join(PATIENCE)
    _end([worker])
    if not worker.ready:
        raise InvalidArgument(
            f"a process that was to measure ended before it began ({_ending(worker.process)}); try --jobs 1"
        )
    if worker.job is None:
        return None
    return replace(bench.row(worker.job), error=f"process: it ended with {_ending(worker.process)}")


def _start(bench: Bench) -> _Worker:
    ours, theirs = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_work, args=(theirs, bench), daemon=True)
    # A Ctrl-C goes to the whole group of processes, and only this one is to answer it: a new process inherits
    # that it is ignored. The number of threads too must be set before numpy is imported there.
    with _environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1"), _sigint_ignored():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(connection: Connection, bench: Bench) -> None:
    """A process's life: a job in, a row out, until the parent has none or is gone."""
    with contextlib.suppress(EOFError, OSError), _one_thread():
        connection.send(READY)
        while True:
            connection.send(bench.measure(connection.recv()))


def _end(workers: Sequence[_Worker]) -> None:
    """Idle workers end when their pipe is closed; one that is at work is stopped."""
    for worker in workers:
        alive = worker.process.is_alive()
        worker.connection.close()
        if alive and (worker.job is not None or not worker.ready):
            worker.process.terminate()
    for worker in workers:
        worker.process.join(PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _ending(process: SpawnProcess) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f"code {code}"
    return f"{signal.Signals(-code).name}"


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """PyTorch on one thread while the context lasts, if it is loaded."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _sigint_ignored() -> Iterator[None]:
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread, which cannot be interrupted either
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
