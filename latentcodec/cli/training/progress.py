"""How training goes, on stderr: a line that changes where it is a terminal, else a line each time.

Run.train ─► rows (means of the last steps) ─► step, rate, time left, loss, bpp, MSE
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from latentcodec.cli.console import error_console, on_terminal, printable, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def line(row: dict[str, Any]) -> str:
    """One row of Run.train's progress as a line."""
    remaining = row["remaining"]
    parts = [
        f"step {row['step']}",
        f"{row['rate']:.2f} steps/s",
        f"{duration(row['seconds'])} gone",
        "no end set" if remaining is None else f"{duration(remaining)} left",
        f"loss {row['loss']:.3f}",
        f"{row['bpp']:.3f} bpp",
        f"MSE {row['mse']:.1f}",
    ]
    return ", ".join(parts + ["cooling down"] * row["cooling"])


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def prior_line(row: dict[str, Any]) -> str:
    """One row of gather_examples' or fit_prior's progress as a line."""
    remaining = row["remaining"]
    if "crops" in row:
        return f"{row['crops']} of {row['count']} crops {row['what']}, {duration(remaining)} left"
    left = "no end set" if remaining is None else f"{duration(remaining)} left"
    progress = f"{row['rate']:.2f} steps/s, {duration(row['seconds'])} gone"
    return f"step {row['step']}, {progress}, {left}, {row['bits']:.4f} bits a latent"


class TrainingProgress:
    """Shows rows of a training, each as describe(row) says; a context manager."""

    def __init__(self, *, quiet: bool, describe: Callable[[dict[str, Any]], str] = line) -> None:
        self.quiet, self._describe = quiet, describe
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> TrainingProgress:
        if not self.quiet and on_terminal():
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (
                SpinnerColumn(),
                BarColumn(20),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
            )
            self._bar = Progress(*columns, console=error_console())
            self._task = self._bar.add_task("the first steps", total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, row: dict[str, Any]) -> None:
        """Show a row."""
        if self._bar is not None and self._task is not None:
            end = None if row["remaining"] is None else row["seconds"] + row["remaining"]
            description = printable(self._describe(row))
            self._bar.update(self._task, description=description, completed=row["seconds"], total=end)
        elif not self.quiet:
            say(self._describe(row))


@contextmanager
def evaluation_progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar for `evaluate`, on terminals only."""
    if quiet or not on_terminal():
        yield None
        return
    from rich.progress import Progress

    with Progress(console=error_console(), transient=True) as bar:
        task = bar.add_task("evaluate", total=None)
        yield lambda completed, count: bar.update(task, completed=completed, total=count)
