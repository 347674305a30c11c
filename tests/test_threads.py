"""latentcodec.threads: what programs put into the environment, and coding in forked processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latentcodec.threads import BRIEF_SPIN, WAIT_VARIABLES, spin_briefly
from tests import forking

ROOT = Path(__file__).resolve().parents[1]
FORKS_WITHIN = 300.0  # seconds; some twenty where nothing else runs
AT_IMPORT = """
import os, sys

class Watch:
    def find_spec(self, name, *_):
        if name == {library!r}:
            print(*(os.environ.get(each) for each in {variables!r}), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch())
from {module} import main
main({arguments!r})
"""
"""Runs a program, and as a library is imported writes what the environment then holds."""


@pytest.fixture
def without_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in which PyTorch is not loaded, and nobody has said how threads wait."""
    for name in WAIT_VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back as it was
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "torch")


def settings() -> dict[str, str]:
    """What the environment says of waiting threads."""
    return {name: os.environ[name] for name in WAIT_VARIABLES if name in os.environ}


@pytest.mark.usefixtures("without_pytorch")
def test_the_setting_goes_into_an_empty_environment() -> None:
    assert spin_briefly()
    assert settings() == BRIEF_SPIN


@pytest.mark.usefixtures("without_pytorch")
@pytest.mark.parametrize("variable", WAIT_VARIABLES)
def test_the_user_s_own_setting_stays(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "0")
    assert not spin_briefly()
    assert settings() == {variable: "0"}


@pytest.mark.usefixtures("without_pytorch")
def test_it_is_too_late_for_a_loaded_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", pytest)
    assert not spin_briefly()
    assert settings() == {}


@pytest.mark.parametrize(
    ("module", "arguments", "library", "own"),
    [
        ("latentcodec.__main__", ["compress", "samples/astronaut.png", "OUT"], "numpy", {}),
        (
            "latentcodec.__main__",
            ["compress", "samples/astronaut.png", "OUT"],
            "numpy",
            {"KMP_BLOCKTIME": "7"},
        ),
        ("latentcodec.cli.main", ["train", "run", "samples", "--out", "OUT"], "torch", {}),
        ("benchmarks.__main__", ["networks"], "torch", {}),
    ],
)
def test_programs_set_it_before_numpy_and_pytorch_are_loaded(
    module: str, arguments: list[str], library: str, own: dict[str, str], tmp_path: Path
) -> None:
    expected = own or BRIEF_SPIN
    arguments = [str(tmp_path / "out.lci") if word == "OUT" else word for word in arguments]
    code = AT_IMPORT.format(module=module, arguments=arguments, library=library, variables=WAIT_VARIABLES)
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=_without_settings() | own,
        check=True,
    )
    assert done.stdout.split() == [expected.get(name, "None") for name in WAIT_VARIABLES]


def test_openmp_takes_it() -> None:
    code = "from latentcodec.threads import spin_briefly\nspin_briefly()\nimport torch"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=_without_settings() | {"OMP_DISPLAY_ENV": "verbose"},
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this PyTorch does not use GCC's OpenMP")
    assert f"GOMP_SPINCOUNT = '{BRIEF_SPIN['GOMP_SPINCOUNT']}'" in done.stderr


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in WAIT_VARIABLES}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_processes_code() -> None:
    command = [sys.executable, "-m", "tests.forking"]
    environment = os.environ | {"OMP_NUM_THREADS": str(forking.THREADS)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=FORKS_WITHIN)
        finally:  # also the children that hang
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert output.splitlines() == [f"{way.__name__} codes" for way in forking.WAYS]
    assert process.returncode == 0
