"""Ctrl-C and SIGTERM as a wish to stop, which training heeds between two steps.

signal ─► noted ─► the step ends ─► checkpoint ─► the caller reads which signal it was
the same signal again ─► what it would have done without us
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def noted_signals() -> Iterator[list[signal.Signals]]:
    """A list to which the first SIGINT and SIGTERM are appended; the handlers come back at the end.

    Outside of the main thread, where Python allows no handlers, the list stays empty.
    """
    noted: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in previous.items() if handler is not None}

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(signal.Signals(number))
        signal.signal(number, ours[signal.Signals(number)])  # the second one does not wait

    for number in ours:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
