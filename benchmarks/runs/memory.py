"""How much memory a piece of work takes at its peak, from the kernel's own high-water mark.

free heap given back ─► mark reset ─► resident before ─► work ─► high-water mark - resident before
"""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["PeakMemory"]

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_HIGH_WATER_MARK = "5"  # proc(5), clear_refs


class PeakMemory:
    """The peak of this process while the context lasts, above what was resident when it began, in `bytes`.

    Free of sampling, since Linux keeps the mark (to some hundred kilobytes); None on other systems. What the
    process holds anyway (loaded weights, tables) is not in it, nor is the memory of a GPU. Memory that the
    allocator kept from earlier work is given back first (where the C library is glibc), so that using it
    again counts.
    """

    bytes: int | None = None
    _before: int | None = None

    def __enter__(self) -> Self:
        try:
            with contextlib.suppress(AttributeError):  # not glibc
                ctypes.CDLL(None).malloc_trim(0)
            RESET.write_text(RESET_HIGH_WATER_MARK)
            self._before = _status("VmRSS")
        except (OSError, TypeError):  # no /proc, or none that may be written; Windows has no CDLL(None)
            self._before = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            self.bytes = max(0, _status("VmHWM") - self._before)


def _status(field: str) -> int:
    """A line of /proc/self/status, in bytes. Raises OSError where there is none."""
    for line in STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"{STATUS} has no {field}")
