"""The metrics that papers on codecs report: metric(reference, distorted) -> float, both uint8 (H, W, 3).

    mse, psnr       numpy, exact integer sums
    psnr_y          numpy, of the luma
    ssim            scikit-image
    ms_ssim         pytorch-msssim  ┐
    ssimulacra2     ssimulacra2     ┘ in the extra `bench`; without them MissingDependency

METRICS holds each by its name, with its direction and range.
"""

from __future__ import annotations

import io
import math
from importlib import import_module

import numpy as np
from PIL import Image

from benchmarks.metrics.metric import Metric, check_pair, import_package
from benchmarks.pictures.arrays import Pixels

__all__ = ["METRICS", "ms_ssim", "mse", "psnr", "psnr_y", "ssim", "ssimulacra2"]

PEAK = 255
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as JPEG's Y
_BAND = 256  # rows compared at once: bounds the memory of the differences
_SSIM_WINDOW = 7  # scikit-image's default: uniform, 7x7
_MS_SSIM_LEAST = 161  # 4 halvings must leave the 11x11 window its place: (11 - 1) * 2^4 + 1
_SSIMULACRA2_LEAST = 225  # 8 pixels on the coarsest of 6 scales: without all six, black on white scores 80


def mse(reference: Pixels, distorted: Pixels) -> float:
    """Mean squared error over all samples, 0 to 65025.

    Raises InvalidArgument, as all metrics do, unless both are uint8 (H, W, 3) of one size.
    """
    return _mean_squared_error(reference, distorted, "MSE")


def psnr(reference: Pixels, distorted: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, of one mean over the three channels; infinite for equal pictures."""
    error = _mean_squared_error(reference, distorted, "PSNR")
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


def psnr_y(reference: Pixels, distorted: Pixels) -> float:
    """PSNR in dB of the luma alone, the Y of JPEG files: 0.299 R + 0.587 G + 0.114 B over 0 to 255, of the
    gamma-coded samples and not rounded; infinite for equal lumas."""
    check_pair(reference, distorted, "PSNR of luma", 1)
    total = 0.0
    for top in range(0, len(reference), _BAND):
        band = slice(top, top + _BAND)
        difference = (reference[band].astype(np.int32) - distorted[band]) @ np.array(_LUMA)
        total += float(np.square(difference).sum())
    error = total / (reference.shape[0] * reference.shape[1])
    return 10 * math.log10(PEAK**2 / error) if error else math.inf


def _mean_squared_error(reference: Pixels, distorted: Pixels, label: str) -> float:
    check_pair(reference, distorted, label, 1)
    total = 0
    for top in range(0, len(reference), _BAND):
        band = slice(top, top + _BAND)
        difference = reference[band].astype(np.int32) - distorted[band]
        total += int(np.square(difference).sum(dtype=np.int64))
    return total / reference.size


def ssim(reference: Pixels, distorted: Pixels) -> float:
    """Structural similarity, -1 to 1, mean of the channels, as scikit-image computes it by default: uniform
    window of 7x7 pixels, which it needs at least."""
    check_pair(reference, distorted, "SSIM", _SSIM_WINDOW)
    metrics = import_package("skimage.metrics", "scikit-image")
    return float(metrics.structural_similarity(reference, distorted, channel_axis=2, data_range=PEAK))


def ms_ssim(reference: Pixels, distorted: Pixels) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003), 0 to 1, mean of the channels, by
    pytorch-msssim in float32, as published figures are. Needs 161x161 pixels."""
    check_pair(reference, distorted, "MS-SSIM", _MS_SSIM_LEAST)
    package = import_package("pytorch_msssim", "pytorch-msssim")
    torch = import_module("torch")
    planes = [
        torch.from_numpy(picture.transpose(2, 0, 1)[None].astype(np.float32))
        for picture in (reference, distorted)
    ]
    with torch.inference_mode():
        return float(package.ms_ssim(*planes, data_range=PEAK))


def ssimulacra2(reference: Pixels, distorted: Pixels) -> float:
    """SSIMULACRA 2, at most 100: 90 is visually lossless, 70 high, 50 medium and 30 low quality. Needs
    225x225 pixels, so that all six of its scales are there."""
    check_pair(reference, distorted, "SSIMULACRA 2", _SSIMULACRA2_LEAST)
    package = import_package("ssimulacra2", "ssimulacra2")
    return float(package.compute_ssimulacra2(_as_file(reference), _as_file(distorted)))


METRICS: dict[str, Metric] = {
    "mse": Metric(mse, "MSE", False, worst=float(PEAK**2), best=0.0),
    "psnr": Metric(psnr, "PSNR", True, worst=0.0, best=math.inf, unit="dB"),
    "psnr_y": Metric(psnr_y, "PSNR of luma", True, worst=0.0, best=math.inf, unit="dB"),
    "ssim": Metric(ssim, "SSIM", True, worst=-1.0, best=1.0, smallest_side=_SSIM_WINDOW),
    "ms_ssim": Metric(ms_ssim, "MS-SSIM", True, worst=0.0, best=1.0, smallest_side=_MS_SSIM_LEAST),
    "ssimulacra2": Metric(
        ssimulacra2, "SSIMULACRA 2", True, -math.inf, 100.0, smallest_side=_SSIMULACRA2_LEAST
    ),
}


def _as_file(pixels: Pixels) -> io.BytesIO:
    """The picture as the file that the package wants to open, in memory."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PPM")
    stream.seek(0)
    return stream
