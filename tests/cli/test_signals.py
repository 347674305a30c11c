"""SIGTERM and SIGHUP in the middle of a write: nothing half-written stays, and the exit status is theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentcodec.cli.signals import Terminated, undone_by_signals
from tests.cli.conftest import ROOT, Call

PATIENCE = 300.0
pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
SIGNALS = [signal.SIGTERM, signal.SIGHUP]
# The program, which stops when it has written its temporary file, and says so.
STOPPING = """
import os, sys, time
def fsync(descriptor):
    os.write(2, b"written\\n")
    time.sleep(300)
os.fsync = fsync
from latentcodec.cli.main import main
main(sys.argv[1:], prog_name="latentcodec")
"""


def start(*arguments: str | Path, before: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", before + STOPPING, *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stderr is not None
    while (line := process.stderr.readline()) != b"written\n":
        assert line, "the program ended before it wrote"
    return process


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """Signals are not ignored, as they are where the tests run under nohup; programs inherit that."""
    before = [signal.signal(number, signal.SIG_DFL) for number in SIGNALS]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("command", "number", "existing"),
    [
        ("compress", signal.SIGTERM, False),
        pytest.param("compress folder", signal.SIGHUP, True, marks=pytest.mark.slow),
        pytest.param("decompress", signal.SIGHUP, False, marks=pytest.mark.slow),
        ("decompress", signal.SIGTERM, True),
    ],
)
def test_nothing_half_written_stays(
    picture: Path, lci: Path, tmp_path: Path, number: signal.Signals, command: str, existing: bool
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    source = lci if command == "decompress" else picture
    target = folder / ("picture.png" if command == "decompress" else "picture.lci")
    if existing:
        target.write_bytes(b"the old one")
    where = ["--out-dir", folder] if "folder" in command else [target]
    with start(command.split()[0], source, *where) as process:
        assert any(name.endswith(".tmp") for name in os.listdir(folder))
        process.send_signal(number)
        _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == -number  # 128 + number to a shell
    assert told == b""
    assert os.listdir(folder) == ([target.name] if existing else [])
    assert not existing or target.read_bytes() == b"the old one"


@pytest.mark.slow
def test_a_shell_sees_what_it_always_saw(picture: Path, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(STOPPING.replace("time.sleep(300)", "os.kill(os.getpid(), 15)"))
    line = f"{sys.executable} {script} compress {picture} {tmp_path / 'a.lci'}; echo $?"
    done = subprocess.run(["sh", "-c", line], capture_output=True, cwd=ROOT, timeout=PATIENCE, check=True)
    assert done.stdout == b"143\n"
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.slow
def test_hangup_that_is_ignored_stays_so(picture: Path, tmp_path: Path) -> None:
    """As nohup starts a program."""
    ignoring = "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with start("compress", picture, tmp_path / "a.lci", before=ignoring) as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM


def run_code(code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=ROOT, timeout=PATIENCE, check=False
    )


def test_the_second_signal_does_not_wait() -> None:
    code = (
        "import os, time\nfrom latentcodec.cli.signals import undone_by_signals\n"
        "with undone_by_signals():\n    try:\n        os.kill(os.getpid(), 15)\n        time.sleep(300)\n"
        "    finally:\n        os.write(1, b'undoing')\n        os.kill(os.getpid(), 1)\n"
        "        time.sleep(300)\n"
    )
    done = run_code(code)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGHUP, b"undoing", b"")


def test_a_fork_ends_as_it_always_did() -> None:
    code = (
        "import os, signal, time\nfrom latentcodec.cli.signals import undone_by_signals\n"
        "with undone_by_signals():\n    child = os.fork()\n"
        "    if not child:\n        time.sleep(300)\n"
        "    time.sleep(0.2)\n    os.kill(child, 15)\n    print(os.waitpid(child, 0)[1])\n"
    )
    done = run_code(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"15\n", b"")


def test_handlers_come_and_go(call: Call, lci: Path) -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    assert before == [signal.SIG_DFL] * 2
    with undone_by_signals():
        assert all(callable(signal.getsignal(number)) for number in SIGNALS)
        with undone_by_signals():  # those that handle them already stay
            pass
        assert all(callable(signal.getsignal(number)) for number in SIGNALS)
    assert [signal.getsignal(number) for number in SIGNALS] == before
    call("info", lci)
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.slow
def test_the_library_leaves_signals_alone(picture: Path, tmp_path: Path) -> None:
    code = (
        "import signal, sys, latentcodec\nfrom latentcodec.atomic import write_atomically\n"
        "def parts():\n    numbers = signal.SIGTERM, signal.SIGHUP, signal.SIGINT\n"
        "    print([signal.getsignal(n) in (0, signal.default_int_handler) for n in numbers])\n"
        "    yield b''\n"
        "latentcodec.compress(*sys.argv[1:])\nwrite_atomically(sys.argv[2], parts())\n"
    )
    command = [sys.executable, "-c", code, picture, tmp_path / "a.lci"]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=PATIENCE, check=True)
    assert done.stdout == b"[True, True, True]\n"


def test_other_threads_have_no_handlers() -> None:
    found: list[bool] = []

    def work() -> None:
        with undone_by_signals():
            found.append(callable(signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
    assert not issubclass(Terminated, Exception)
