"""What other work on the machine does to decoding, for each way in which OpenMP's threads may wait.

    settings ─► a process each, PyTorch loaded under it ─► first decode ─► warm decodes, in turns
                  └─ once on the machine as it is, once beside a process that never rests ─► a table

The processes take turns, so that whatever else the machine does hits all of them alike. `python -m
benchmarks.experiments.busy FILE THREADS` is such a process: for each line that it reads it decodes once and
writes the seconds.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from rich.table import Table

from latentcodec.errors import LatentCodecError
from latentcodec.threads import WAIT_VARIABLES

__all__ = ["Times", "busy_table", "measure"]

ROOT = Path(__file__).parents[2]
PROCESSES = 3
REST = 0.25  # seconds between turns: by then the threads of the last one sleep, with libomp too (0.2 s)
NEVER_RESTS = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
while True: pass
"""
"""Ends when its standard input does, with whoever holds the other end."""


@dataclass(frozen=True)
class Times:
    """Seconds of the decodes under one setting: the first of each process, and those after it."""

    first: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)


def measure(
    file: Path, settings: Mapping[str, Mapping[str, str]], threads: int, runs: int
) -> dict[str, tuple[Times, Times]]:
    """Time decoding `file` under each of the settings, alone and beside one busy process.

    settings: a name -> environment variables; of WAIT_VARIABLES no others are set. threads: of PyTorch.
    runs: warm decodes of each setting and load, shared by up to PROCESSES processes one after the other.
    Returns for each name the times alone and the busy ones. Raises LatentCodecError if a process ends early.
    """
    processes = min(PROCESSES, runs)
    times = {name: (Times(), Times()) for name in settings}
    for busy in (False, True):
        for _ in range(processes):
            with ExitStack() as stack:
                if busy:
                    stack.enter_context(_process([sys.executable, "-c", NEVER_RESTS], {}))
                decoders = {
                    name: stack.enter_context(_decoder(file, threads, variables))
                    for name, variables in settings.items()
                }
                for name, decode in decoders.items():
                    times[name][busy].first.append(decode())
                for _ in range(math.ceil(runs / processes)):
                    for name, decode in decoders.items():
                        time.sleep(REST)
                        times[name][busy].warm.append(decode())
    return times


@contextmanager
def _decoder(file: Path, threads: int, variables: Mapping[str, str]) -> Iterator[Callable[[], float]]:
    """A process that has loaded the codec, as a function: one decode, and its seconds."""
    command = [sys.executable, "-m", "benchmarks.experiments.busy", str(file.resolve()), str(threads)]
    with _process(command, variables) as (requests, answers):

        def decode() -> float:
            try:
                requests.write("decode\n")
                requests.flush()
                return float(answers.readline())
            except (BrokenPipeError, ValueError) as error:
                raise LatentCodecError(
                    f"a process that decodes {file} ended early, with no answer"
                ) from error

        yield decode


@contextmanager
def _process(command: list[str], variables: Mapping[str, str]) -> Iterator[tuple[IO[str], IO[str]]]:
    """The standard input and output of a process that is stopped at the end of the context."""
    environment = {name: value for name, value in os.environ.items() if name not in WAIT_VARIABLES}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment | dict(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield cast(IO[str], process.stdin), cast(IO[str], process.stdout)
    finally:
        process.kill()
        process.communicate()  # closes the pipes and waits


def busy_table(times: Mapping[str, tuple[Times, Times]]) -> Table:
    """Milliseconds, and ratios: of the quiet medians to the first setting's, of busy to quiet ones."""
    table = Table(title="ms alone, and beside one busy process (in brackets: times the median alone)")
    table.add_column("waiting threads")
    for label in ("alone", "to the first", "worst", "first decode", "busy", "worst", "first decode"):
        table.add_column(label, justify="right")
    reference = statistics.median(next(iter(times.values()))[0].warm)
    for name, (alone, busy) in times.items():
        middle = statistics.median(alone.warm)

        def ratio(seconds: float, middle: float = middle) -> str:
            return f"{1000 * seconds:.0f} ({seconds / middle:.1f})"

        table.add_row(
            name,
            f"{1000 * middle:.0f}",
            f"{middle / reference:.3f}",
            ratio(max(alone.warm)),
            f"{1000 * statistics.median(alone.first):.0f}",
            ratio(statistics.median(busy.warm)),
            ratio(max(busy.warm)),
            f"{1000 * statistics.median(busy.first):.0f}",
        )
    return table


def _serve(file: Path, threads: int) -> None:
    """A process's life: a line in, a decode, its seconds out."""
    import torch

    from latentcodec.codec.api import Codec

    torch.set_num_threads(threads)
    codec = Codec(device="cpu")
    codec.load()
    data = file.read_bytes()
    for _ in sys.stdin:
        begun = time.perf_counter()
        codec.decode(data)
        sys.stdout.write(f"{time.perf_counter() - begun}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), int(sys.argv[2]))
