"""The program as a process: exit codes, pipes, signals, what it costs to start."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import pytest

import latentcodec
from latentcodec.cli import main as module
from tests.cli.conftest import ROOT, Call, on_terminal

PROGRAM = [sys.executable, "-m", "latentcodec"]
QUICK = 0.5  # seconds of CPU
PATIENCE = 300.0  # seconds, after which a process hangs, however busy the machine is


def start(*arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, **(pipes | options))  # type: ignore[call-overload,no-any-return]


def test_version_and_help(call: Call) -> None:
    assert call("--version").out == f"latentcodec {latentcodec.__version__}\n".encode()
    text = call("--help").out.decode()
    assert all(name in text for name in ("compress", "decompress", "info", "models", "train"))
    for command in (["compress"], ["decompress"], ["info"], ["train"], ["train", "run"], ["train", "resume"]):
        assert call(*command, "-h").out.startswith(b"Usage: latentcodec " + " ".join(command).encode())


def test_wrong_usage(call: Call) -> None:
    for arguments in ([], ["frobnicate"], ["--frobnicate"], ["train"], ["train", "frobnicate"]):
        done = call(*arguments)
        assert done.code == 2
        assert "Usage: latentcodec" in done.err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["compress", "--help"], ["info", "FILE"], ["info", "--json", "FILE"]]
)
def test_starting_is_quick_and_needs_no_pytorch(lci: Path, arguments: list[str]) -> None:
    code = (
        "import sys\nfrom latentcodec.cli.main import main\n"
        f"try:\n    main({[str(lci) if each == 'FILE' else each for each in arguments]!r})\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "print(*sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stderr == "\n"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < QUICK


def test_a_pipeline(picture: Path, tmp_path: Path) -> None:
    """picture | compress - - | decompress - - | picture"""
    with picture.open("rb") as source, start("compress", "-", "-", stdin=source) as first:
        with start("decompress", "-", "-", "--format", "ppm", "-Q", stdin=first.stdout) as second:
            first.stdout.close()  # type: ignore[union-attr]
            ppm, told = second.communicate(timeout=PATIENCE)
        assert first.stderr.read().startswith(b"standard input -> standard output: 64x64, ")  # type: ignore[union-attr]
    assert (first.returncode, second.returncode, told) == (0, 0, b"")
    assert ppm.startswith(b"P6\n64 64\n255\n")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("compress PICTURE - -Q", marks=pytest.mark.slow),
        "info LCI",
        pytest.param("info --json LCI", marks=pytest.mark.slow),
        "--help",
    ],
)
def test_a_reader_that_has_gone(picture: Path, lci: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with start(
        *command.replace("PICTURE", str(picture)).replace("LCI", str(lci)).split(), stdout=writing
    ) as process:
        os.close(writing)
        _, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_device(lci: Path) -> None:
    with open("/dev/full", "wb") as full, start("info", lci, stdout=full) as process:
        _, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (1, b"latentcodec: No space left on device\n")


def test_closed_streams(picture: Path) -> None:
    """What `<&-` and `>&-` leave a program with."""
    for arguments, stream in (
        (["compress", "-", "a.lci"], "in"),
        (["decompress", "-", "a.png"], "in"),
        (["info", "-"], "in"),
        (["compress", str(picture), "-"], "out"),
    ):
        code = (
            f"import sys\nsys.std{stream} = None\nfrom latentcodec.cli.main import main\nmain({arguments!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)
        assert (done.returncode, done.stderr) == (
            1,
            f"latentcodec: standard {stream}put is closed\n".encode(),
        )


def test_ctrl_c(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    process = start("compress", pipe, tmp_path / "a.lci")
    with process, _once_read(pipe):
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE)
    assert (process.returncode, told) == (130, b"")


def _once_read(pipe: Path) -> BinaryIO:
    """The pipe, for writing, as soon as the program has opened it for reading."""
    for _ in range(600):
        try:
            return os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb")
        except OSError:  # nobody reads it yet
            time.sleep(0.1)
    pytest.fail("the program does not open the pipe")


def test_terminals_are_refused(picture: Path, lci: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    for arguments, stream, message in (
        (["compress", picture, "-"], "stdout", b"standard output is the terminal"),
        (["decompress", lci, "-"], "stdout", b"standard output is the terminal"),
        (["compress", "-", "a.lci"], "stdin", b"standard input is the terminal"),
        (["info", "-"], "stdin", b"standard input is the terminal"),
    ):
        with start(*arguments, **{stream: theirs}) as process:
            _, told = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert message in told
    os.close(ours)
    os.close(theirs)


@pytest.mark.slow
def test_progress_on_a_terminal(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text = on_terminal("compress", album, "--out-dir", out, columns=400, stdout=subprocess.DEVNULL)
    assert code == 0
    assert b"100%" in text
    assert text.count(b"bpp\r\n") == 3  # a line each, above the bar
    assert b"3 files" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."), "not enough memory"),
        (PermissionError(13, "Permission denied", "a.lci"), "a.lci: Permission denied"),
        (OSError("odd"), "odd"),
        (latentcodec.FormatError("two\n  lines"), "two lines"),
    ],
)
def test_errors_are_a_line(
    call: Call, monkeypatch: pytest.MonkeyPatch, picture: Path, error: Exception, line: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("latentcodec.nn.device.choose_device", fail)
    done = call("train", "run", picture.parent, "--out", picture.parent / "run", "--steps", "1")
    assert (done.code, done.err) == (1, f"latentcodec: {line}\n")


def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch, lci: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("latentcodec.codec.info.info", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        module.main(["info", str(lci)])
