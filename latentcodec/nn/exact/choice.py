"""Which engine computes a picture. PyTorch is loaded only where it is worth its start.

    LATENTCODEC_ENGINE, device, pixels, is PyTorch loaded? ─► one of compiled, numpy,
                                                                torch int8, torch float32, CUDA

All give the same integers, so this is a question of time alone. Importing PyTorch takes longer than a picture
of ordinary size does: a program that has not loaded it gets an engine without, unless the picture is large.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentcodec.errors import InvalidArgument
from latentcodec.nn.exact.engine import Engine
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.parallel import workers

if TYPE_CHECKING:
    from latentcodec.nn.exact.torch_engine import TorchEngine

CHOICE = "LATENTCODEC_ENGINE"  #: the environment's variable: one of ENGINES
ENGINES = ("auto", "compiled", "numpy", "torch-int8", "torch-float32")
# From so many pixels on, what PyTorch is faster by, on a GPU or with int8 products, is worth its start.
WORTH_LOADING = 4_000_000
_GPU = Path("/dev/nvidiactl")  # there where the driver of NVIDIA's GPUs is loaded, on Linux


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
    loaded = "torch" in sys.modules
    large = pixels >= WORTH_LOADING
    if device == "auto" and (loaded or (large and _GPU.exists())):
        from latentcodec.nn.device import choose_device

        if choose_device(device).type == "cuda":
            return torch_engine(device, None)
    if (compiled := _compiled()) is not None:
        return compiled
    return torch_engine("cpu", None) if loaded or large else _numpy()


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
    """PyTorch's engine on a device; int8: None where the machine decides."""
    from latentcodec.nn.device import choose_device
    from latentcodec.nn.exact.torch_engine import TorchEngine, multiplies_int8

    chosen = choose_device(device)
    return TorchEngine(chosen, int8=multiplies_int8(chosen) if int8 is None else int8)


@lru_cache(maxsize=1)
def _numpy() -> NumpyEngine:
    return NumpyEngine()


@lru_cache(maxsize=1)
def _compiled() -> Engine[Any] | None:
    from latentcodec.nn.exact.compiled_engine import CompiledEngine, available

    return CompiledEngine(threads=workers()) if available() else None
