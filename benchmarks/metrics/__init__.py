"""All metrics of the suite: metric(reference, distorted) -> float, both uint8 (H, W, 3).

    metric        Metric: a function with its label, direction, range and smallest picture
    standard      mse, psnr, psnr_y, ssim, ms_ssim, ssimulacra2
    perceptual    flip, features, butteraugli, lpips, dists

METRICS holds each by its name. Nothing is ever downloaded: what is not there raises MissingDependency with
what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.metrics import perceptual, standard
from benchmarks.metrics.metric import Metric
from latentcodec.errors import InvalidArgument, MissingDependency

__all__ = ["DEFAULT_METRICS", "METRICS", "Metric", "find_metrics"]

METRICS: dict[str, Metric] = {**standard.METRICS, **perceptual.METRICS}
DEFAULT_METRICS = ("psnr", "psnr_y", "ssim", "ms_ssim", "ssimulacra2", "flip", "features")


def find_metrics(names: Sequence[str]) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics of these names ("all" is every one) that work here, and why each of the others does not.

    Raises InvalidArgument for an unknown name, and where none works.
    """
    requested = list(METRICS) if "all" in names else list(dict.fromkeys(names))
    unknown = [name for name in requested if name not in METRICS]
    if unknown or not requested:
        raise InvalidArgument(
            f"no metric is called {', '.join(unknown)!r}; there are {', '.join(METRICS)}, all"
        )
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    working: dict[str, Metric] = {}
    absent: dict[str, str] = {}
    for name in requested:
        try:
            METRICS[name](ramp, 255 - ramp)
        except MissingDependency as error:
            absent[name] = str(error)
        else:
            working[name] = METRICS[name]
    if not working:
        raise InvalidArgument(
            "no metric is left: " + "; ".join(f"{name}: {why}" for name, why in absent.items())
        )
    return working, absent
