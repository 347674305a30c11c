"""A measurement in a process of its own, whose libraries use a number of threads.

module, arguments, threads ─► python -m module arguments ─► one JSON object on stdout ─► what was measured
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latentcodec.errors import LatentCodecError

__all__ = ["ROOT", "measure_alone", "thread_settings"]

ROOT = Path(__file__).parents[2]
SECONDS = 3600  # a process that takes longer has failed


def thread_settings(threads: int) -> dict[str, str]:
    """The environment of a process whose libraries use so many threads: they read it when they are loaded."""
    return dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))


def measure_alone(what: str, module: str, arguments: Sequence[str], threads: int) -> dict[str, Any]:
    """The object that a module run as a program writes; `what` names it in errors.

    Raises LatentCodecError where the process fails or takes too long.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=os.environ | thread_settings(threads),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LatentCodecError(f"{what} took more than {SECONDS} seconds") from error
    if done.returncode:
        why = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise LatentCodecError(f"{what} failed: {why[0]}")
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured
