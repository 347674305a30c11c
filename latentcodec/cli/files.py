"""Which file becomes which: IN OUT, or several IN and folders with --out-dir; and `-` for pipes.

arguments ─► plan ─► Job(source, target) ... ─► run_jobs: each in turn; a failure is reported, the rest go on
album/ + --out-dir DIR ─► album/x/a.jpg ─► DIR/x/a.lci
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from latentcodec.atomic import write_atomically
from latentcodec.cli.console import Failure, explain, say, say_error, tracked
from latentcodec.errors import InvalidArgument

PIPE = "-"
LCI = ".lci"
FORMATS = ("png", "jpg", "jpeg", "webp", "avif", "tif", "tiff", "jp2", "tga", "bmp", "ppm")  # of pictures
DEFAULT_FORMAT = "png"


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


def plan(
    paths: tuple[str, ...], out_dir: str | None, suffixes: Collection[str], target_suffix: str
) -> list[Job]:
    """The jobs that the arguments ask for.

    suffixes: of the files that a folder is searched for. target_suffix: of those written into `out_dir`.
    Raises click.UsageError for arguments that do not fit together, Failure for files that do not.
    """
    if out_dir is not None:
        jobs = _into_folder(paths, Path(out_dir), suffixes, target_suffix)
    elif len(paths) == 2:
        jobs = [_single(*paths)]
    elif len(paths) == 1:
        raise click.UsageError(f"{paths[0]}: name the output: OUT, or --out-dir DIR, or - for a pipe")
    else:
        raise click.UsageError(
            f"{len(paths)} files without --out-dir: name the folder that the results go to"
        )
    _refuse_overwriting(jobs)
    return jobs


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
    return Job(source, target)


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
    paths: tuple[str, ...], out_dir: Path, suffixes: Collection[str], target_suffix: str
) -> list[Job]:
    jobs = []
    for path in paths:
        if path == PIPE:
            raise click.UsageError("- has no name for a file in --out-dir: name OUT instead")
        if os.path.isdir(path):
            sources = _below(Path(path), suffixes)
            if not sources:
                raise Failure(f"{path}: no files to work on below this folder ({' '.join(sorted(suffixes))})")
            jobs += [
                Job(str(source), str(out_dir / source.relative_to(path).with_suffix(target_suffix)))
                for source in sources
            ]
        else:
            name = Path(path).name
            if not name:
                raise click.UsageError(f"'{path}' names no file")
            jobs.append(Job(path, str((out_dir / name).with_suffix(target_suffix))))
    return jobs


def _below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of these suffixes below a folder, sorted, without hidden ones."""
    paths = []
    for root, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(root, name) for name in files if not name.startswith(".")]
    return sorted(path for path in paths if path.suffix.lower() in suffixes)


def _raise(error: OSError) -> NoReturn:
    raise error


def _refuse_overwriting(jobs: list[Job]) -> None:
    """Two results in one file, or one in a file that is still to be read, are refused."""
    sources = {os.path.normcase(os.path.realpath(job.source)): job for job in jobs if job.source != PIPE}
    targets: dict[str, Job] = {}
    for job in jobs:
        if job.target == PIPE:
            continue
        key = os.path.normcase(os.path.realpath(job.target))
        other = targets.setdefault(key, job)
        if other is not job:
            raise click.UsageError(
                f"{other.name} and {job.name} would both be written to {job.target_name}: "
                "give them different names, or different --out-dir"
            )
        if key in sources and os.path.isfile(key):
            raise click.UsageError(
                f"{job.target_name} would be written over {sources[key].name}: name another file"
            )


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


def run_jobs(jobs: list[Job], work: Callable[[Job], Done], label: str, *, quiet: bool) -> None:
    """Do the jobs, and report each in a line unless `quiet`.

    A failure is reported, and the others go on; then Exit(1) is raised. An error that is no fault of one file
    should be a Failure, which ends everything.
    """
    failed = size = 0
    with tracked(jobs, label, quiet=quiet) as steps:
        for job in steps:
            try:
                outcome = work(job)
            except (BrokenPipeError, click.ClickException, click.exceptions.Exit):
                raise
            except Exception as error:
                line = explain(error, job.name)
                if line is None:
                    raise
                say_error(line)
                failed += 1
                continue
            size += outcome.size
            if not quiet:
                say(outcome.line)
    if len(jobs) > 1 and not quiet:
        say(f"{len(jobs) - failed} files, {size} bytes of {LCI}")
    if failed:
        if len(jobs) > 1:
            say_error(f"{failed} of {len(jobs)} files failed")
        raise click.exceptions.Exit(1)


def read_source(job: Job) -> bytes:
    """The bytes of a job's source. Raises OSError."""
    if job.source != PIPE:
        return Path(job.source).read_bytes()
    refuse_terminal_input()
    return sys.stdin.buffer.read()


def write_target(job: Job, data: bytes | memoryview) -> None:
    """Write a job's target: a pipe, or a file that appears whole or not at all. Raises OSError."""
    if job.target != PIPE:
        with target_file(job) as path:
            write_atomically(path, data)
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
