"""For the tests of runs that die: codecs that take their time or their process, and a run to be killed.

python -m tests.benchmarks.runs.crashing PICTURES OUT JOBS
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks.metrics import METRICS
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import find_data_set
from benchmarks.runs.run import run
from tests.benchmarks.conftest import Coarse


class Slow(Coarse):
    """Slow enough to be killed in the middle of a row."""

    name = "slow"

    def encode(self, picture: Pixels, setting: float) -> bytes:
        time.sleep(0.01)
        return super().encode(picture, setting)


class Deadly(Coarse):
    """Kills its process at setting 2, and leaves it at setting 3."""

    name = "deadly"

    def encode(self, picture: Pixels, setting: float) -> bytes:
        if setting == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if setting == 3:
            os._exit(7)
        return super().encode(picture, setting)


class Unborn(Coarse):
    """Cannot be made anew in another process."""

    def __reduce__(self) -> tuple[type[Unborn], tuple[()]]:
        return _refuse, ()  # type: ignore[return-value]


def _refuse() -> None:
    raise RuntimeError("no")


if __name__ == "__main__":
    run(
        find_data_set(sys.argv[1]),
        [Coarse(), Slow()],
        {name: METRICS[name] for name in ("psnr", "psnr_y")},
        Path(sys.argv[2]),
        jobs=int(sys.argv[3]),
        console=Console(quiet=True),
    )
