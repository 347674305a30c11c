"""How PyTorch's threads wait for work, and what becomes of them when the process forks.

    spin_briefly()  ─► environment ─► OpenMP, as PyTorch loads it: a waiting thread spins some µs, then sleeps
    survive_forks() ─► before a fork: the threads end ─► parent and child start new ones when they compute
                            └─ where they cannot be ended ─► the child computes on one thread

OpenMP splits every layer among threads that wait for each other at its end. By default a waiting thread
keeps its core for milliseconds, which delays a decode if anything else wants that core, the thread waited for
included. A thread that sleeps at once has to be woken for every layer, which takes longer than a short spin.
`python -m benchmarks busy` measures both sides for any setting.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable

__all__ = ["BRIEF_SPIN", "WAIT_VARIABLES", "spin_briefly", "survive_forks"]

BRIEF_SPIN = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}
"""The first is OpenMP's own: libomp and Intel's libiomp5 sleep at once, as KMP_BLOCKTIME=0 says. GCC's libgomp,
in PyTorch's Linux packages, takes the second for it: rounds of its waiting loop, of some 10 to 50 ns each."""
WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Where one of these is set, the user has decided how threads wait."""
_SOFT = 1  # omp_pause_soft of omp.h: threads end, settings stay


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
    that is so with GCC's libgomp; libomp looks after itself. Here the forking thread's OpenMP threads end
    before every fork; that, and starting them again, takes well under a millisecond on an idle machine.
    subprocess and multiprocessing's "spawn" and "forkserver" are not concerned. A fork that only Python's
    after-fork functions hear of (uWSGI's), or an OpenMP without omp_pause_resource_all, leaves the child with
    one thread. Another thread that computes during the fork may hold a lock of PyTorch's for ever in the
    child; and a CUDA device cannot be used after a fork, which PyTorch says in an error.
    """
    if not hasattr(os, "register_at_fork"):  # Windows
        return
    import torch

    # A library's handle finds the names of those it is linked to as well, whatever their files are called.
    linked = ctypes.CDLL(torch._C.__file__)
    if hasattr(linked, "kmp_set_blocktime"):  # libomp, which ends its threads in its own fork handlers
        return
    end_threads: Callable[[int], int] | None = getattr(linked, "omp_pause_resource_all", None)
    forking = threading.local()  # several threads may fork at once

    def before() -> None:
        forking.ended = end_threads is not None and end_threads(_SOFT) == 0

    def in_child() -> None:
        if not getattr(forking, "ended", False):
            torch.set_num_threads(1)  # no parallel loop needs the threads that are gone
        forking.ended = False

    def in_parent() -> None:
        forking.ended = False

    os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
