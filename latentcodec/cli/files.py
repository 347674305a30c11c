"""Which file becomes which: IN OUT, or several IN and folders with --out-dir; and `-` for pipes.

arguments ─► plan ─► Job(source, target) ... ─► run_jobs: each in turn; a failure is reported, the rest go on
                └──► Refusal: what cannot be worked on, and why ─┘
album/ + --out-dir DIR ─► album/x/a.jpg ─► DIR/x/a.lci, or DIR/x/a.jpg.lci

A folder is searched with its sub-folders and with folders that links in it lead to, but not those above it,
and each folder once: so no circle of links is endless. Hidden files and folders are passed over.
"""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from latentcodec.atomic import write_atomically
from latentcodec.cli.console import Failure, explain, say, say_bug, say_error, tracked
from latentcodec.errors import InvalidArgument

PIPE = "-"
LCI = ".lci"
FORMATS = ("png", "jpg", "jpeg", "webp", "avif", "tif", "tiff", "jp2", "tga", "bmp", "ppm")  # of pictures
DEFAULT_FORMAT = "png"
_NAMED = 8  # extensions that a line about other files names


@dataclass(frozen=True)
class Job:
    """One file to make of another; each a path or PIPE."""

    source: str
    target: str

    @property
    def name(self) -> str:
        """The source, as messages call it."""
        return "standard input" if self.source == PIPE else click.format_filename(self.source)

    @property
    def target_name(self) -> str:
        """The target, as messages call it."""
        return "standard output" if self.target == PIPE else click.format_filename(self.target)


@dataclass(frozen=True)
class Done:
    """What became of a job: its line, and the bytes of the .lci file."""

    line: str
    size: int


@dataclass(frozen=True)
class Refusal:
    """A line about what cannot be worked on, and how many files that is; 0: a folder."""

    line: str
    files: int = 1


@dataclass
class Plan:
    """What is to be done, what cannot be, and lines about what was passed over."""

    jobs: list[Job] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    passed_over: list[str] = field(default_factory=list)

    @property
    def files(self) -> int:
        """All that were named or found, whatever becomes of them."""
        return len(self.jobs) + sum(refusal.files for refusal in self.refused)


def plan(
    paths: tuple[str, ...],
    out_dir: str | None,
    suffixes: Collection[str],
    target_suffix: str,
    *,
    keep_extension: bool = False,
    preserve: bool = False,
) -> Plan:
    """What the arguments ask for.

    suffixes: of the files that a folder is searched for. target_suffix: of those written into `out_dir`, in
    place of the source's or, with keep_extension, behind it. preserve: whether permissions and times are to
    be kept, which a pipe has not.
    Raises click.UsageError for arguments that do not fit together, Failure for a single file that does not.
    """
    if preserve and PIPE in paths:
        raise click.UsageError("--preserve: a pipe has neither permissions nor times; leave it out")
    if out_dir is not None:
        planned = Plan()
        for path in paths:
            _into_folder(planned, path, Path(out_dir), suffixes, target_suffix, keep_extension)
        _refuse_clashes(planned, keep_extension)
        return planned
    if keep_extension:
        raise click.UsageError(
            "--keep-extension names files in --out-dir: leave it out, or add --out-dir DIR"
        )
    if len(paths) == 2:
        return Plan([_single(*paths)])
    if len(paths) == 1:
        raise click.UsageError(f"{paths[0]}: name the output: OUT, or --out-dir DIR, or - for a pipe")
    raise click.UsageError(f"{len(paths)} files without --out-dir: name the folder that the results go to")


def _single(source: str, target: str) -> Job:
    if source == PIPE:
        refuse_terminal_input()
    if target == PIPE:
        refuse_terminal_output()
    if os.path.isdir(source):
        raise click.UsageError(f"{source} is a folder: name the folder for the results with --out-dir DIR")
    if os.path.isdir(target):
        raise click.UsageError(f"{target} is a folder: name a file, or use --out-dir {target}")
    parent = os.path.dirname(target)
    if target != PIPE and parent and not os.path.isdir(parent):
        raise Failure(f"{target}: there is no folder {parent}")
    job = Job(source, target)
    if PIPE not in (source, target) and os.path.isfile(target) and _key(source) == _key(target):
        raise click.UsageError(f"{job.target_name} would be written over {job.name}: name another file")
    return job


def refuse_terminal_input() -> None:
    """Usage error where a pipe is wanted and there is a terminal, Failure where standard input is closed."""
    if sys.stdin is None:
        raise Failure("standard input is closed")
    if sys.stdin.isatty():
        raise click.UsageError(
            "- reads a pipe, but standard input is the terminal: name a file, or redirect one"
        )


def refuse_terminal_output() -> None:
    """Usage error where a picture would go to the terminal, Failure where standard output is closed."""
    if sys.stdout is None:
        raise Failure("standard output is closed")
    if sys.stdout.isatty():
        raise click.UsageError(
            "- writes binary data, but standard output is the terminal: redirect it (> FILE)"
        )


def _into_folder(
    planned: Plan, path: str, out_dir: Path, suffixes: Collection[str], target_suffix: str, keep: bool
) -> None:
    """Add what becomes of one IN."""

    def target(relative: Path) -> str:
        return str(out_dir / (f"{relative}{target_suffix}" if keep else relative.with_suffix(target_suffix)))

    if path == PIPE:
        raise click.UsageError("- has no name for a file in --out-dir: name OUT instead")
    if not os.path.isdir(path):
        if not (name := Path(path).name):
            raise click.UsageError(f"'{path}' names no file")
        planned.jobs.append(Job(path, target(Path(name))))
        return
    before = planned.files, len(planned.refused)
    planned.jobs += [
        Job(str(source), target(source.relative_to(path))) for source in _search(planned, path, suffixes)
    ]
    if before == (planned.files, len(planned.refused)):
        wanted = " ".join(sorted(suffixes))
        shown = click.format_filename(path)
        planned.refused.append(Refusal(f"{shown}: no files to work on below this folder ({wanted})", 0))


def _search(planned: Plan, path: str, suffixes: Collection[str]) -> list[Path]:
    """The files of these suffixes below a folder, sorted; what else there is is noted in the plan."""
    found: list[Path] = []
    others: Counter[str] = Counter()
    searched: set[tuple[int, int]] = set()
    start, whole = Path(path), Path(os.path.realpath(path))
    folders, links = [start], list[Path]()
    while folders or links:  # links last: a folder goes by its own name where it has one here
        folder = folders.pop() if folders else links.pop(0)
        try:
            status = folder.stat()
            identity = status.st_dev, status.st_ino
            if identity in searched or (folder != start and whole.is_relative_to(os.path.realpath(folder))):
                shown = click.format_filename(folder)
                planned.passed_over.append(f"{shown}: this link leads back to what is searched already")
                continue
            searched.add(identity)
            names = sorted(os.listdir(folder))
        except OSError as error:
            planned.refused.append(Refusal(explain(error, str(folder)) or str(error), 0))
            continue
        for child in (folder / name for name in names if not name.startswith(".")):
            if os.path.isdir(child):  # not Path.is_dir, which raises where the folder may not be looked into
                (links if os.path.islink(child) else folders).append(child)
            elif child.suffix.lower() not in suffixes:
                others[child.suffix.lower() or "without extension"] += 1
            elif os.path.exists(child) and not os.path.isfile(child):  # a pipe would be waited for
                planned.refused.append(Refusal(f"{click.format_filename(child)}: it is no regular file"))
            else:
                found.append(child)
    if others:
        kinds = ", ".join(sorted(others)[:_NAMED]) + (", ..." if len(others) > _NAMED else "")
        left = f"files of other kinds are left alone: {others.total()} ({kinds})"
        planned.passed_over.append(f"{click.format_filename(path)}: {left}")
    return sorted(found)


def _refuse_clashes(planned: Plan, keep_extension: bool) -> None:
    """Take out what would be written to one file, or over one that is still to be read."""
    jobs = list({(_key(job.source), _key(job.target)): job for job in planned.jobs}.values())
    sources = {_key(job.source): job for job in jobs}
    by_target: dict[str, list[Job]] = {}
    for job in jobs:
        by_target.setdefault(_key(job.target), []).append(job)
    planned.jobs = [
        job for job in jobs if len(by_target[_key(job.target)]) == 1 and _key(job.target) not in sources
    ]
    for target, (job, *more) in by_target.items():
        if not more and target in sources:
            line = f"{job.target_name} would be written over {sources[target].name}: use another --out-dir"
            planned.refused.append(Refusal(line))
    clashes = [clashing for clashing in by_target.values() if len(clashing) > 1]
    if clashes:
        listed = "; ".join(
            f"{clashing[0].target_name} of {' and of '.join(job.name for job in clashing)}"
            for clashing in clashes
        )
        differ = any(len({Path(job.source).suffix for job in clashing}) > 1 for clashing in clashes)
        way_out = "--keep-extension keeps them apart" if differ and not keep_extension else "name them apart"
        line = f"several pictures would be written to one file, {listed}: {way_out}, or use several --out-dir"
        planned.refused.append(Refusal(line, sum(map(len, clashes))))


def _key(path: str) -> str:
    """What equal files have in common."""
    return os.path.normcase(os.path.realpath(path))


def check_format(job: Job, format_: str | None, *, free: bool) -> None:
    """Usage error, before any work, where it is not clear how to write; `free`: the user chose OUT's name.

    Raises UnsupportedImage where this build of Pillow cannot write the format.
    """
    import numpy as np

    from latentcodec.picture.files import save_picture
    from latentcodec.picture.picture import from_array

    suffix = "" if job.target == PIPE else Path(job.target).suffix
    if free and suffix and format_ is not None:
        raise click.UsageError(f"{job.target_name}: OUT's extension sets the format; leave --format out")
    if free and not suffix and format_ is None and job.target != PIPE:
        raise click.UsageError(
            f"{job.target_name}: OUT has no extension; give it one ({', '.join(FORMATS)}) or use --format"
        )
    try:
        save_picture(
            from_array(np.zeros((1, 1), np.uint8)), io.BytesIO(), format_ or suffix or DEFAULT_FORMAT
        )
    except InvalidArgument as error:
        raise click.UsageError(f"{job.target_name}: {str(error).removeprefix('the stream: ')}") from error


def run_jobs(planned: Plan, work: Callable[[Job], Done], label: str, *, quiet: bool) -> None:
    """Do the jobs, and report each in a line unless `quiet`.

    A failure is reported, and the others go on; then Exit(1) is raised. An error that is no fault of one file
    should be a Failure, which ends everything. A bug ends a single file; of several it costs one.
    """
    for refusal in planned.refused:
        say_error(refusal.line)
    size, count = 0, planned.files
    failed = count - len(planned.jobs)
    with tracked(planned.jobs, label, quiet=quiet) as steps:
        for job in steps:
            try:
                outcome = work(job)
            except (BrokenPipeError, click.ClickException, click.exceptions.Exit):
                raise
            except Exception as error:
                line = explain(error, job.name)
                if line is None and count == 1:
                    raise
                if line is None:
                    say_bug(type(error), error, error.__traceback__)
                say_error(line or f"{job.name}: a bug of latentcodec, the lines above show where")
                failed += 1
                continue
            size += outcome.size
            if not quiet:
                say(outcome.line)
    for note in () if quiet else planned.passed_over:
        say(note)
    if count > 1 and not quiet:
        say(f"{count - failed} files, {size} bytes of {LCI}")
    folders = sum(not refusal.files for refusal in planned.refused)
    if failed and count > 1:
        say_error(f"{failed} of {count} files failed")
    if folders and (count or folders > 1):
        say_error(f"folders without any result, named above: {folders}")
    if failed or folders:
        raise click.exceptions.Exit(1)


def read_source(job: Job) -> bytes:
    """The bytes of a job's source. Raises OSError."""
    if job.source != PIPE:
        return Path(job.source).read_bytes()
    refuse_terminal_input()
    return sys.stdin.buffer.read()


def write_target(job: Job, data: bytes | memoryview, *, preserve: bool = False) -> None:
    """Write a job's target: a pipe, or a file that appears whole or not at all. Raises OSError.

    preserve: with the source's permissions and times.
    """
    if job.target != PIPE:
        like = os.stat(job.source) if preserve else None
        with target_file(job) as path:
            write_atomically(path, data, like=like)
        return
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, job.target_name) from error


@contextmanager
def target_file(job: Job) -> Iterator[Path]:
    """The path to write to, its folder made; an OSError then names it, not a temporary file beside it."""
    path = Path(job.target)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), job.target) from error
