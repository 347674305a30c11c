"""What something was trained with, for its card: the pictures and the hardware.

pictures ─► name of the folder, count, hash over names and sizes          device ─► its name

A folder is named by its last part only: nothing about the machine's layout leaves it.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from latentcodec.training.data import PictureFile, is_held_out
from latentcodec.training.packed import PackedPicture

_HASH_DIGITS = 16


def describe_pictures(folder: Path, paths: Sequence[PictureFile]) -> dict[str, Any]:
    """A folder of pictures: its name, how many there are, and a hash over their names and sizes.

    paths: all pictures below the folder, as `find_pictures` or `find_training_pictures` gives them; those in
    tars count as if they lay in the folder.
    """
    digest = hashlib.sha256()
    for path in paths:
        if isinstance(path, PackedPicture):
            place, size = path.place, path.size
        else:
            place, size = path.relative_to(folder).as_posix(), path.stat().st_size
        digest.update(f"{place}\0{size}\n".encode(errors="replace"))
    return {
        "folder": folder.resolve().name,
        "count": len(paths),
        "held_out": sum(map(is_held_out, paths)),
        "sha256": digest.hexdigest()[:_HASH_DIGITS],
    }


def describe_hardware(device: torch.device) -> str:
    """What training runs on: the processor and its threads in use, or the GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
