"""How PyTorch's threads wait for work, and what becomes of them when the process forks.

    spin_briefly()  ─► environment ─► OpenMP, as PyTorch loads it: a waiting thread spins some µs, then sleeps
    survive_forks() ─► before a fork: the threads end ─► parent and child start new ones when they compute
                            └─ where they cannot be ended ─► the child computes on one thread

OpenMP splits every layer among threads, which wait for each other at its end. By default a waiting thread
keeps its core for milliseconds. That is quickest on a quiet machine; on a busy one it delays the very thread
that is waited for. A thread that sleeps at once has to be woken for every layer, which takes longer than a
short spin. `python -m benchmarks busy` measures both sides, for any setting.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["BRIEF_SPIN", "WAIT_VARIABLES", "spin_briefly", "survive_forks"]

BRIEF_SPIN = {
    "GOMP_SPINCOUNT": "3000",
    "KMP_BLOCKTIME": "1",
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_THREAD_TIMEOUT": "12",
}
"""For GCC's libgomp, in PyTorch's Linux packages: rounds of its waiting loop, together some 0.1 ms. For
LLVM's libomp (macOS) and Intel's libiomp5: the shortest wait above none, in ms. For any other: OpenMP's own
word. For numpy's OpenBLAS: 2^12 cycles instead of 2^26. Decoding 512x512 pixels by PyTorch on both cores of
an AMD EPYC took 4 % longer than with libgomp's default while nothing else ran, and beside a busy process 1.8
times that (at worst 2.1) instead of 3.0 (4.3)."""
WAIT_VARIABLES = (
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "KMP_LIBRARY",
    "OPENBLAS_THREAD_TIMEOUT",
)
"""Where one of these is set, the user has decided how threads wait."""
_SOFT = 1  # omp_pause_soft of omp.h: threads end, settings stay
_RUNNING = ("R", "D")  # states in proc(5): on a core or waiting for one; in the kernel, freeing memory
_PATIENCE = 0.2  # seconds that a fork waits for threads to exit; on a busy machine each may wait for a core


def spin_briefly() -> bool:
    """Put BRIEF_SPIN into the environment of this process and of those that it starts.

    Returns whether it did: not where the user has set one of WAIT_VARIABLES, and not where PyTorch is loaded,
    as OpenMP reads the environment only then. Programs call it (the command line, the benchmarks); the
    library never changes the environment of a program that imports it.
    """
    if "torch" in sys.modules or any(name in os.environ for name in WAIT_VARIABLES):
        return False
    os.environ.update(BRIEF_SPIN)
    return True


def survive_forks() -> None:
    """Let processes that fork from this one compute, though OpenMP's threads do not exist in them.

    Without it a forked process waits for ever in its first parallel loop if the forking thread has run one:
    so it is with GCC's libgomp, while libomp looks after itself. Here the forking thread's OpenMP threads end
    before every fork; it and the child start new ones when they need them. That adds less than a millisecond
    to a fork, which takes ten, and up to _PATIENCE where other threads compute meanwhile. subprocess and
    multiprocessing's "spawn" are not concerned.

    A child has one thread if its fork did not call Python's before-fork functions (uWSGI's does not), or if
    this OpenMP has no omp_pause_resource_all. What cannot be mended here: another thread that computes during
    the fork may hold a lock of PyTorch's, which then stays locked in the child; and CUDA cannot be used after
    a fork, which PyTorch reports as an error. Start such processes by "spawn".
    """
    if not hasattr(os, "register_at_fork"):  # Windows
        return
    import torch

    # A library's handle finds the names of those it is linked to as well, whatever their files are called.
    linked = ctypes.CDLL(torch._C.__file__)
    if hasattr(linked, "kmp_set_blocktime"):  # libomp, which has fork handlers of its own
        return
    end_threads: Callable[[int], int] | None = getattr(linked, "omp_pause_resource_all", None)
    forking = threading.local()  # several threads may fork at once

    def before() -> None:
        forking.ended = end_threads is not None and end_threads(_SOFT) == 0
        _wait_for_exits()

    def in_child() -> None:
        if not getattr(forking, "ended", False):
            torch.set_num_threads(1)  # no parallel loop needs the threads that are gone
        forking.ended = False

    def in_parent() -> None:
        forking.ended = False

    os.register_at_fork(before=before, after_in_child=in_child, after_in_parent=in_parent)


def _wait_for_exits() -> None:
    """Wait until threads that are about to exit have done so, as far as Linux lets us see them.

    In its last steps a thread gives back its buffers of MKL, and holds a lock meanwhile: if the process forks
    then, the lock is held for ever in the child. An exiting thread runs, while an idle one of another pool
    sleeps, and those of Python are known.
    """
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        known = {str(thread.native_id) for thread in threading.enumerate()}
        if not any(_runs(task) for task in tasks.iterdir() if task.name not in known):
            return
        time.sleep(0.0005)


def _runs(task: Path) -> bool:
    try:
        fields = (task / "stat").read_text().rpartition(")")[2].split()  # after the name, of any signs
    except OSError:  # it is gone
        return False
    return bool(fields) and fields[0] in _RUNNING
