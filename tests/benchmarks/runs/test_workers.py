"""Runs in several processes, processes that die, and runs that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.metrics import METRICS
from benchmarks.peers import Jpeg, Peer
from benchmarks.pictures.datasets import find_data_set
from benchmarks.runs.rows import ROWS, STREAMS, Row, read_rows
from benchmarks.runs.run import run
from latentcodec.errors import InvalidArgument
from tests.benchmarks.conftest import Coarse
from tests.benchmarks.runs.crashing import Deadly, Slow, Unborn

ROOT = Path(__file__).resolve().parents[3]
TIMES = {"encode_seconds", "decode_seconds", "encode_cpu_seconds", "decode_cpu_seconds", "peak_memory"}
SECONDS = 120.0


def go(folder: Path, out: Path, *peers: Peer, jobs: int = 2) -> list[Row]:
    metrics = {"psnr": METRICS["psnr"]}
    return run(find_data_set(str(folder)), peers, metrics, out, jobs=jobs, console=Console(quiet=True))


def lasting(rows: list[Row]) -> list[dict[str, Any]]:
    """What two runs have in common."""
    return [{name: value for name, value in asdict(row).items() if name not in TIMES} for row in rows]


def test_processes_make_the_rows_that_one_makes(folder: Path, tmp_path: Path) -> None:
    several = go(folder, tmp_path / "several", Coarse(), Jpeg(), jobs=3)
    one = go(folder, tmp_path / "one", Coarse(), Jpeg(), jobs=1)
    assert {row.jobs for row in several} == {3}
    assert lasting(several) == [{**row, "jobs": 3} for row in lasting(one)]
    assert {path.name for path in (tmp_path / "several" / STREAMS).iterdir()} == {row.stream for row in one}
    assert all((row.peak_memory or 0) >= 0 and (row.encode_cpu_seconds or 0) > 0 for row in several)


@pytest.mark.slow
def test_a_process_that_dies_is_a_failed_row(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path, Deadly())
    assert [(row.setting, row.error) for row in rows if row.error] == [
        (2, "process: it ended with SIGKILL"),
        (3, "process: it ended with code 7"),
    ] * 2
    assert len([row for row in rows if row.metrics]) == 2 * 4


def test_processes_that_cannot_start(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidArgument, match=r"ended before it began \(code 1\); try --jobs 1"):
        go(folder, tmp_path, Unborn())
    assert "RuntimeError: no" in capfd.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_an_interrupt_leaves_the_rows_and_no_process(folder: Path, tmp_path: Path) -> None:
    run = start(folder, tmp_path, 2)
    wait_for_rows(tmp_path, run, 3)
    children = descendants(run.pid)
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=SECONDS)
    assert (
        errors.count("KeyboardInterrupt") == 1
    )  # the parent's own, which the command line turns into a line
    assert len(read_rows(tmp_path / ROWS)) >= 3
    assert children
    wait_until_gone(children)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_run_taken_up_is_a_run_not_killed(folder: Path, tmp_path: Path, jobs: int) -> None:
    chance = random.Random()
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for count in sorted(chance.sample(range(1, 20), 3)):
        run = start(folder, killed, jobs)
        wait_for_rows(killed, run, count)
        time.sleep(chance.uniform(0, 0.03))
        children = descendants(run.pid)
        run.kill()
        run.communicate()
        wait_until_gone(children)
    assert 0 < len(read_rows(killed / ROWS)) <= 24
    for out in (killed, whole):
        run = start(folder, out, jobs)
        _, errors = run.communicate(timeout=SECONDS)
        assert (run.returncode, errors) == (0, "")
    rows = read_rows(killed / ROWS)
    assert len(rows) == 2 * 2 * 6
    assert lasting(rows) == lasting(read_rows(whole / ROWS))
    for folder_of in (STREAMS, "pictures"):
        assert contents(killed / folder_of) == contents(whole / folder_of)


def start(folder: Path, out: Path, jobs: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.runs.crashing", str(folder), str(out), str(jobs)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_rows(out: Path, run: subprocess.Popen[str], count: int) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and run.poll() is None:
        if (out / ROWS).exists() and (out / ROWS).read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    assert run.poll() == 0, "the run neither went on nor ended"


def descendants(process: int) -> list[int]:
    """Its child processes, by Linux's /proc; none on other systems."""
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def wait_until_gone(processes: list[int]) -> None:
    deadline = time.monotonic() + SECONDS
    while any(alive(process) for process in processes):
        assert time.monotonic() < deadline, f"of {processes} some go on"
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_slow_is_what_its_name_says(folder: Path, tmp_path: Path) -> None:
    rows = go(folder, tmp_path, Slow(), jobs=1)
    assert all((row.encode_seconds or 0) >= 0.01 for row in rows)
    assert min(row.encode_cpu_seconds or 1 for row in rows) < 0.01  # sleep is no work
