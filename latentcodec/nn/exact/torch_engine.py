"""Exact integer networks by PyTorch, on CPUs and CUDA.

    float32   products of integers in float32, whose sums stay below 2^23: on every device
    int8      torch._int_mm, where the processor adds int8 products in 32 bits (VNNI, AMX; tensor cores)

Convolutions are neighbourhoods and a matrix product, never a library's convolution: that may choose Winograd
or FFT, which round. Without VNNI, x86 kernels of int8 products are slow, and some add pairs in saturating 16
bits: so int8 is chosen by capability, and tried on extreme values before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from latentcodec.nn.device import full_precision
from latentcodec.nn.exact.engine import Integers, Layer
from latentcodec.nn.exact.layer import (
    ACTIVATION_LIMIT,
    TENTH_BITS,
    TENTH_FACTOR,
    TENTH_LOWEST,
    WIDE_LIMIT,
    Activation,
    IntegerLayer,
    NarrowLayer,
)
from latentcodec.nn.exact.numpy_engine import offsets

# Positions of a neighbourhood matrix: enough to keep the device busy, few enough to stay in a CPU's caches.
STRIP_POSITIONS = {"cpu": 1024, "cuda": 1 << 15}
_LEAST_ROWS = 32  # of torch._int_mm's first matrix, on CUDA
_UNIT = 8  # that its other sides are multiples of


class TorchEngine:
    """The engine for a device: maps in float32, or in int8 where they are narrow; exact ones in float64."""

    def __init__(self, device: torch.device, *, int8: bool = False) -> None:
        self.device, self.int8 = device, int8
        self.name = f"torch {'int8' if int8 else 'float32'} ({device.type})"
        self.serial = device.type != "cpu"
        self._strip = STRIP_POSITIONS[device.type]

    def settings(self) -> AbstractContextManager[None]:
        """As Engine says."""
        return full_precision(self.device)

    def layer(self, layer: IntegerLayer | NarrowLayer) -> Layer[Tensor]:
        """As Engine says."""
        return self._narrowing(layer) if isinstance(layer, NarrowLayer) else self._convolution(layer)

    def to_map(self, integers: Integers) -> Tensor:
        """As Engine says."""
        return self._tensor(np.ascontiguousarray(integers, np.float32))

    def to_array(self, x: Tensor) -> Integers:
        """As Engine says."""
        integers: Integers = x.to(torch.int32).cpu().numpy()
        return integers

    def join(self, maps: Sequence[Tensor]) -> Tensor:
        """As Engine says."""
        return torch.cat(list(maps), 2)

    def shuffle(self, x: Tensor) -> Tensor:
        """As Engine says."""
        height, width, channels = x.shape
        parts = x.view(height, width, channels // 4, 2, 2).permute(0, 3, 1, 4, 2)
        return parts.reshape(2 * height, 2 * width, channels // 4)

    def add_wide(self, stream: Tensor, change: Tensor) -> Tensor:
        """As Engine says."""
        return (stream + change).clamp_(-WIDE_LIMIT, WIDE_LIMIT)

    def add_leaky(self, h: Tensor, change: Tensor) -> Tensor:
        """As Engine says."""
        return activate_((h + change).clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT), Activation.LEAKY)

    def multiply_wide(self, x: Tensor, multiplier: Integers, shift: Integers) -> Tensor:
        """As Engine says."""
        scaled = (x * self._scale(multiplier, shift, torch.float32)).add_(0.5).floor_()
        return scaled.clamp_(-WIDE_LIMIT, WIDE_LIMIT)

    def exact_map(self, integers: Integers) -> Tensor:
        """As Engine says."""
        return self._tensor(np.ascontiguousarray(integers, np.float64))

    def multiply_exact(self, x: Tensor, multiplier: Integers, shift: Integers, limit: int) -> Tensor:
        """As Engine says."""
        scaled = (x * self._scale(multiplier, shift, torch.float64)).add_(0.5).floor_()
        return scaled.clamp_(-limit, limit)

    def exact_convolution(self, planes: Sequence[Integers]) -> Callable[[Tensor], Tensor]:
        """As Engine says."""
        matrices = [self._matrix(weight).double() for weight in planes]
        kernels = [weight.shape[-1] for weight in planes]
        sizes = [weight.shape[1] for weight in planes]

        def run(x: Tensor) -> Tensor:
            return torch.cat(
                [
                    self._in_strips(part, kernel, matrix.__rmatmul__)
                    for part, kernel, matrix in zip(torch.split(x, sizes, 2), kernels, matrices, strict=True)
                ],
                2,
            )

        return run

    def add_exact(self, x: Tensor, change: Tensor) -> Tensor:
        """As Engine says."""
        return x + change

    def samples(self, x: Tensor, change: Tensor, bits: int) -> NDArray[np.uint16]:
        """As Engine says."""
        height, width, _ = x.shape
        patches = x.float().view(height, width, 3, 8, 8).permute(0, 3, 1, 4, 2)
        total = patches.reshape(8 * height, 8 * width, 3)
        fine = change.view(2 * height, 2 * width, 3, 4, 4).permute(0, 3, 1, 4, 2)
        total = total + fine.reshape(total.shape)
        most = (1 << bits) - 1
        if bits == 8:
            samples = total.add_(128 * 256).mul_(1 / 256).floor_()
        else:
            samples = torch.div(
                (total.long() + 255 * 128) * most + 255 * 128, 255 * 256, rounding_mode="floor"
            )
        array: NDArray[np.uint16] = samples.clamp_(0, most).to(torch.int32).cpu().numpy().astype(np.uint16)
        return array

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _scale(self, multiplier: Integers, shift: Integers, dtype: torch.dtype) -> Tensor:
        return self._tensor(np.ldexp(multiplier.astype(np.float64), -shift.astype(np.int64))).to(dtype)

    def _matrix(self, weight: Integers) -> Tensor:
        """(O, I, k, k) -> (k * k * I, O), as neighbourhoods are laid out."""
        matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)), np.float32)
        return self._tensor(matrix)

    def _convolution(self, layer: IntegerLayer) -> Layer[Tensor]:
        scale = np.ldexp(1.0, -(layer.shift.astype(np.int64) - layer.gain))
        factor = self._tensor(scale.astype(np.float32))
        matrix = self._matrix(layer.weight)
        product = _int8_product(matrix) if self.int8 else (matrix * factor).__rmatmul__

        offset = self._offsets(layer, scale)

        def run(x: Tensor, level: int) -> Tensor:
            bias = offset(level)

            def finished(gathered: Tensor) -> Tensor:
                sums = product(gathered)
                if self.int8:
                    sums = sums.float().mul_(factor)
                return activate_(sums.add_(bias).floor_(), layer.activation)

            return self._in_strips(x, layer.weight.shape[-1], finished)

        return run

    def _narrowing(self, layer: NarrowLayer) -> Layer[Tensor]:
        scale = np.ldexp(1.0, -layer.shift.astype(np.int64))
        factor = self._tensor(scale.astype(np.float32))

        offset = self._offsets(layer, scale)

        return lambda x, level: activate_((x * factor).add_(offset(level)).floor_(), layer.activation)

    def _offsets(self, layer: IntegerLayer | NarrowLayer, scale: NDArray[Any]) -> Callable[[int], Tensor]:
        """numpy_engine.offsets on the device."""
        offset = offsets(layer, scale)
        return lru_cache(maxsize=2)(lambda level: self._tensor(offset(level)))

    def _in_strips(self, x: Tensor, kernel: int, finished: Callable[[Tensor], Tensor]) -> Tensor:
        """`finished` of the neighbourhoods (positions, k * k * I) of x (H, W, I), strip by strip."""
        height, width, channels = x.shape
        rows = min(height, max(1, self._strip // width))
        if self.int8 and x.dtype != torch.float64:
            x = x.to(torch.int8)
        if kernel == 3:
            padded = F.pad(x, (0, 0, 1, 1, 1, 1))
            row, column, channel = padded.stride()
        parts = []
        for top in range(0, height, rows):
            count = min(rows, height - top)
            if kernel == 3:
                windows = padded[top:].as_strided(
                    (count, width, 3, 3 * channels), (row, column, row, channel), top * row
                )
                gathered = windows.reshape(count * width, 9 * channels)
            else:
                gathered = x[top : top + count].reshape(count * width, channels)
            parts.append(finished(gathered))
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(height, width, -1)


def activate_(v: Tensor, activation: Activation) -> Tensor:
    """An activation of integers, in place."""
    match activation:
        case Activation.LEAKY:
            eighth = (v * 0.125).floor_()
            return torch.maximum(v, eighth, out=v).clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        case Activation.TENTH:
            v.clamp_(TENTH_LOWEST, ACTIVATION_LIMIT)
            tenth = (v * (TENTH_FACTOR / (1 << TENTH_BITS))).add_(0.5).floor_()
            return torch.maximum(v, tenth, out=v)
        case Activation.CLAMP:
            return v.clamp_(-ACTIVATION_LIMIT, ACTIVATION_LIMIT)
        case Activation.WIDE:
            return v.clamp_(-WIDE_LIMIT, WIDE_LIMIT)


def _int8_product(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    """The product of int8 (M, K) and a matrix of integers (K, N): int32 (M, N)."""
    inputs, outputs = matrix.shape
    spare = -inputs % _UNIT, -outputs % _UNIT
    padded = F.pad(matrix.to(torch.int8), (0, spare[1], 0, spare[0])).contiguous()

    def product(x: Tensor) -> Tensor:
        few = max(0, _LEAST_ROWS - len(x))
        if spare[0] or few:
            x = F.pad(x, (0, spare[0], 0, few))
        sums: Tensor = torch._int_mm(x.contiguous(), padded)
        return sums[: len(sums) - few, :outputs]

    return product


@lru_cache(maxsize=4)
def multiplies_int8(device: torch.device) -> bool:
    """Whether int8 products are quick and right here: by capability first, then tried on extreme values."""
    if not hasattr(torch, "_int_mm"):
        return False
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) < (7, 5):
            return False
    elif not _cpu_has_vnni():
        return False
    try:
        return _right(device)
    except RuntimeError:  # not for this device or build
        return False


def _cpu_has_vnni() -> bool:
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("avx512_vnni"))
    return bool(torch.cpu._is_vnni_supported())  # PyTorch 2.10


def _right(device: torch.device) -> bool:
    """Whether extreme and random int8 products are what they should be."""
    random = torch.Generator().manual_seed(1)
    for rows, inputs, outputs in ((40, 1440, 160), (33, 96, 24), (1, 7, 5)):
        for extreme in (True, False):
            a = torch.randint(-127, 128, (rows, inputs), generator=random)
            b = torch.randint(-127, 128, (inputs, outputs), generator=random)
            if extreme:
                a, b = a.sign() * 127, torch.full_like(b, 127)
                a[: rows // 2] = 127
            sums = _int8_product(b.to(device))(a.to(device, torch.int8))
            if not torch.equal(sums.cpu().long(), a @ b):
                return False
    return True
