"""The scheduler of a live page: the latest request wins, stale ones end between steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from latentcodec.errors import Superseded
from latentcodec.generate.live import Latest

WAIT = 30.0


class Maker:
    """Works in steps that the test lets go on, one by one."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.steps: list[str] = []
        self.started = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def __call__(self, request: str, callback: Callable[[Any], None]) -> str:
        self.begun.append(request)
        for _ in range(2):
            self.started.release()
            assert self.go_on.acquire(timeout=WAIT)
            self.steps.append(request)
            callback(None)
        return request.upper()


def test_a_result_arrives() -> None:
    maker = Maker()
    with Latest(maker) as latest:
        future = latest.submit("a")
        maker.go_on.release(2)
        assert future.result(WAIT) == "A"


def test_a_newer_request_ends_the_running_one_between_steps_and_replaces_the_waiting_one() -> None:
    maker = Maker()
    with Latest(maker) as latest:
        first = latest.submit("first")
        assert maker.started.acquire(timeout=WAIT)  # it is within its first step
        second, third = latest.submit("second"), latest.submit("third")
        maker.go_on.release(3)
        assert third.result(WAIT) == "THIRD"
        assert isinstance(first.exception(WAIT), Superseded)
        assert isinstance(second.exception(WAIT), Superseded)
    assert maker.begun == ["first", "third"]
    assert maker.steps == ["first", "third", "third"]


def test_the_same_request_is_not_made_twice() -> None:
    maker = Maker()
    with Latest(maker) as latest:
        future = latest.submit("a")
        assert maker.started.acquire(timeout=WAIT)
        assert latest.submit("a") is future  # while it is worked on
        maker.go_on.release(2)
        assert future.result(WAIT) == "A"
        assert latest.submit("a") is future  # and afterwards
    assert maker.begun == ["a"]


def test_what_is_alike_is_said_by_the_caller() -> None:
    with Latest(lambda number, callback: number, same=lambda a, b: abs(a - b) < 1) as latest:
        assert latest.submit(1.0).result(WAIT) == 1.0
        assert latest.submit(1.5).result(WAIT) == 1.0
        assert latest.submit(3.0).result(WAIT) == 3.0
        assert latest.rate > 0


def test_an_error_is_the_futures_and_the_next_request_is_made() -> None:
    def fail(request: str, _: Callable[[Any], None]) -> str:
        if request == "bad":
            raise ValueError(request)
        return request

    with Latest(fail) as latest:
        with pytest.raises(ValueError, match="bad"):
            latest.submit("bad").result(WAIT)
        with pytest.raises(ValueError, match="bad"):  # not the old Future: it may work this time
            latest.submit("bad").result(WAIT)
        assert latest.submit("good").result(WAIT) == "good"


def test_a_debounced_request_waits_for_a_newer_one() -> None:
    maker = Maker()
    maker.go_on.release(10)
    with Latest(maker, debounce=0.2) as latest:
        futures = [latest.submit(text) for text in ("l", "li", "lig", "light")]
        assert futures[-1].result(WAIT) == "LIGHT"
    assert maker.begun == ["light"]
    assert all(isinstance(future.exception(), Superseded) for future in futures[:-1])


def test_closing_ends_what_runs_and_what_waits() -> None:
    maker = Maker()
    latest = Latest(maker)
    running = latest.submit("a")
    assert maker.started.acquire(timeout=WAIT)
    waiting = latest.submit("b")
    closing = threading.Thread(target=latest.close)
    closing.start()
    maker.go_on.release()
    closing.join(WAIT)
    assert isinstance(running.exception(WAIT), Superseded)
    assert isinstance(waiting.exception(WAIT), Superseded)
    with pytest.raises(Superseded, match="closed"):
        latest.submit("c")
