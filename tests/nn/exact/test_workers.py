"""Shares of rows: each is done once, on any number of threads, whatever becomes of the threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from hatch_build import ROOT
from latentcodec.nn.exact.compiled_engine import CompiledEngine
from latentcodec.nn.exact.layer import Activation
from latentcodec.nn.exact.workers import LEAST_WORK, Workers
from tests.nn.exact.layer_cases import REFERENCE, check_layer, narrow_map, random_layer, wide_map


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("step", [1, 4])
def test_every_row_is_done_once(threads: int, step: int) -> None:
    pool = Workers(threads)
    for rows in (1, 2, 3, 4, 5, 31, 64):
        for work in (0, LEAST_WORK, 2 * LEAST_WORK, 1000 * LEAST_WORK):
            shares: list[tuple[int, int]] = []
            pool.share(rows, step, work, lambda first, last, to=shares: to.append((first, last)))  # type: ignore[misc]
            assert [row for share in sorted(shares) for row in range(*share)] == list(range(rows))
            assert all(first % step == 0 for first, _ in shares)
            if threads == 1 or work < 2 * LEAST_WORK:
                assert len(shares) == 1


def test_several_threads_are_at_work() -> None:
    """Each waits in its share until all are there."""
    there = threading.Barrier(3, timeout=30)
    Workers(3).share(3, 1, 3 * LEAST_WORK, lambda first, last: there.wait() and None)
    assert not there.broken


def test_what_a_share_raises() -> None:
    def fail(first: int, last: int) -> None:
        if first == bad:
            raise MemoryError(f"in row {first}")

    pool = Workers(3)
    for bad in (0, 4, 8):
        with pytest.raises(MemoryError, match=f"in row {bad}"):
            pool.share(9, 1, 9 * LEAST_WORK, fail)
    bad = -1
    pool.share(9, 1, 9 * LEAST_WORK, fail)


def test_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a limit of the system is reached, or Python is about to end."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    shares: list[int] = []
    Workers(3).share(8, 1, 8 * LEAST_WORK, lambda first, last: shares.append(last - first))
    assert sum(shares) == 8


def test_nobody_waits_for_threads_that_are_busy() -> None:
    """Many callers, and all of the pool's threads taken by the first of them."""
    pool, held, free = Workers(2), threading.Event(), threading.Event()

    def hold(first: int, last: int) -> None:
        held.set()
        free.wait(30)

    first = threading.Thread(target=pool.share, args=(2, 1, 2 * LEAST_WORK, hold))
    first.start()
    held.wait(30)
    shares: list[int] = []
    pool.share(8, 1, 8 * LEAST_WORK, lambda first, last: shares.append(last - first))
    assert sum(shares) == 8
    free.set()
    first.join(30)
    assert not first.is_alive()


def test_shared_rows_give_the_same(shared: CompiledEngine) -> None:
    for height, width in ((1, 3), (4, 4), (5, 9), (37, 18)):
        x = narrow_map(1, height, width, 19)
        for kernel in (1, 3):
            check_layer(shared, random_layer(1, 19, 33, kernel, Activation.TENTH), x)
        x, y = wide_map(1, height, width, 19), wide_map(2, height, width, 19)
        maps = shared.to_map(x), shared.to_map(y)
        np.testing.assert_array_equal(shared.add_wide(*maps), REFERENCE.add_wide(x, y))
        factors, shifts = np.array([200]), np.array([9])
        np.testing.assert_array_equal(
            shared.multiply_wide(maps[0], factors, shifts), REFERENCE.multiply_wide(x, factors, shifts)
        )
        patches, change = wide_map(3, height, width, 192), wide_map(4, 2 * height, 2 * width, 48)
        np.testing.assert_array_equal(
            shared.samples(shared.exact_map(patches), shared.to_map(change), 10),
            REFERENCE.samples(patches, change, 10),
        )


def test_several_threads_at_once(shared: CompiledEngine) -> None:
    made = random_layer(1, 19, 33, 3, Activation.WIDE)
    layer, levels = shared.layer(made), range(0, 1200, 100)
    maps = [narrow_map(level, 21, 14, 19) for level in levels]
    with ThreadPoolExecutor(4) as pool:
        computed = list(pool.map(layer, map(shared.to_map, maps), levels))
    for out, x, level in zip(computed, maps, levels, strict=True):
        np.testing.assert_array_equal(out, REFERENCE.layer(made)(x, level))


def test_after_a_fork(built_kernel: None) -> None:
    """A child has none of its parent's threads, and makes its own."""
    code = (
        "import os, numpy as np\n"
        "from latentcodec.nn.exact import workers\n"
        "from latentcodec.nn.exact.compiled_engine import CompiledEngine\n"
        "workers.LEAST_WORK = 1\n"
        "engine = CompiledEngine(threads=3)\n"
        "x = engine.to_map(np.arange(32000).reshape(40, 40, 20))\n"
        "right = engine.add_wide(x, x)\n"
        "for _ in range(3):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os._exit(0 if np.array_equal(engine.add_wide(x, x), right) else 1)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "    assert np.array_equal(engine.add_wide(x, x), right)\n"
        "print('both compute')\n"
    )
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert run.stdout == "both compute\n", run.stderr
