"""Constants of the networks and losses, copied to a device once.

    numbers ─► the first time on a device: a copy there ─► kept ─► every later time: the same tensor

A copy from the host in every step would wait for it, and no CUDA graph could hold it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class DeviceConstant:
    """A tensor of numbers that never change, on any device. Nobody may write to it."""

    def __init__(self, numbers: Any) -> None:
        """numbers: whatever torch.tensor takes."""
        self._numbers = numbers
        # No functools.cache: torch.compile would look through it, and copy the numbers in every call.
        self._copies: dict[torch.device, Tensor] = {}

    def on(self, device: torch.device) -> Tensor:
        """The tensor on `device`, the same one at every call."""
        if device not in self._copies:
            with torch.inference_mode(False):  # else training could not use what decoding made
                self._copies[device] = torch.tensor(self._numbers, device=device)
        return self._copies[device]
