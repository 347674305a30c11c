"""Which engine computes a picture. PyTorch is loaded only where it is worth its start.

    LATENTCODEC_ENGINE, pixels, is PyTorch loaded? ─► one of compiled, numpy, torch int8, torch float32
    device "cuda" ─► tried on extreme values ─► torch on CUDA

All give the same integers, so this is a question of time alone. Importing PyTorch takes longer than a picture
of ordinary size does: a program that has not loaded it gets an engine without, unless the picture is large.
CUDA has not run on any machine yet. So it is off where nobody names it, and proved where somebody does.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from latentcodec.errors import InvalidArgument
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.exact.self_test import computes_right
from latentcodec.parallel import workers

if TYPE_CHECKING:
    from latentcodec.nn.exact.torch_engine import TorchEngine

CHOICE = "LATENTCODEC_ENGINE"  #: the environment's variable: one of ENGINES
ENGINES = ("auto", "compiled", "numpy", "torch-int8", "torch-float32")
WORTH_LOADING = 4_000_000  # pixels from which on what PyTorch is faster by than numpy is worth its start


def choose_engine(device: str, pixels: int) -> Engine[Any]:
    """The engine for a picture of so many pixels on a device ("auto", "cpu", "cuda", "cuda:1" ...).

    Raises InvalidArgument for a device that is not there, and where LATENTCODEC_ENGINE names no engine, or
    one that this machine does not have.
    """
    choice = os.environ.get(CHOICE) or "auto"
    if choice not in ENGINES:
        raise InvalidArgument(f"{CHOICE}={choice}: use one of {', '.join(ENGINES)}")
    if device not in ("auto", "cpu"):
        return torch_engine(device, None)
    if choice != "auto":
        return _named(choice)
    if (compiled := _compiled()) is not None:
        return compiled
    worth = "torch" in sys.modules or pixels >= WORTH_LOADING
    return torch_engine("cpu", None) if worth else _numpy()


def _named(choice: str) -> Engine[Any]:
    if choice == "numpy":
        return _numpy()
    if choice == "compiled":
        if (engine := _compiled()) is None:
            raise InvalidArgument(f"{CHOICE}=compiled: the kernel is not built here, or off; use another")
        return engine
    return torch_engine("cpu", choice == "torch-int8")


@lru_cache(maxsize=8)
def torch_engine(device: str, int8: bool | None) -> TorchEngine:
    """PyTorch's engine on a device; int8: None where the machine decides.

    Raises InvalidArgument for a device that is not there, and for a GPU that does not compute what it should.
    """
    from latentcodec.nn.device import choose_device
    from latentcodec.nn.exact.torch_engine import TorchEngine, multiplies_int8

    chosen = choose_device(device)
    engine = TorchEngine(chosen, int8=multiplies_int8(chosen) if int8 is None else int8)
    if chosen.type != "cpu":
        with engine.settings():
            right = computes_right(engine)
        if not right:
            raise InvalidArgument(f"device {device!r}: it does not compute the right integers; use cpu")
    return engine


@lru_cache(maxsize=1)
def _numpy() -> NumpyEngine:
    return NumpyEngine()


@lru_cache(maxsize=1)
def _compiled() -> Engine[Any] | None:
    from latentcodec.nn.exact.compiled_engine import CompiledEngine, available

    return CompiledEngine(threads=workers()) if available() else None
