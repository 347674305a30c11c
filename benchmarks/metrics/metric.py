"""What a metric is, which pairs of pictures it takes, and where its package comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidArgument, MissingDependency

__all__ = ["Metric", "check_pair", "import_package"]


@dataclass(frozen=True)
class Metric:
    """A metric and how to read it. Calling it is calling its function."""

    function: Callable[[Pixels, Pixels], float]
    label: str
    higher_is_better: bool
    worst: float
    best: float
    unit: str = ""
    smallest_side: int = 1

    def __call__(self, reference: Pixels, distorted: Pixels) -> float:
        return self.function(reference, distorted)


def check_pair(reference: Pixels, distorted: Pixels, label: str, smallest_side: int) -> None:
    """Raise InvalidArgument, naming the metric `label`, unless both are uint8 (H, W, 3) of one size, which
    measures `smallest_side` pixels or more."""
    for name, picture in (("reference", reference), ("distorted", distorted)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or picture.size == 0:
            raise InvalidArgument(
                f"{label}: {name} is {picture.dtype} {picture.shape}, metrics take uint8 (H, W, 3)"
            )
    if reference.shape != distorted.shape:
        raise InvalidArgument(
            f"{label}: reference {reference.shape} and distorted {distorted.shape} differ in size"
        )
    height, width = reference.shape[:2]
    if min(height, width) < smallest_side:
        raise InvalidArgument(
            f"{label} needs at least {smallest_side}x{smallest_side} pixels, these have {width}x{height}"
        )


def import_package(module: str, distribution: str, install: str = "'latentcodec[bench]'") -> Any:
    """The module of another project's package. Raises MissingDependency, with the `pip install` that helps,
    whatever keeps it from being imported."""
    try:
        return import_module(module)
    except Exception as error:  # a build of torchvision for another PyTorch raises RuntimeError
        raise MissingDependency(
            f"this metric needs {distribution}, which cannot be imported ({error}): pip install {install}"
        ) from error
