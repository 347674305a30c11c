"""The kernel compiled with the address and the undefined-behaviour sanitiser, on hostile streams.

A process that opens such a library must have the sanitiser's own loaded first. Every allocation is then
fenced, numpy's too. LATENTCODEC_SANITISE_SECONDS says how long the hostile streams run.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hatch_build import ROOT
from latentcodec.kernel.library import CHOICE
from tests.kernel.built import SANITISED, address_sanitiser, kernel

SECONDS = float(os.environ.get("LATENTCODEC_SANITISE_SECONDS", "30"))


def sanitised(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with the sanitised kernel."""
    environment = {
        **os.environ,
        "LD_PRELOAD": str(address_sanitiser()),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=99",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        CHOICE: str(kernel(SANITISED)),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)


@pytest.mark.slow
def test_it_finds_an_access_outside() -> None:
    """Else the other tests would prove nothing."""
    code = (
        "import numpy as np\n"
        "from latentcodec.kernel.library import load, pointer\n"
        "a, place, to = np.zeros(4, np.int32), np.full(1, 4, np.int32), np.zeros(1, np.int32)\n"
        "load().lc_gather(pointer(a), 5, pointer(place), 1, pointer(to))\n"
    )
    run = sanitised("-c", code)
    assert run.returncode == 99
    assert "AddressSanitizer: heap-buffer-overflow" in run.stderr


@pytest.mark.slow
def test_hostile_streams() -> None:
    run = sanitised("-m", "tests.kernel.hostile", str(SECONDS))
    assert run.returncode == 0, run.stderr[-3000:]
    assert "cases through" in run.stdout


@pytest.mark.slow
def test_the_fuzzers() -> None:
    """Changed streams and files, and the corpus, as tests/fuzz tries them."""
    chosen = ("-m", "slow", "-k", "rans or decoding or corpus", "-p", "no:xdist")
    run = sanitised("-m", "pytest", "tests/fuzz/test_files.py", *chosen)
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
