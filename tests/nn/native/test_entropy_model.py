"""The trainable entropy model: what it counts and rebuilds is what the integer codec codes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentcodec.codec.native.coder import NativeCodec, step_targets
from latentcodec.errors import InvalidWeights
from latentcodec.nn.knots import MAX_LEVEL
from latentcodec.nn.native.config import FRACTION, MEAN_LIMIT, ORDER, ROWS, STEPS, EntropyConfig, NativeConfig
from latentcodec.nn.native.entropy_model import (
    ROW_UNIT,
    SMALLEST_SCALE,
    TrainableEntropyModel,
    channel_order,
    from_cells,
    log_context,
    put_step,
    take_step,
    to_cells,
)
from latentcodec.nn.native.integer_model import Ints
from latentcodec.nn.native.model import NativeModel
from latentcodec.training.native.export import export
from latentcodec.training.native.warm_start import warm_start
from latentcodec.weights.native import read_weights
from tests.conftest import native_codec, photograph


def test_cells_and_steps_take_every_latent_once() -> None:
    y = torch.arange(2 * 12 * 6 * 10).view(2, 12, 6, 10)
    cells = to_cells(y)
    assert cells.shape == (2, 4, 12, 3, 5)
    assert torch.equal(from_cells(cells), y)
    taken = [take_step(cells, step) for step in range(STEPS)]
    assert torch.equal(torch.cat(taken).flatten().sort().values, torch.arange(y.numel()))
    rebuilt = torch.zeros_like(cells)
    for step, values in enumerate(taken):
        put_step(rebuilt, step, values)
    assert torch.equal(rebuilt, cells)


def test_steps_stand_where_the_specification_puts_them() -> None:
    y = torch.arange(8 * 4 * 6).view(1, 8, 4, 6)
    cells, order = to_cells(y), channel_order(8).tolist()
    assert order == [0, 4, 1, 5, 2, 6, 3, 7]
    for step in range(STEPS):
        taken = take_step(cells, step)
        for place, channel in enumerate(order):
            dy, dx = divmod(ORDER[step][channel % 4], 2)
            assert torch.equal(taken[0, place], y[0, channel, dy::2, dx::2])


def test_each_step_codes_a_quarter_of_the_positions_of_each_group() -> None:
    for step in range(STEPS):
        assert sorted(ORDER[step]) == [0, 1, 2, 3]
    for group in range(4):
        assert sorted(ORDER[step][group] for step in range(STEPS)) == [0, 1, 2, 3]


def test_log_context() -> None:
    values = log_context(torch.arange(-MEAN_LIMIT, MEAN_LIMIT + 1).float())
    assert values.min() == -127
    assert values.max() == 127
    assert (values.diff() >= 0).all()
    assert torch.equal(values.flip(0), -values)
    assert torch.equal(values, values.round())


@pytest.fixture(scope="module")
def untrained() -> TrainableEntropyModel:
    return TrainableEntropyModel(EntropyConfig(latents=8, hyper=4, hyper_hidden=8, features=8, context=8))


def test_mixture_has_unit_deviation(untrained: TrainableEntropyModel) -> None:
    for logit, ratio in ((-1.5, 0.9), (0.0, 2.0), (-5.0, -3.0)):
        with torch.no_grad():
            untrained.tail_logit.fill_(logit)
            untrained.tail_log_ratio.fill_(ratio)
        weight, core, tail = untrained.mixture()
        assert ((1 - weight) * core**2 + weight * tail**2).item() == pytest.approx(1, rel=1e-5)
        assert tail > core


def test_bits_are_those_of_a_distribution() -> None:
    untrained = TrainableEntropyModel(EntropyConfig(latents=8, hyper=4))
    symbols = torch.arange(-1200, 1201).float()
    for row in (1.0, 12.0, 33.3, float(ROWS - 1)):
        bits = untrained.bits(symbols, torch.tensor(row))
        # No probability falls under 2^-20, so that far outliers keep a gradient.
        assert bits.max() <= 20
        probability = torch.exp2(-bits) * (bits < 20)
        assert probability.sum().item() == pytest.approx(1, abs=1e-3)
        if row > 24:
            variance = (probability * symbols**2).sum().item() - 1 / 12  # of the unit interval
            assert math.sqrt(variance) == pytest.approx(SMALLEST_SCALE * 2 ** (row / 6), rel=0.02)
    assert torch.equal(
        untrained.bits(-symbols, torch.tensor(9.0)), untrained.bits(symbols, torch.tensor(9.0))
    )


def test_rows_past_the_ends_cost_as_the_ends_and_still_learn(untrained: TrainableEntropyModel) -> None:
    row = torch.tensor([-5.0, 0.0, 63.0, 80.0], requires_grad=True)
    cost = untrained.bits(torch.tensor([1.0, 1.0, 100.0, 100.0]), row)
    assert cost[0] == cost[1]
    assert cost[2] == cost[3]
    cost.sum().backward()
    assert row.grad is not None
    assert row.grad[0] < 0  # upwards, out of the clamp


def test_calibration_starts_rows_at_the_spread_of_the_data(untrained: TrainableEntropyModel) -> None:
    torch.manual_seed(0)
    spread = torch.tensor([0.5, 1, 2, 4, 8, 16, 1, 1])
    log_gain = torch.linspace(0, 2, 9)[:, None].expand(9, 8)
    laplace = torch.distributions.Laplace(0.0, 1.0).sample((1, 8, 200, 200))
    untrained.calibrate(laplace * spread[:, None, None], log_gain)
    expected = SMALLEST_SCALE * 2 ** (untrained.row_offset * ROW_UNIT / 6)
    assert torch.allclose(expected, spread * log_gain.exp(), rtol=0.05)


@pytest.fixture(scope="module")
def exported(tiny_model: NativeModel, tmp_path_factory: pytest.TempPathFactory) -> NativeCodec:
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    export(tiny_model, {}, path)
    return native_codec(read_weights(path))


@dataclass(frozen=True)
class Comparison:
    """What training counts of a photograph, and what a file of the same hyperlatents codes.

    difference: of the latents, in sixteenths. trained: training's bits of y and of z. priced: the same of the
    file's symbols under the file's whole rows. ratio: the file's ideal bits over training's.
    """

    difference: Tensor
    trained: tuple[float, float]
    priced: tuple[float, float]
    hyperlatents: int
    ratio: float


def compare(model: NativeModel, codec: NativeCodec, level: int) -> Comparison:
    y = codec.analyse(photograph("coffee", 128, 96), level)
    # Whose floats depend on the processor's kernels: one rounding serves both.
    z = codec.hyperlatents(y, level)
    tile = codec.quantise(step_targets(y), z, level, *y.shape[1:])
    entropy = copy.deepcopy(model.entropy)
    hyper = torch.from_numpy(z)[None].float()
    entropy.analysis.forward = lambda y, level: hyper  # type: ignore[method-assign]
    hyper_rows = codec.integer.hyper_rows(level, *z.shape[1:])
    with torch.no_grad():
        planes = torch.from_numpy(y)[None]
        latents, bits_y, bits_z = entropy(planes, torch.tensor([float(level)]), relaxed=False)

        def price(symbols: Ints, rows: Ints) -> float:
            bits = entropy.bits(torch.from_numpy(symbols).float(), torch.from_numpy(rows.copy()).float())
            return float((bits * torch.from_numpy(rows > 0)).sum())

        priced = sum(price(step.residual, step.rows) for step in tile.steps), price(z, hyper_rows)
    assert not latents.requires_grad
    return Comparison(
        (latents[0] * FRACTION - torch.from_numpy(tile.latents)).abs(),
        (float(bits_y), float(bits_z)),
        priced,
        z.size,
        codec.code(tile, level).bits / float(bits_y + bits_z),
    )


def check_sizes(result: Comparison) -> None:
    # Training's rows of z are fractions. A row is a sixth of an octave, and half a row a twelfth of a bit.
    assert result.priced[1] == pytest.approx(result.trained[1], abs=result.hyperlatents / 12)
    # A symbol beyond its table costs up to three bytes in a file and at most 20 bits in training. A model
    # that hardly learned has some: 0.993 to 1.028 for six seeds.
    assert result.ratio == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("level", range(0, MAX_LEVEL + 1, 1000))
def test_at_the_knots_training_and_file_have_the_same_integers(
    tiny_model: NativeModel, exported: NativeCodec, level: int
) -> None:
    result = compare(tiny_model, exported, level)
    assert result.difference.max() == 0
    # The same symbols under the same rows: what is left is the order of some thousand additions of float32.
    assert result.priced[0] == pytest.approx(result.trained[0], rel=1e-5)
    check_sizes(result)


@pytest.mark.parametrize("level", [3, 1111, 2750, 3777])
def test_between_the_knots_they_nearly_do(tiny_model: NativeModel, exported: NativeCodec, level: int) -> None:
    result = compare(tiny_model, exported, level)
    # A bias rounds before interpolation in the one and after it in the other: a mean may move by a sixteenth,
    # and what follows it with it.
    assert (result.difference > 0).float().mean() < 0.25
    assert result.difference.max() <= FRACTION
    # Rows move alike: by one here and there, a sixth of a bit. At most 1 % for six seeds.
    assert result.priced[0] == pytest.approx(result.trained[0], rel=0.05)
    check_sizes(result)


def test_the_shipped_weights_count_as_their_training_form_does(native: NativeCodec) -> None:
    import latentcodec.weights.native as shipped

    path = Path(shipped.__file__).with_name(shipped.FILES[shipped.NATIVE_MODEL])
    try:
        start = warm_start(path)
    except InvalidWeights as error:
        pytest.skip(f"these weights were exported without their mixture: {error}")
    model = NativeModel(NativeConfig.from_dict(start.config.to_dict()))
    model.load_state_dict(start.state)
    for level in (0, 1900, 4000):
        result = compare(model, native, level)
        assert result.ratio == pytest.approx(1, abs=0.015)  # at most 0.003 at nine levels
        assert (result.difference > 0).float().mean() < 0.25


def test_every_parameter_learns(tiny_model: NativeModel) -> None:
    model = NativeModel(tiny_model.config)
    model.load_state_dict(tiny_model.state_dict())
    with torch.no_grad():
        model.entropy.analysis.conv_out.weight.mul_(30)  # hyperlatents that do not all round to 0
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    decoded, bits = model(x, torch.tensor([100.0, 3900.0]))
    (bits.mean() * 1e-3 + ((decoded - x) ** 2).sum()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert without == []


@pytest.mark.parametrize("relaxed", [True, False])
def test_samples_of_a_batch_do_not_mix(tiny_model: NativeModel, relaxed: bool) -> None:
    torch.manual_seed(1)
    y = torch.randn(3, tiny_model.config.entropy.latents, 8, 12) * 3
    levels = torch.tensor([10.0, 2000.0, 3990.0])
    latents, bits_y, bits_z = tiny_model.entropy(y, levels, relaxed)
    assert latents.shape == y.shape
    assert bits_y.shape == bits_z.shape == (3,)
    hyper = tiny_model.entropy.analysis(y, levels)
    one_hyper = tiny_model.entropy.analysis(y[1:2], levels[1:2])
    assert torch.allclose(one_hyper, hyper[1:2], rtol=1e-4, atol=1e-4 * float(hyper.abs().max()))
    # Rounded once: a batch and a single sample may have kernels that fall on two sides of a half.
    entropy = copy.deepcopy(tiny_model.entropy)
    entropy.analysis.forward = lambda y, level: hyper.round() if len(y) == 3 else hyper.round()[1:2]  # type: ignore[method-assign]
    both, one = entropy(y, levels, False), entropy(y[1:2], levels[1:2], False)
    for ours, expected in zip(one, both, strict=True):
        assert torch.allclose(ours, expected[1:2], rtol=1e-4)


def test_a_relaxed_rate_has_the_mean_gradient_of_noise(tiny_model: NativeModel) -> None:
    entropy = tiny_model.entropy
    residual = torch.tensor([-1.7, -0.4, 0.0, 0.2, 0.9, 3.1], requires_grad=True)
    row = torch.tensor([8.0, 20.0, 14.0, 26.0, 33.0, 38.0], requires_grad=True)
    bits = entropy.relaxed_bits(residual, row)
    assert torch.equal(bits, entropy.bits(residual.round(), row))
    ours, of_row = torch.autograd.grad(bits.sum(), (residual, row))
    assert torch.equal(
        of_row, torch.autograd.grad(entropy.bits(residual.detach().round(), row).sum(), row)[0]
    )
    noise = (torch.arange(4000) + 0.5) / 4000 - 0.5
    noisy = residual.detach()[:, None] + noise
    noisy.requires_grad_()
    (slopes,) = torch.autograd.grad(entropy.bits(noisy, row.detach()[:, None]).sum(), noisy)
    assert torch.allclose(ours, slopes.mean(1), atol=0.02)
    (half,) = torch.autograd.grad(entropy.relaxed_bits(residual, row, 0.5).sum(), residual)
    assert torch.allclose(half, ours / 2)
