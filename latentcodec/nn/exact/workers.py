"""Threads that share the rows of a map.

    rows ─► shares ─► a queue ─┬─► the calling thread
                               └─► threads of the pool, as far as they are free

Work that is too small to share is done by the calling thread at once. A share is taken when a thread is free,
so that a busy core delays one share and not the whole; nobody waits for a thread that has not begun.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise

__all__ = ["Workers"]

LEAST_WORK = 1 << 24  # multiplications that take some 0.1 ms: a pool's thread begins after 0.05 ms
SHARES = 3  # a thread: they end at about the same time


class Workers:
    """A number of threads, the calling one among them; others start when they are first needed."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def share(self, rows: int, step: int, work: int, run: Callable[[int, int], None]) -> None:
        """Call run(first, last) for all rows in shares that begin at multiples of `step`.

        run must release the lock of Python's to gain. What it raises is raised here.
        """
        steps = -(-rows // step)
        shares = min(steps, SHARES * self._threads, work // LEAST_WORK) if self._threads > 1 else 1
        if shares < 2:
            run(0, rows)
            return
        ends = [min(steps * share // shares * step, rows) for share in range(shares + 1)]
        waiting = deque(pairwise(ends))

        def take() -> None:
            while True:
                try:
                    first, last = waiting.popleft()  # of a deque it is safe in any number of threads
                except IndexError:
                    return
                run(first, last)

        helpers = self._begun(take, min(self._threads, shares) - 1)
        try:
            take()
        finally:
            waiting.clear()
            for helper in helpers:
                helper.cancel()
            errors = [helper.exception() for helper in helpers if not helper.cancelled()]
        for error in errors:
            if error is not None:
                raise error

    def _begun(self, take: Callable[[], None], count: int) -> list[Future[None]]:
        """So many threads that run `take`; fewer where the system has no more, or Python is about to end."""
        begun: list[Future[None]] = []
        try:
            pool = self._started()
            begun.extend(pool.submit(take) for _ in range(count))
        except RuntimeError:
            pass
        return begun

    def _started(self) -> ThreadPoolExecutor:
        """This process's pool: a fork leaves its parent's threads behind.

        Two threads that come here at once may each make one; the one that is not kept ends with its work.
        """
        held = self._pool
        if held is None or held[0] != os.getpid():
            held = self._pool = os.getpid(), ThreadPoolExecutor(self._threads - 1, "latentcodec-map")
        return held[1]
