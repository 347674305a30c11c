"""Work that is seen while it goes on: its progress, and the scheduler of a live page.

    stream(generator.text_to_image, prompt) ─► Progress, Progress, ... what the method returns

A live page makes pictures while somebody types or draws; the latest request wins:

    submit(request) ─► waits ─► [no newer one for `debounce` seconds] ─► make(request, callback) ─► its Future
                         │                                                   │
    a newer request ─────┴─► takes its place                                 └─► ends between two steps

    latest = Latest(lambda prompt, callback: generator.text_to_image(prompt, seed=1, callback=callback))
    picture = latest.submit("a lighthouse").result().images[0]

One thread does the work, so that a Generator is never used twice at once. What is left behind gets
Superseded. A request like the one that is being worked on, or was last, has its Future.
"""

from __future__ import annotations

import operator
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

from PIL import Image

from latentcodec.errors import Superseded

Request = TypeVar("Request")
Result = TypeVar("Result")

_RECENT = 30  # results that the rate is measured over


@dataclass(frozen=True)
class Progress:
    """After a step: how many of `steps` are done, over all batches; how the first picture looks by now."""

    step: int
    steps: int
    preview: Image.Image | None = None


class Latest(Generic[Request, Result]):
    """Works on one request at a time, always the latest. Close it, or use it in a `with` block."""

    def __init__(
        self,
        make: Callable[[Request, Callable[[Any], None]], Result],
        *,
        debounce: float = 0.0,
        same: Callable[[Request, Request], bool] = operator.eq,
    ) -> None:
        """make(request, callback): does the work and calls callback between steps (a Generator's `callback`).

        debounce: seconds that a request waits for a newer one before it is begun: a third of one is usual for
        typing. same: whether two requests would give the same result; for frames of a camera, whether they
        are alike enough.
        """
        self._make, self._debounce, self._same = make, debounce, same
        self._changed = threading.Condition()
        self._waiting: tuple[Request, Future[Result], float] | None = None
        self._current: tuple[Request, Future[Result]] | None = None
        self._closed = False
        self._finished: deque[float] = deque(maxlen=_RECENT)
        self._thread = threading.Thread(target=self._work, name="latentcodec-live", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> Future[Result]:
        """Ask for the result of a request, in the place of all earlier ones.

        The Future's exception is Superseded where a newer one came, and what `make` raised where it failed.
        Raises Superseded after close.
        """
        with self._changed:
            if self._closed:
                raise Superseded("the live page was closed: make another")
            latest = self._waiting or self._current
            if latest is not None and self._same(latest[0], request) and not self._failed(latest[1]):
                return latest[1]
            self._drop_waiting()
            future: Future[Result] = Future()
            self._waiting = (request, future, time.monotonic() + self._debounce)
            self._changed.notify_all()
            return future

    @property
    def rate(self) -> float:
        """Results a second, over the last ones; 0 before the second."""
        with self._changed:
            times = list(self._finished)
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0

    def close(self) -> None:
        """End the work, between two steps of what is running, and wait for that."""
        with self._changed:
            self._closed = True
            self._drop_waiting()
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Latest[Request, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def _failed(future: Future[Result]) -> bool:
        return future.done() and future.exception() is not None

    def _drop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting[1].set_exception(Superseded("a newer request came before this one was begun"))
            self._waiting = None

    def _next(self) -> tuple[Request, Future[Result]] | None:
        """The request to work on, once it has waited long enough; None at the end."""
        with self._changed:
            while not self._closed:
                left = None if self._waiting is None else self._waiting[2] - time.monotonic()
                if left is not None and left <= 0 and self._waiting is not None:
                    request, future, _ = self._waiting
                    self._waiting, self._current = None, (request, future)
                    return request, future
                self._changed.wait(left)
            return None

    def _work(self) -> None:
        while (job := self._next()) is not None:
            request, future = job
            try:
                result = self._make(request, self._check)
            except BaseException as error:  # noqa: BLE001 - the Future's owner gets it, whatever it is
                future.set_exception(error)
            else:
                with self._changed:
                    self._finished.append(time.monotonic())
                future.set_result(result)

    def _check(self, _: Any = None) -> None:
        """Between two steps: end the run where a newer request is waiting."""
        with self._changed:
            if self._closed or self._waiting is not None:
                raise Superseded("a newer request came while this one was worked on")


def stream(method: Callable[..., Result], *arguments: Any, **options: Any) -> Iterator[Progress | Result]:
    """The progress of a Generator's method as it goes, and what it made at the end.

        for event in stream(generator.text_to_image, "a lighthouse", preview=True):
            ...

    The work is done in a thread; closing the iterator ends it after the step that it is at. What the method
    raises is raised here.
    """
    events: queue.Queue[tuple[str, Any]] = queue.Queue()
    closed = threading.Event()

    def report(progress: Progress) -> None:
        if closed.is_set():
            raise Superseded("nobody reads this stream any more")
        events.put(("progress", progress))

    def work() -> None:
        try:
            events.put(("result", method(*arguments, **options | {"callback": report})))
        except BaseException as error:  # noqa: BLE001 - raised in the consumer, whatever it is
            events.put(("error", error))

    thread = threading.Thread(target=work, name="latentcodec-generate", daemon=True)
    thread.start()
    try:
        kind = "progress"
        while kind == "progress":
            kind, event = events.get()
            if kind == "error":
                raise event
            yield event
    finally:
        closed.set()
        thread.join()
