"""Engines as the tests need them; the compiled one of this checkout's sources, and with any instructions."""

from __future__ import annotations

import os
from typing import Any

import pytest

from latentcodec.errors import InvalidArgument
from latentcodec.kernel.library import CHOICE
from latentcodec.nn.exact import workers
from latentcodec.nn.exact.compiled_engine import CompiledEngine, Instructions
from latentcodec.nn.exact.engine import Engine
from tests.kernel import built
from tests.nn.exact.engine_cases import NAMES, ON_CPU


@pytest.fixture
def built_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel of this checkout's sources, unless a path says which. Skips where there is no compiler."""
    if os.sep not in os.environ.get(CHOICE, ""):
        monkeypatch.setenv(CHOICE, str(built.kernel()))


@pytest.fixture(params=list(Instructions), ids=lambda instructions: instructions.name)
def compiled(request: pytest.FixtureRequest, built_kernel: None) -> CompiledEngine:
    """With each set of instructions that this processor has."""
    try:
        return CompiledEngine(instructions=request.param)
    except InvalidArgument as error:
        pytest.skip(str(error))


@pytest.fixture
def best(built_kernel: None) -> CompiledEngine:
    """As it is used."""
    return CompiledEngine()


@pytest.fixture
def shared(built_kernel: None, monkeypatch: pytest.MonkeyPatch) -> CompiledEngine:
    """On three threads that share even the least work."""
    monkeypatch.setattr(workers, "LEAST_WORK", 1)
    return CompiledEngine(threads=3)


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine[Any]:
    """Numpy's and PyTorch's, on the CPU."""
    return ON_CPU[request.param]
