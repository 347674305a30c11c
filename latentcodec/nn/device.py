"""Choice of device, and the settings that the networks run under.

"auto" ─► CUDA if there is any, else CPU
with full_precision(device): ...     float32 means float32 in here, whatever the caller has set
with fast_precision(device): ...     convolutions in bfloat16 where the device has it: for estimates alone
with placed(networks, device): ...   networks that live elsewhere, on the device while they work
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

import torch
from torch import nn

from latentcodec.errors import InvalidArgument
from latentcodec.threads import survive_forks

survive_forks()  # here, as all that computes imports this module


def choose_device(name: str) -> torch.device:
    """The device of a name ("auto", "cpu", "cuda", "cuda:1" ...). Raises InvalidArgument for others."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidArgument(f"device {name!r}: not a device name; use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise InvalidArgument(f"device {name!r}: this version runs on cpu and cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidArgument(f"device {name!r}: {torch.cuda.device_count()} CUDA devices are there; use cpu")
    return device


# Where PyTorch keeps the precision of float32 products and convolutions.
_libraries: Any = torch.backends  # its types lack some
_BACKENDS: list[Any] = [
    _libraries.cuda.matmul,
    _libraries.cudnn.conv,
    _libraries.cudnn.rnn,
    _libraries.mkldnn.conv,
    _libraries.mkldnn.matmul,
]

# The settings are the process's, not a thread's: the first to enter saves them, the last to leave restores.
_guard = Lock()
_inside = 0
_restore: Callable[[], None]


def _unlock() -> None:
    """A new lock for a forked process, as another thread may have held the old one at the fork."""
    global _guard
    _guard = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32 or bfloat16 in float32 products, no gradients; the caller's settings come back."""
    global _inside, _restore
    with _guard:
        if _inside == 0:
            _restore = _demand_float32()
        _inside += 1
    try:
        with torch.autocast(device.type, enabled=False), torch.inference_mode():
            yield
    finally:
        with _guard:
            _inside -= 1
            if _inside == 0:
                _restore()


@contextmanager
def fast_precision(device: torch.device) -> Iterator[None]:
    """As full_precision, but with autocast to bfloat16 where the device multiplies it natively."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = _cpu_multiplies_bfloat16()
    with full_precision(device), torch.autocast(device.type, torch.bfloat16, enabled=native):
        yield


@contextmanager
def placed(modules: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """Modules on a device while the block runs; then their tensors are the ones that they were before."""
    parts = [part for module in modules for part in module.modules()]
    homes = [(part._parameters, dict(part._parameters)) for part in parts]  # what stands there is put back
    try:
        for tensors, home in homes:
            for name, tensor in home.items():
                if tensor is not None:
                    moved = tensor.to(device, non_blocking=True)
                    tensors[name] = nn.Parameter(moved, requires_grad=False)
        yield
    finally:
        for tensors, home in homes:
            tensors.update(home)


def _cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has AVX-512's bfloat16 products."""
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    return bool(torch.cpu._is_avx512_bf16_supported())  # PyTorch 2.10


def _demand_float32() -> Callable[[], None]:
    """Set all precisions to float32; the function that is returned undoes it."""
    products: str | None = None
    convolutions: bool | None = None
    newer = [(backend, backend.fp32_precision) for backend in _BACKENDS]
    with suppress(RuntimeError):  # reading the older settings is an error where the newer ones were used
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        convolutions = torch.backends.cudnn.allow_tf32

    def restore() -> None:
        if products is not None:
            torch.set_float32_matmul_precision(products)
        if convolutions is not None:
            torch.backends.cudnn.allow_tf32 = convolutions
        for backend, precision in newer:
            if backend.fp32_precision != precision:
                backend.fp32_precision = precision

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for backend in _BACKENDS:
        backend.fp32_precision = "ieee"
    return restore
