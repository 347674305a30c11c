"""Threads at work on items: results in order, no more at once than asked for, errors in their turn."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from latentcodec.parallel import MOST_WORKERS, in_order, workers


@pytest.mark.parametrize(("stated", "expected"), [("3", 3), ("1", 1), (str(10 * MOST_WORKERS), MOST_WORKERS)])
def test_workers_are_those_stated(monkeypatch: pytest.MonkeyPatch, stated: str, expected: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert workers() == expected


@pytest.mark.parametrize("stated", ["", "0", "many", "-1", "1.5"])
def test_or_the_cores(monkeypatch: pytest.MonkeyPatch, stated: str) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    assert workers() == min(cores, MOST_WORKERS)


@pytest.mark.parametrize("threads", [0, 1, 2, 5, 40])
def test_results_are_in_the_order_of_their_items(threads: int) -> None:
    def slowly(item: int) -> int:
        time.sleep(0.003 * (item % 3))
        return item * item

    assert list(in_order(slowly, range(20), threads)) == [item * item for item in range(20)]
    assert list(in_order(slowly, [], threads)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_are_at_work_or_waiting_than_that(threads: int) -> None:
    """What bounds memory: nothing is begun long before its result is taken."""
    at_work, most = 0, 0
    begun: list[int] = []
    lock = threading.Lock()

    def count(item: int) -> int:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.002)
        with lock:
            at_work -= 1
        return item

    def items() -> Iterator[int]:
        for item in range(30):
            begun.append(item)
            yield item

    for taken, _ in enumerate(in_order(count, items(), threads), 1):
        time.sleep(0.003)
        assert len(begun) - taken <= threads
    assert most <= threads


def test_threads_are_at_work_at_once() -> None:
    meeting = threading.Barrier(3, timeout=30)
    assert list(in_order(lambda item: meeting.wait() >= 0, range(6), 3)) == [True] * 6


def test_one_thread_is_the_caller_s_own() -> None:
    found = set(in_order(lambda item: threading.current_thread(), range(4), 1))
    assert found == {threading.current_thread()}


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_is_raised_in_its_turn_and_ends_the_work(threads: int) -> None:
    begun: list[int] = []

    def fail_at_three(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise KeyError(item)
        return item

    results = in_order(fail_at_three, range(1000), threads)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="3"):
        next(results)
    assert len(begun) <= 4 + threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("latentcodec_")]


def test_who_stops_taking_stops_the_work() -> None:
    begun: list[int] = []
    results = in_order(lambda item: begun.append(item), range(1000), 2)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(begun) <= 4
