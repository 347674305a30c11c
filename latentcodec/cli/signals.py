"""SIGTERM and SIGHUP as exceptions, so that half-written files are removed before the process ends by them.

signal ─► Terminated ─► write_atomically and others undo what they had begun ─► the signal's own effect
the next signal ─► its own effect at once

Only the command line does this. The library leaves the signals of a program that imports it alone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "undone_by_signals"]

_NAMES = ("SIGTERM", "SIGHUP")  # of those that end a process by default and may come at any time, but SIGINT


class Terminated(BaseException):
    """The process is to end by a signal. No Exception: nothing may take it for an error of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def undone_by_signals() -> Iterator[None]:
    """In here SIGTERM and SIGHUP raise Terminated; at the end of the block what came kills the process.

    So a shell, or a parent, sees the exit status that it would have seen without us. Signals that are ignored
    (nohup) or handled already stay so; all do outside of the main thread, where Python allows no handlers.
    """
    ours: list[int] = []
    process = os.getpid()

    def restore() -> None:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)

    def end(number: int, frame: FrameType | None) -> None:
        restore()  # a second signal does not wait
        if os.getpid() != process:  # a fork has begun nothing
            os.kill(os.getpid(), number)
        raise Terminated(number)

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
        ours += [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    try:
        for number in ours:
            signal.signal(number, end)
        yield
    except Terminated as ended:
        os.kill(os.getpid(), ended.number)
        raise  # where the kill comes late
    finally:
        restore()
