"""Work on tiles and pieces by several threads, in order, with bounded memory.

    items ─► at most `workers` at work, as many finished ones waiting ─► results in the items' order

numpy, the kernel and PyTorch let other threads run while they compute. While one tile's stream is decoded,
which one thread does, another tile's networks run.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST_WORKERS = 8  # each holds a tile's activations, some 100 MB


def workers() -> int:
    """Threads worth having: the cores that this process may use, or what OMP_NUM_THREADS says."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdecimal() and int(stated) > 0:
        return min(int(stated), MOST_WORKERS)
    return min(cores(), MOST_WORKERS)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """function(item) of each item, in order, with up to `threads` of them at work at once.

    An exception is raised in its item's turn; what was begun after it is finished and dropped.
    """
    if threads <= 1:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, "latentcodec") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
