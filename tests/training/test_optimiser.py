"""Muon for matrices, Adam for the rest, and a state that comes back as it was."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from latentcodec.nn.native.model import NativeModel
from latentcodec.training.optimiser import Optimiser, in_layout_of, orthogonalise, orthogonalise_batch
from tests.conftest import tiny_config


@pytest.mark.parametrize("shape", [(64, 160), (160, 64), (48, 432), (16, 144)])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_singular_values_become_about_one(shape: tuple[int, int], size: float) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * size
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.min() > 0.6
    assert values.max() < 1.25


def test_directions_stay() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(40, 90)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    kept = u.T @ orthogonalise(matrix) @ v.T
    assert torch.allclose(kept, torch.diag(kept.diag()), atol=0.05)
    assert not orthogonalise(torch.zeros(20, 30)).any()


def test_who_gets_what() -> None:
    model = NativeModel(tiny_config())
    optimiser = Optimiser(model.named_parameters())
    muon = {id(p) for p in optimiser.matrices}
    for name, parameter in model.named_parameters():
        if id(parameter) in muon:
            assert name.endswith("weight")
            assert parameter.ndim == 4
        if name.rsplit(".", 1)[-1] in {"bias", "skip", "log_gain", "log_scale", "row_offset", "hyper_row"}:
            assert id(parameter) not in muon
    assert len(muon) > 10
    assert Optimiser(model.named_parameters(), muon=False).matrices == []


def parameters(seed: int) -> dict[str, nn.Parameter]:
    torch.manual_seed(seed)
    shapes = {"a.weight": (24, 20, 3, 3), "a.bias": (24,), "b.weight": (8, 8), "c.skip": (40, 60)}
    return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}


def descend(named: dict[str, nn.Parameter], optimiser: Optimiser, steps: range) -> None:
    for step in steps:
        torch.manual_seed(1000 + step)
        loss: Tensor = sum(((p - torch.randn_like(p)) ** 2).sum() for p in named.values())  # type: ignore[assignment]
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step(1e-2)
        assert all(p.grad is None for p in named.values())


def test_vectors_go_as_adam_goes() -> None:
    named, twin = parameters(1), parameters(1)
    optimiser = Optimiser(named.items())
    assert [p.shape for p in optimiser.matrices] == [(24, 20, 3, 3)]
    adam = torch.optim.Adam([twin["a.bias"]], lr=1e-2, betas=(0.9, 0.98))
    for _ in range(5):
        for each in (named, twin):
            for p in each.values():
                p.grad = torch.full_like(p, 0.3)
        optimiser.step(1e-2)
        adam.step()
    assert torch.allclose(named["a.bias"], twin["a.bias"])


def test_steps_are_of_adam_s_size() -> None:
    named = parameters(2)
    before = {name: p.detach().clone() for name, p in named.items()}
    descend(named, Optimiser(named.items()), range(1))
    for name, p in named.items():
        moved = (p - before[name]).pow(2).mean().sqrt().item()
        assert 0.1e-2 < moved < 2e-2, name


def test_matrices_without_gradients_stay() -> None:
    named = parameters(3)
    before = named["a.weight"].detach().clone()
    named["a.bias"].grad = torch.ones(24)
    Optimiser(named.items()).step(1e-2)
    assert torch.equal(named["a.weight"], before)


def test_descent_descends() -> None:
    named = parameters(4)

    def size() -> float:
        return sum(p.detach().square().sum().item() for p in named.values())

    start = size()
    optimiser = Optimiser(named.items())
    for _ in range(60):
        sum((p**2).sum() for p in named.values()).backward()  # type: ignore[union-attr]
        optimiser.step(3e-2)
    assert size() < 0.3 * start


def test_state_comes_back_exactly(one_thread: None) -> None:
    named, other = parameters(5), parameters(5)
    straight, first = Optimiser(named.items()), Optimiser(other.items())
    descend(named, straight, range(6))
    descend(other, first, range(3))
    held = io.BytesIO()
    torch.save(first.state_dict(), held)
    held.seek(0)
    second = Optimiser(other.items())
    second.load_state_dict(torch.load(held, weights_only=True))
    descend(other, second, range(3, 6))
    for name, p in named.items():
        assert torch.equal(p, other[name]), name


@pytest.mark.parametrize("shape", [(64, 160), (160, 64)])
def test_matrices_of_a_shape_are_orthogonalised_together(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape) * torch.tensor([1e-3, 1.0, 50.0])[:, None, None]
    for one, together in zip(map(orthogonalise, matrices), orthogonalise_batch(matrices), strict=True):
        # Four steps in bfloat16, each of which multiplies rounding by 3.4 at most.
        assert torch.allclose(one, together, atol=4 * 3.4 * 2**-8 * float(one.abs().max()))


def test_a_step_on_the_device_is_one_step_by_step(one_thread: None) -> None:
    named, twin = parameters(6), parameters(6)
    named |= {
        "d.weight": nn.Parameter(torch.randn(180, 24)),
        "e.weight": nn.Parameter(torch.randn(24, 180, 1, 1)),
    }
    twin |= {name: nn.Parameter(named[name].detach().clone()) for name in ("d.weight", "e.weight")}
    one, other = Optimiser(named.items()), Optimiser(twin.items())
    rate = torch.tensor(0.0)
    other.prepare_device_step(rate)
    before = {name: p.detach().clone() for name, p in named.items()}
    for step in range(4):
        for each in (named, twin):
            torch.manual_seed(step)
            for p in each.values():
                p.grad = torch.randn_like(p)
        rate.fill_(1e-2 / (step + 1))
        one.step(1e-2 / (step + 1))
        other.device_step(rate)
        assert all(p.grad is None for p in twin.values())
    for name, p in named.items():
        change, apart = p.detach() - before[name], p.detach() - twin[name].detach()
        assert float(apart.norm()) < 0.05 * float(change.norm()), name  # bfloat16 in the matrices


def test_what_a_step_on_the_device_left_is_loaded_by_the_other(one_thread: None) -> None:
    named, twin = parameters(7), parameters(7)
    optimiser = Optimiser(named.items())
    rate = torch.tensor(1e-2)
    optimiser.prepare_device_step(rate)
    for p in named.values():
        p.grad = torch.ones_like(p)
    optimiser.device_step(rate)
    held = io.BytesIO()
    torch.save(optimiser.state_dict(), held)
    held.seek(0)
    loaded = Optimiser(twin.items())
    loaded.load_state_dict(torch.load(held, weights_only=True))
    (group,) = loaded.adam.param_groups
    assert group["lr"] == pytest.approx(1e-2)
    assert isinstance(group["lr"], float)
    assert group["capturable"] is False
    assert all(torch.equal(a, b) for a, b in zip(loaded.moments(), optimiser.moments(), strict=True))
    descend(twin, loaded, range(2))


def test_layouts_follow_the_parameters() -> None:
    like = torch.zeros(4, 6, 3, 3).to(memory_format=torch.channels_last)
    value = torch.rand(4, 6, 3, 3)
    laid = in_layout_of(like, value)
    assert laid.stride() == like.stride()
    assert torch.equal(laid, value)
    assert in_layout_of(value, value) is value
    named = {"c.planes": nn.Parameter(like.clone())}
    plain = {"c.planes": nn.Parameter(value)}
    source, target = Optimiser(plain.items()), Optimiser(named.items())
    descend(plain, source, range(1))
    target.load_state_dict(source.state_dict())
    assert all(moment.stride() in ((), like.stride()) for moment in target.moments())
