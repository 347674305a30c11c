"""A fuzzer's cases for as long as is asked, in a process that has little memory to grow by.

number ─► attempt ─► what the case came to, counted; or an error that is none of the library's, printed
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path


def run_for(seconds: float, memory: int, attempt: Callable[[int], str]) -> None:
    """Run the cases 0, 1, 2 ... of `attempt`, which has warmed up; `memory`: bytes that they may take."""
    import resource  # POSIX alone has it

    resident = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (resident + memory, resident + memory))
    came_to, failed, slowest, start = Counter[str](), 0, (0.0, 0), time.monotonic()
    for number in count():
        if time.monotonic() - start > seconds:
            break
        begun = time.process_time()
        try:
            came_to[attempt(number)] += 1
        except Exception as error:  # noqa: BLE001 - these are what is sought
            failed += 1
            print(f"case {number}: {error!r}"[:300], flush=True)
        slowest = max(slowest, (time.process_time() - begun, number))
    total = sum(came_to.values()) + failed
    print(f"{total} cases, {failed} failed; the slowest, {slowest[1]}, took {slowest[0]:.2f} s")
    for name, cases in sorted(came_to.items()):
        print(f"{cases:9} {name}")
