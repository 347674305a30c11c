"""Which engine is chosen, and that PyTorch is loaded only where it is worth its start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from latentcodec.errors import InvalidArgument
from latentcodec.nn import device as devices
from latentcodec.nn.exact import choice, torch_engine
from latentcodec.nn.exact.choice import CHOICE, ENGINES, WORTH_LOADING, choose_engine
from latentcodec.nn.exact.numpy_engine import NumpyEngine

ROOT = Path(__file__).resolve().parents[3]
KERNEL = "LATENTCODEC_KERNEL"


class Compiled(NumpyEngine):
    """Stands for the compiled engine, which is not everywhere."""

    name = "compiled"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CHOICE, raising=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("numpy", "numpy"),
        ("torch-float32", "torch float32 (cpu)"),
        ("torch-int8", "torch int8 (cpu)"),
    ],
)
def test_the_variable_names_an_engine(monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    monkeypatch.setenv(CHOICE, name)
    for device in ("auto", "cpu"):
        for pixels in (1, WORTH_LOADING):
            assert choose_engine(device, pixels).name == expected


def test_compiled_is_an_error_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "compiled")
    monkeypatch.setattr(choice, "_compiled", lambda: None)
    with pytest.raises(InvalidArgument, match="LATENTCODEC_ENGINE=compiled: the kernel is not built here"):
        choose_engine("cpu", 1)
    engine = Compiled()
    monkeypatch.setattr(choice, "_compiled", lambda: engine)
    assert choose_engine("auto", 1) is engine


@pytest.mark.parametrize("name", ["Numpy", "torch", "cuda", " "])
def test_other_names_are_errors(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(CHOICE, name)
    with pytest.raises(InvalidArgument, match=f"LATENTCODEC_ENGINE={name}: use one of {', '.join(ENGINES)}"):
        choose_engine("auto", 1)


@pytest.mark.parametrize("name", ["", "auto"])
def test_nothing_and_auto_leave_the_choice(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected = choose_engine("cpu", 1)
    monkeypatch.setenv(CHOICE, name)
    assert choose_engine("cpu", 1) is expected


def test_a_named_device_comes_before_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOICE, "numpy")
    with pytest.raises(InvalidArgument, match="CUDA devices are there; use cpu"):
        choose_engine(f"cuda:{torch.cuda.device_count()}", 1)
    with pytest.raises(InvalidArgument, match="this version runs on cpu and cuda"):
        choose_engine("meta", 1)
    with pytest.raises(InvalidArgument, match="not a device name"):
        choose_engine("graphics", 1)


@pytest.mark.parametrize("name", [name for name in ENGINES if name not in ("auto", "compiled")])
def test_an_engine_is_made_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Models are kept by their engines: a new one for each picture would load the weights each time."""
    monkeypatch.setenv(CHOICE, name)
    assert choose_engine("cpu", 1) is choose_engine("auto", WORTH_LOADING)


@pytest.mark.parametrize("int8", [True, False])
def test_with_pytorch_loaded(monkeypatch: pytest.MonkeyPatch, int8: bool) -> None:
    """The kernel where it is, and else PyTorch's products, which are quicker than numpy's."""
    monkeypatch.setattr(torch_engine, "multiplies_int8", lambda device: int8)
    choice.torch_engine.cache_clear()
    monkeypatch.setattr(choice, "_compiled", lambda: None)
    for pixels in (1, WORTH_LOADING):
        assert choose_engine("cpu", pixels).name == f"torch {'int8' if int8 else 'float32'} (cpu)"
    engine = Compiled()
    monkeypatch.setattr(choice, "_compiled", lambda: engine)
    for pixels in (1, WORTH_LOADING):
        assert choose_engine("cpu", pixels) is engine
    choice.torch_engine.cache_clear()


def test_a_gpu_is_off_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch_engine, "multiplies_int8", lambda device: True)
    monkeypatch.setattr(choice, "_compiled", Compiled)
    monkeypatch.setattr(choice, "computes_right", lambda engine: engine.name == "torch int8 (cuda)")
    choice.torch_engine.cache_clear()
    for device in ("auto", "cpu"):
        assert choose_engine(device, WORTH_LOADING).name == "compiled"
    assert choose_engine("cuda", 1).name == "torch int8 (cuda)"
    choice.torch_engine.cache_clear()


def test_a_gpu_that_computes_wrong_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch_engine, "multiplies_int8", lambda device: True)
    monkeypatch.setattr(choice, "computes_right", lambda engine: False)
    choice.torch_engine.cache_clear()
    with pytest.raises(InvalidArgument, match="does not compute the right integers; use cpu"):
        choose_engine("cuda", 1)


def run(code: str, **environment: str) -> list[str]:
    """What a process that has not loaded PyTorch prints of an engine: its name, and whether it has then."""
    inherited = {name: value for name, value in os.environ.items() if name not in (CHOICE, KERNEL)}
    program = (
        "import sys\nfrom latentcodec.nn.exact import choice\nfrom latentcodec.nn.exact.choice import *\n"
        f"{code}\nprint(engine.name, 'torch' in sys.modules, sep=' | ')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env=inherited | environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split(" | ")


ORDINARY = "engine = choice.choose_engine('auto', 1000 * 1000)"
LARGE = f"engine = choice.choose_engine('cpu', {WORTH_LOADING})"


@pytest.mark.parametrize("kernel", ["auto", "off"])
def test_ordinary_pictures_do_not_load_pytorch(kernel: str) -> None:
    name, loaded = run(ORDINARY, **{KERNEL: kernel})
    assert loaded == "False"
    assert name in (("numpy",) if kernel == "off" else ("numpy", "compiled"))


@pytest.mark.parametrize("name", ["numpy", "compiled"])
def test_nor_do_engines_that_are_named(name: str) -> None:
    if name == "compiled" and choice._compiled() is None:
        pytest.skip("the kernel is not built here")
    for code in (ORDINARY, LARGE):
        assert run(code, **{CHOICE: name}) == [name, "False"]


def test_large_pictures_are_worth_loading_pytorch_where_there_is_no_kernel() -> None:
    name, loaded = run(LARGE, **{KERNEL: "off"})
    assert name.startswith("torch ")
    assert loaded == "True"
    there = "choice._compiled = lambda: type('E', (), {'name': 'compiled'})()\n"
    assert run(there + LARGE) == ["compiled", "False"]


def test_a_kernel_that_is_off_is_said_so() -> None:
    code = "try:\n    choice.choose_engine('cpu', 1)\nexcept Exception as error:\n    engine = error"
    message, loaded = run(f"{code}\n    engine.name = str(error)", **{CHOICE: "compiled", KERNEL: "off"})
    assert message == "LATENTCODEC_ENGINE=compiled: the kernel is not built here, or off; use another"
    assert loaded == "False"
