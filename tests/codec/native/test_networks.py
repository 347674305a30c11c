"""An encoder's networks: numpy's floats are PyTorch's, but for the order of sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from latentcodec.codec.native.coder import EncoderNetworks, Floats
from latentcodec.codec.native.networks import OPERATIONS, NumpyNetworks, encoder_networks
from latentcodec.codec.native.torch_networks import TorchNetworks
from latentcodec.kernel.library import load
from latentcodec.nn.exact.choice import torch_engine
from latentcodec.nn.exact.compiled_engine import CompiledEngine
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.layers import FLOAT_OPERATIONS
from latentcodec.picture.picture import Pixels
from latentcodec.weights.native import NativeWeights
from tests.conftest import photograph

CPU = torch.device("cpu")
LEVELS = [0, 1, 499, 2000, 2750, 3999, 4000]


@pytest.fixture(scope="module", params=["numpy", "compiled"])
def by_numpy(request: pytest.FixtureRequest, weights: NativeWeights) -> NumpyNetworks:
    if request.param == "numpy":
        return NumpyNetworks(weights, NumpyEngine())
    if load() is None:
        pytest.skip("no compiled kernel here")
    return NumpyNetworks(weights, CompiledEngine())


@pytest.fixture(scope="module")
def by_torch(weights: NativeWeights) -> TorchNetworks:
    return TorchNetworks(weights, CPU)


def check_alike(ours: Floats, theirs: Floats) -> None:
    assert ours.dtype == theirs.dtype == np.float32
    assert ours.shape == theirs.shape
    largest = float(np.abs(theirs).max())
    assert np.abs(ours - theirs).max() <= 2e-5 * max(largest, 1.0)


def pictures() -> dict[str, Pixels]:
    checkerboard = (np.indices((32, 40)).sum(0) % 2 * 255).astype(np.uint8)
    return {
        "photograph": photograph("coffee", 104, 72),
        "smallest": photograph("chelsea", 8, 8),
        "strip": photograph("astronaut", 8, 304),
        "white": np.full((16, 24, 3), 255, np.uint8),
        "black": np.zeros((16, 24, 3), np.uint8),
        "checkerboard": np.repeat(checkerboard[..., None], 3, 2),
        "a view": photograph("coffee", 80, 64)[::-1, ::-1, ::-1],
    }


@pytest.mark.parametrize("name", pictures())
def test_analyses_agree(by_numpy: NumpyNetworks, by_torch: TorchNetworks, name: str) -> None:
    pixels = pictures()[name]
    for level in LEVELS if name == "photograph" else (0, 3210):
        ours, theirs = (networks.analyse(pixels, level) for networks in (by_numpy, by_torch))
        assert ours.shape == (112, pixels.shape[0] // 8, pixels.shape[1] // 8)
        check_alike(ours, theirs)


@pytest.mark.parametrize("size", [(4, 4), (4, 12), (12, 8), (40, 4)])
def test_hyperlatents_agree(by_numpy: NumpyNetworks, by_torch: TorchNetworks, size: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    for level in (0, 777, 4000):
        y = random.laplace(0, 1 + level / 200, (112, *size)).astype(np.float32)
        y[:, ::2, ::3] = 0
        ours, theirs = (networks.hyperlatents(y, level) for networks in (by_numpy, by_torch))
        assert ours.shape == (48, size[0] // 4, size[1] // 4)
        check_alike(ours, theirs)


def test_what_they_are_given_stays(by_numpy: NumpyNetworks, by_torch: TorchNetworks) -> None:
    pixels = photograph("coffee", 32, 32)
    networks: EncoderNetworks
    for networks in (by_numpy, by_torch):
        before = pixels.copy()
        y = networks.analyse(pixels, 1234)
        assert np.array_equal(pixels, before)
        kept = y.copy()
        networks.hyperlatents(y, 1234)
        assert np.array_equal(y, kept)
        assert np.array_equal(networks.analyse(pixels, 1234), kept)


def test_results_are_the_caller_s_own(by_numpy: NumpyNetworks, by_torch: TorchNetworks) -> None:
    """Contiguous and free to be written to, without memory of a larger map behind them."""
    networks: EncoderNetworks
    for networks in (by_numpy, by_torch):
        y = networks.analyse(photograph("coffee", 64, 32), 2000)
        assert y.flags.c_contiguous
        assert y.flags.writeable


def test_networks_are_those_of_the_engine(weights: NativeWeights) -> None:
    assert isinstance(encoder_networks(NumpyEngine())(weights), NumpyNetworks)
    networks = encoder_networks(torch_engine("cpu", False))(weights)
    assert isinstance(networks, TorchNetworks)
    assert networks.device == CPU


@pytest.mark.parametrize(
    "operation", [lambda o, x: o.leaky(x), lambda o, x: o.signed_log(x), lambda o, x: o.unshuffle(x, 2)]
)
def test_operations_agree(operation: Callable[[Any, Any], Any]) -> None:
    x = np.random.default_rng(3).normal(0, 30, (6, 10, 3)).astype(np.float32)
    x[0, 0], x[0, 1] = 0, -0.0
    ours = operation(OPERATIONS, x)
    theirs = operation(FLOAT_OPERATIONS, torch.from_numpy(x).permute(2, 0, 1)[None])
    assert ours.dtype == np.float32
    assert np.allclose(ours, theirs[0].permute(1, 2, 0).numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.gpu
def test_cuda_agrees(weights: NativeWeights, by_torch: TorchNetworks) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    on_gpu = TorchNetworks(weights, torch.device("cuda"))
    y, ours = (networks.analyse(photograph("coffee", 104, 72), 2500) for networks in (by_torch, on_gpu))
    assert np.abs(ours - y).max() <= 1e-3 * np.abs(y).max()
    y = y[:, :8, :12]
    z, ours = (networks.hyperlatents(y, 2500) for networks in (by_torch, on_gpu))
    assert np.abs(ours - z).max() <= 1e-3 * np.abs(z).max()
