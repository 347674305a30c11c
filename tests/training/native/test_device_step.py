"""The step that stays on the device does what the CPU's loop does."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from latentcodec.nn.native.transform import LARGEST_LOG_SCALE, WIDEST_STEP, initial_log_gain
from latentcodec.training.data import batch
from latentcodec.training.native import device_step
from latentcodec.training.native.device_pictures import DevicePictures
from latentcodec.training.native.device_step import PARTS, DeviceStep, Float32Transforms
from latentcodec.training.native.loop import Run, TrainingConfig
from tests.conftest import tiny_config
from tests.tiny_run import make_pictures

CPU = torch.device("cpu")
LEVELS = torch.tensor([700.0, 3100.0])
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in float32 after no step."""
    folder = tmp_path_factory.mktemp("made")
    config = TrainingConfig(
        pictures=str(make_pictures(folder / "pictures")), batch=2, autocast=False, drawn=0
    )
    return Run.create(folder / "run", config, tiny_config(), CPU)


@pytest.fixture
def run(made: Run) -> Run:
    return copy.deepcopy(made)


def step_of(run: Run, device: torch.device = CPU, **config: Any) -> DeviceStep:
    pictures = DevicePictures(run.pictures, run.config.crop, device)
    changed = TrainingConfig(**(vars(run.config) | config))
    return DeviceStep(run.model, run.average, run.optimiser, pictures, changed)


def state_of(run: Run) -> list[Tensor]:
    """Copies of the weights, their average and the moments."""
    tensors = [*run.model.state_dict().values(), *run.average.values(), *run.optimiser.moments()]
    return [tensor.clone() for tensor in tensors]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_a_step_is_that_of_the_cpu_loop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same crops and levels: the same loss and gradients, and weights as far apart as bfloat16 allows."""
    with torch.no_grad():  # zero at the start, and then nothing before it has a gradient
        torch.nn.init.normal_(run.model.synthesis.layers["out/conv"].conv.weight, std=0.05)
    run.average = {name: value.clone() for name, value in run.model.state_dict().items()}
    twin = copy.deepcopy(run)
    twin.step = run.step = 3
    x = batch(run.pictures, 1, 0, 2, 128)
    rate, following = twin.config.learning_rate * twin.schedule.factor(3), 1 - 5 / 14
    monkeypatch.setattr("latentcodec.training.native.loop.batch", lambda *_: x)
    seen: list[Tensor] = []
    loss = twin._loss

    def noting(*arguments: Any) -> Any:
        seen.append(arguments[3])
        return loss(*arguments)

    monkeypatch.setattr(twin, "_loss", noting)
    before = {name: value.clone() for name, value in twin.model.state_dict().items()}
    expected = twin.train_step()
    step = step_of(run)
    step._rate.fill_(rate)
    step._following.fill_(following)
    step.update(x, seen[0])
    found = step.take_sums()
    for name in PARTS:  # sums in another order: float32's own precision, many times over
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    matrices = {id(p) for p in run.optimiser.matrices}
    parameters = dict(run.model.named_parameters())
    for name, ours in run.model.state_dict().items():
        theirs = twin.model.state_dict()[name]
        change = float((theirs - before[name]).norm())
        # Newton-Schulz in bfloat16 (8 bits) amplifies its rounding; Adam's first step is a sign.
        bound = 0.1 if name in parameters and id(parameters[name]) in matrices else 0.02
        assert float((ours - theirs).norm()) <= bound * change + 1e-7, name
        assert name in parameters or change == 0, name
        average = before[name] + following * (ours - before[name])
        assert torch.allclose(run.average[name], average, atol=1e-6), name


def test_sums_are_over_the_steps_and_begin_anew(run: Run) -> None:
    step = step_of(run)
    step.step(0.0, 0.0, 1.0)
    first = step.take_sums()
    assert set(first) == set(PARTS)
    assert first["loss"] > 0
    assert set(step.take_sums().values()) == {0.0}


def test_preparing_leaves_no_trace_and_what_was_kept_comes_back(run: Run) -> None:
    step, before = step_of(run), state_of(run)
    step.prepare()
    assert not step.captured
    assert same(state_of(run)[: len(before)], before)
    kept = step.kept()
    step.step(1e-3, 0.5, 1.0)
    moved = state_of(run)
    assert not same(moved[: len(before)], before)
    step.go_back(kept)
    assert same(state_of(run)[: len(before)], before)
    assert not any(moment.any() for moment in run.optimiser.moments())  # as at the start of Adam
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_what_changes_between_steps_is_read_by_each(run: Run) -> None:
    """Learning rate, average and pull are tensors, which a captured step reads anew."""
    step, before = step_of(run), state_of(run)
    weights = len(run.model.state_dict())
    step.step(0.0, 0.0, 1.0)
    assert same(state_of(run)[: 2 * weights], before[: 2 * weights])
    pulls: list[Any] = []
    relaxed = run.model.entropy.relaxed_bits

    def noting(residual: Tensor, row: Tensor, pull: Any = 1.0) -> Tensor:
        pulls.append(float(pull))
        return relaxed(residual, row, pull)

    run.model.entropy.relaxed_bits = noting  # type: ignore[method-assign]
    step.step(1e-3, 1.0, 0.25)
    assert pulls[0] == 0.25
    own = run.model.state_dict()
    assert all(torch.allclose(run.average[name], own[name], atol=1e-6) for name in own)


def test_no_step_closes_a_channel(run: Run) -> None:
    with torch.no_grad():
        run.model.analysis.log_gain.sub_(5)
    step_of(run).step(1e-3, 0.5, 1.0)
    lowest = initial_log_gain(run.model.analysis.log_gain.shape[1])
    assert torch.allclose(run.model.analysis.log_gain.detach(), lowest - torch.tensor(WIDEST_STEP).log())


def test_no_step_takes_a_scale_to_where_no_decoder_holds_it(run: Run) -> None:
    with torch.no_grad():
        run.model.synthesis.log_scale.add_(5)
    step_of(run).step(1e-3, 0.5, 1.0)
    assert run.model.synthesis.log_scale.max() == torch.tensor(LARGEST_LOG_SCALE)


def test_only_the_synthesis(made: Run, tmp_path: Path) -> None:
    config = TrainingConfig(**(vars(made.config) | {"only_synthesis": True}))
    run = Run.create(tmp_path / "run", config, tiny_config(), CPU, made.model.state_dict())
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    step = step_of(run)
    for _ in range(2):  # the last layer is zero at first
        step.step(1e-3, 0.5, 1.0)
    assert step.take_sums()["loss"] > 0
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"synthesis.{name}" for name, _ in run.model.synthesis.named_parameters()}


def test_float32_stays_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, kernel, point = torch.randn(2, 6, 9, 9), torch.randn(4, 6, 3, 3), torch.randn(5, 6, 1, 1)
    tf32: list[bool] = []
    flags = torch.backends.cudnn.flags

    def noting(**settings: Any) -> Any:
        tf32.append(settings["allow_tf32"])
        return flags(**settings)

    monkeypatch.setattr(torch.backends.cudnn, "flags", noting)
    with Float32Transforms():
        assert torch.allclose(
            F.conv2d(x, point), (x.permute(0, 2, 3, 1) @ point[:, :, 0, 0].t()).movedim(3, 1)
        )
        assert tf32 == []
        assert torch.equal(F.conv2d(x, kernel, padding=1), torch.conv2d(x, kernel, padding=1))
        assert tf32 == [False] * 2
        with torch.autocast("cpu", torch.bfloat16):
            assert F.conv2d(x, kernel).dtype == torch.bfloat16
    assert tf32 == [False] * 2


def test_a_failing_compiler_does_not_end_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", broken)
    step = step_of(run, compile=True)
    with pytest.warns(UserWarning, match=r"compiling parts of the step failed \(no compiler\)"):
        step.prepare()
    assert "relaxed_bits" not in vars(run.model.entropy)
    step.step(1e-3, 0.5, 1.0)
    assert step.take_sums()["loss"] > 0


def test_compiled_parts_that_fail_when_called_are_taken_out(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(function: Any, **_: object) -> Any:
        def call(*_: object) -> Any:
            raise RuntimeError("no kernels for this device")

        return call

    monkeypatch.setattr(torch, "compile", compiled)
    step, before = step_of(run, compile=True), state_of(run)
    with pytest.warns(UserWarning, match="compiling parts of the step failed"):
        step.prepare()
    assert step._difference is device_step.visible_difference
    assert same(state_of(run)[: len(before)], before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there capturing succeeds")
def test_a_failing_capture_does_not_end_the_run(run: Run) -> None:
    step = step_of(run)
    step.device = torch.device("cuda")  # which this machine has not
    with pytest.warns(UserWarning, match="capturing the step in a CUDA graph failed"):
        step.prepare()
    step.device = CPU
    assert not step.captured
    step.step(1e-3, 0.5, 1.0)
    assert step.take_sums()["loss"] > 0


def test_a_step_neither_waits_for_the_host_nor_copies_from_it(run: Run) -> None:
    """What a CUDA graph cannot hold: values read, indices of masks, tensors made from numbers."""
    operations: set[str] = set()

    class Noting(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            operations.add(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    step = step_of(run)
    step._take()  # what is made once is there
    with Noting():
        step._take()
    assert {"convolution", "convolution_backward", "_fused_adam_", "searchsorted"} <= operations
    forbidden = {"_local_scalar_dense", "lift_fresh", "nonzero", "masked_select", "is_nonzero", "equal"}
    assert forbidden & operations == set()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # PyTorch's own
def test_compiled_parts_do_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as for a GPU, without the minutes that generating code takes; constants are no part of it."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain, compiled = step_of(copy.deepcopy(run)), step_of(run, compile=True)
    compiled.prepare()
    assert compiled._difference is not device_step.visible_difference
    x = batch(run.pictures, 1, 0, 2, 128)
    for step in (plain, compiled):
        step._pull.fill_(0.5)
        step.update(x, LEVELS)
    expected, found = plain.take_sums(), compiled.take_sums()
    for name in PARTS:
        assert found[name] == pytest.approx(expected[name], rel=1e-3), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("autocast", [False, True])
def test_a_captured_step_descends_and_does_not_repeat_its_crops(made: Run, autocast: bool) -> None:
    device = torch.device("cuda")
    run = Run(
        made.folder, TrainingConfig(**(vars(made.config) | {"autocast": autocast})), tiny_config(), device
    )
    step, before = step_of(run, device, autocast=autocast), state_of(run)
    step.prepare()
    assert step.captured
    assert same(state_of(run)[: len(before)], before)
    losses = []
    for _ in range(3):
        step.step(1e-3, 0.5, 1.0)
        losses.append(step.take_sums()["loss"])
    assert len(set(losses)) == 3
    assert not same(state_of(run)[: len(before)], before)
