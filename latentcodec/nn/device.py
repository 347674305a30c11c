"""Choice of device: "auto" takes CUDA, then CPU."""

from __future__ import annotations

import torch

from latentcodec.errors import InvalidArgument


def choose_device(name: str) -> torch.device:
    """The device of a name ("auto", "cpu", "cuda", "cuda:1" ...). Raises InvalidArgument where it is not there."""
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
