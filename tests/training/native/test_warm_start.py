"""Beginning with other weights: what goes out comes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from latentcodec.errors import InvalidWeights, TrainingError
from latentcodec.nn.exact.layer import Activation, IntegerLayer
from latentcodec.nn.integer import TrainableIntegerConv
from latentcodec.nn.knots import KNOTS
from latentcodec.nn.layers import signed_log
from latentcodec.nn.native.model import NativeModel
from latentcodec.training.native.export import export
from latentcodec.training.native.warm_start import WarmStart, dequantise, warm_start
from latentcodec.weights import native_modules
from latentcodec.weights.native import FILES, NATIVE_MODEL, Array, NativeWeights, read_weights
from tests.conftest import tiny_config
from tests.tiny_run import STEPS, make_pictures, make_run, same_parameters

SHIPPED = Path(__file__).resolve().parents[3] / "latentcodec" / "weights" / FILES[NATIVE_MODEL]


def model_of(start: WarmStart) -> NativeModel:
    model = NativeModel(start.config)
    model.load_state_dict(start.state)
    return model


def exported_again(path: Path, folder: Path) -> NativeWeights:
    export(model_of(warm_start(path)), {}, folder / "again.safetensors")
    return read_weights(folder / "again.safetensors")


def assert_same(a: NativeWeights, b: NativeWeights) -> None:
    assert a.config == b.config
    assert a.tensors.keys() == b.tensors.keys()
    for name, tensor in a.tensors.items():
        assert tensor.dtype == b.tensors[name].dtype, name
        assert tensor.tobytes() == b.tensors[name].tobytes(), name
    assert a.networks_hash == b.networks_hash
    assert a.synthesis_hash == b.synthesis_hash


def test_an_exported_file_comes_back(tiny_model: NativeModel, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    export(tiny_model, {}, path)
    assert_same(exported_again(path, tmp_path), read_weights(path))


def test_the_shipped_file_comes_back(weights: NativeWeights, tmp_path: Path) -> None:
    assert_same(exported_again(SHIPPED, tmp_path), weights)


def test_the_synthesis_that_comes_back_shows_the_same(weights: NativeWeights) -> None:
    """Before it is exported, too: a run that begins with it begins where the file is."""
    synthesis = model_of(warm_start(SHIPPED)).synthesis.eval()
    held = native_modules.synthesis(weights, torch.device("cpu"))
    y = torch.randn(1, weights.config.transform.latents, 3, 4, generator=torch.Generator().manual_seed(1))
    for level in (0.0, 1000.0, 4000.0):
        with torch.no_grad():
            at = torch.tensor([level])
            assert torch.equal(synthesis.correction(signed_log(y), at), held.correction(signed_log(y), at))
            assert torch.allclose(synthesis(y, at), held(y, at), atol=1e-5)


def test_what_warm_starts_need_is_in_neither_hash(tiny_model: NativeModel, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    export(tiny_model, {}, path)
    weights = read_weights(path)
    less = {name: tensor for name, tensor in weights.tensors.items() if not name.startswith("training.")}
    assert len(less) == len(weights.tensors) - 2
    bare = NativeWeights(weights.number, weights.config, weights.card, less)
    assert (bare.networks_hash, bare.synthesis_hash) == (weights.networks_hash, weights.synthesis_hash)


def rows_at_the_limit(seed: int, inputs: int, kernel: int, gain: int) -> TrainableIntegerConv:
    """A layer whose rows are of all sizes, many so wide that the accumulator's bound decides their shifts."""
    torch.manual_seed(seed)
    layer = TrainableIntegerConv(inputs, 48, kernel, gain=gain)
    with torch.no_grad():
        weight = torch.rand_like(layer.conv.weight) * 2 - 1
        layer.conv.weight.copy_(weight.sign() if seed % 3 == 0 else weight)
        layer.conv.weight.mul_(torch.exp(torch.randn(48, 1, 1, 1) - 4))
        layer.conv.weight[0] = 0
        layer.bias.copy_(torch.randn_like(layer.bias) * 10 ** (seed % 4 - 2))
    return layer


@pytest.mark.parametrize("seed", range(12))
def test_layers_come_back(seed: int) -> None:
    inputs, kernel = ((16, 3), (432, 3), (300, 3), (64, 1))[seed % 4]
    layer = rows_at_the_limit(seed, inputs, kernel, gain=2 * (seed % 2))
    integers = layer.export()
    integers.validate("the layer")
    weight, bias = dequantise(integers)
    before = layer.conv.weight.detach().clone()
    step = torch.exp2(-torch.from_numpy(integers.shift).float())
    assert float(((weight - before).abs() / step[:, None, None, None]).max()) < 1.001
    with torch.no_grad():
        layer.conv.weight.copy_(weight)
        layer.bias.copy_(bias)
    again = layer.export()
    for part in ("shift", "weight", "bias"):
        assert np.array_equal(getattr(again, part), getattr(integers, part))


def test_rounding_alone_would_not_come_back() -> None:
    """Why parameters are moved within their rounding intervals: some rows would choose other shifts."""
    moved = 0
    for seed in (1, 5, 9, 13, 17, 21):
        integers = rows_at_the_limit(seed, 432, 3, gain=0).export()
        weight, _ = dequantise(integers)
        rounded = np.ldexp(
            integers.weight.astype(np.float32), -integers.shift[:, None, None, None].astype(int)
        )
        moved += int((weight.numpy() != rounded).any((1, 2, 3)).sum())
    assert moved > 0


def test_layers_that_no_export_made_keep_their_values() -> None:
    """Small integers with a small shift: a trainable layer would take a finer one."""
    integers = IntegerLayer(
        np.array([[[[3]], [[-5]]]], np.int8),
        np.arange(KNOTS, dtype=np.int32)[:, None] - 4,
        np.array([4], np.int8),
        0,
        Activation.WIDE,
    )
    weight, bias = dequantise(integers)
    assert np.array_equal(weight.numpy(), integers.weight / 16)
    assert np.array_equal(bias.numpy(), integers.bias / 256)


def test_a_run_s_average(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", make_pictures(tmp_path / "pictures"))
    start = warm_start(tmp_path / "run")
    assert start.origin == f"run run, step {STEPS}"
    assert start.config == tiny_config()
    assert same_parameters(start.state, run.average)
    assert not same_parameters(start.state, run.model.state_dict())


def test_what_is_no_weights_file(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no training run here"):
        warm_start(tmp_path)
    with pytest.raises(InvalidWeights, match="no such weights file"):
        warm_start(tmp_path / "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(InvalidWeights, match=r"text\.safetensors: not a native model's weights file"):
        warm_start(tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    "name",
    [
        "training.mixture.tail_logit",
        "integer.hyper_in.bias",
        "integer.row_offset",
        "synthesis.skip",
        "synthesis.blocks.0.conv1.shift",
        "synthesis.out.narrow.bias",
        "synthesis.log_scale",
        "analysis.lapping.planes.0",
    ],
)
def test_a_file_that_lacks_a_tensor(tiny_model: NativeModel, tmp_path: Path, name: str) -> None:
    path = tmp_path / "tiny.safetensors"
    export(tiny_model, {}, path)
    tensors = dict(read_weights(path).tensors)
    del tensors[name]
    rewrite(path, tensors)
    with pytest.raises(InvalidWeights, match=rf"(?s)tiny\.safetensors: no weights to start from: .*{name}"):
        warm_start(path)


def test_a_file_with_a_tensor_of_another_shape(tiny_model: NativeModel, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    export(tiny_model, {}, path)
    whole = dict(read_weights(path).tensors)
    for name in ("integer.row_offset", "integer.hyper_up.weight", "synthesis.skip", "synthesis.log_gain"):
        # A single row could be spread over all of them.
        for part in (whole[name][:1], whole[name][:, 1:]):
            rewrite(path, whole | {name: np.ascontiguousarray(part)})
            with pytest.raises(InvalidWeights, match=name.split(".")[1]):
                warm_start(path)


def rewrite(path: Path, tensors: dict[str, Array]) -> None:
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
    save_file(tensors, path, metadata)
