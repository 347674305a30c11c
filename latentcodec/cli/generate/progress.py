"""How a generation goes, on stderr: a bar with steps a second, and a preview, where it is a terminal.

Progress(step, steps, preview) ─► half blocks: two pixels a character, where there are colours
                               └► img2img ━━━━━━━━━━ 12/50  1.62 steps/s  0:00:24 left
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from latentcodec.cli.console import error_console, on_terminal

if TYPE_CHECKING:
    from PIL import Image
    from rich.console import RenderableType
    from rich.progress import Progress as Bar
    from rich.progress import TaskID
    from rich.text import Text

    from latentcodec.generate.generator import Progress

PREVIEW_COLUMNS, PREVIEW_LINES = 64, 24  # at most
_UPPER_HALF = "▀"


class GenerationProgress:
    """A bar over the steps of all pictures; a context manager. Off where stderr is no terminal, or `quiet`.

    previews: whether a picture can be shown, and is wanted.
    """

    def __init__(self, label: str, total: int, *, quiet: bool, preview: bool) -> None:
        self._label, self._total = label, total
        self._shown = on_terminal() and not quiet
        self.previews = preview and self._shown and error_console().color_system is not None
        self._picture: Text | None = None
        self._begun = 0.0
        self._calls = 0
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> GenerationProgress:
        if self._shown:
            self._bar = _bar(self)
            self._task = self._bar.add_task(f"{self._label}: loading the model", total=None)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._picture = None
            self._bar.stop()

    @property
    def picture(self) -> Text | None:
        """What stands above the bar."""
        return self._picture

    def show(self, done: int, pictures: int, progress: Progress) -> None:
        """Show progress: `done` pictures are finished, and those under way are at this step."""
        if self._bar is None or self._task is None:
            return
        now = time.perf_counter()
        self._begun = self._begun or now
        if progress.preview is not None and self.previews:
            self._picture = half_blocks(progress.preview, *_room(self._bar))
        # Measured from the first step's end on: that step waits for what is loaded.
        rate = speed(self._calls / (now - self._begun)) if self._calls else ""
        self._calls += 1
        self._bar.update(
            self._task,
            total=self._total * progress.steps,
            completed=done * progress.steps + pictures * progress.step,
            description=f"{self._label}  {rate}",
            refresh=progress.preview is not None,
        )


def speed(steps_a_second: float) -> str:
    """ "1.62 steps/s", or where a step takes longer than that "2.50 s/step"."""
    if steps_a_second >= 1:
        return f"{steps_a_second:.2f} steps/s"
    return f"{1 / steps_a_second:.2f} s/step"


def half_blocks(image: Image.Image, columns: int, lines: int) -> Text:
    """A picture as coloured characters, each of which shows a pixel above another."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    scale = min(columns / image.width, 2 * lines / image.height)
    width, height = max(round(image.width * scale), 1), max(round(image.height * scale / 2), 1)
    pixels = image.convert("RGB").resize((width, 2 * height)).tobytes()
    text = Text(no_wrap=True)
    for line in range(height):
        for column in range(width):
            places = [3 * ((2 * line + half) * width + column) for half in (0, 1)]
            above, below = (Color.from_rgb(*pixels[place : place + 3]) for place in places)
            text.append(_UPPER_HALF, Style(color=above, bgcolor=below))
        text.append("\n" * (line < height - 1))
    return text


def _room(bar: Bar) -> tuple[int, int]:
    """Columns and lines for a preview, beside which the bar has its place."""
    size = bar.console.size
    return min(size.width - 1, PREVIEW_COLUMNS), max(min(size.height - 3, PREVIEW_LINES), 1)


def _bar(shown: GenerationProgress) -> Bar:
    from collections.abc import Iterable

    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    class WithPicture(Bar):
        def get_renderables(self) -> Iterable[RenderableType]:
            if shown.picture is not None:
                yield shown.picture
            yield self.make_tasks_table(self.tasks)

    return WithPicture(
        BarColumn(24),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        TimeRemainingColumn(),
        console=error_console(),
        transient=True,
    )
