"""Code in a process of its own, with little memory and time: what hostile files must not exhaust."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LIMIT = """
import resource
held = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (held + {memory},) * 2)
used = resource.getrusage(resource.RUSAGE_SELF)
resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + {seconds},) * 2)
"""


def run_bounded(setting: str, code: str, *arguments: str | Path, memory: int, seconds: int) -> str:
    """What `code` prints. `setting`, which runs first, imports and makes what needs no limit; then `code` has
    so many bytes of memory more, and so many seconds of processor time. Fails where it does not end well."""
    text = setting + _LIMIT.format(memory=memory, seconds=seconds) + code
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout
