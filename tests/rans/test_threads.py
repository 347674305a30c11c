"""Tables that several threads share: tiles are decoded at the same time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from latentcodec.rans.coder import Tables
from tests.rans_cases import Array, decode, draw, encode, encode_with, mixtures

THREADS = 8


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    """Threads take turns often."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


def fresh_tables() -> Tables:
    """Of which nothing is derived yet."""
    shared = mixtures()
    return Tables(shared.cumulative, shared.size, shared.offset)


def test_threads_that_start_on_fresh_tables_read_the_same(path: str) -> None:
    segments = [draw(3000, seed) for seed in range(THREADS)]
    streams = [encode_with(encode([each], mixtures())[0], 1 + 7 * k) for k, each in enumerate(segments)]
    for _ in range(3):
        tables, ready = fresh_tables(), threading.Barrier(THREADS)

        def run(number: int, tables: Tables = tables, ready: threading.Barrier = ready) -> Array:
            ready.wait()
            return decode(streams[number], [segments[number][1]], tables)[0]

        with ThreadPoolExecutor(THREADS) as pool:
            for number, taken in enumerate(pool.map(run, range(THREADS))):
                np.testing.assert_array_equal(taken, segments[number][0])


def test_threads_that_write_write_the_same(path: str) -> None:
    segments = [draw(3000, seed) for seed in range(THREADS)]
    wanted = [encode([each], mixtures())[1] for each in segments]
    tables, ready = fresh_tables(), threading.Barrier(THREADS)

    def run(number: int) -> bytes:
        ready.wait()
        return encode([segments[number]], tables)[1]

    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(run, range(THREADS))) == wanted


def test_the_inverse_is_one_array_whoever_builds_it_first() -> None:
    lookup, ready = fresh_tables().lookup, threading.Barrier(THREADS)
    rows = np.arange(lookup.byte_row + 1)

    def run(number: int) -> int:
        ready.wait()
        for row in np.roll(rows, 5 * number):
            lookup.build_inverse(rows[row : row + 1])
        return id(lookup.inverse)

    with ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(run, range(THREADS)))) == 1
    one = fresh_tables().lookup
    one.build_inverse(rows)
    np.testing.assert_array_equal(lookup.inverse, one.inverse)
