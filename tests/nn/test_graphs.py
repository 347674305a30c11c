"""Networks as CUDA graphs: the same outputs; elsewhere, and where recording fails, plain calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from latentcodec.nn.graphs import Graphed


def network(x: Tensor, t: Tensor, *, labels: Tensor | None = None, scale: float = 1.0) -> Tensor:
    y = torch.tanh(x) * t[:, None] * scale
    return y if labels is None else y + labels[:, None]


def test_on_a_cpu_it_is_a_plain_call() -> None:
    graphed = Graphed(network)
    x, t = torch.randn(2, 3), torch.ones(2)
    assert torch.equal(graphed(x, t, scale=2.0), network(x, t, scale=2.0))
    assert graphed.reason is None


def test_where_recording_fails_it_says_why_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    graphed = Graphed(network)

    def fail(*_: Any) -> Any:
        raise RuntimeError("capture is not permitted")

    monkeypatch.setattr(graphed, "_record", fail)
    monkeypatch.setattr(Tensor, "is_cuda", True)
    x, t = torch.randn(2, 3), torch.ones(2)
    assert torch.equal(graphed(x, t), network(x, t))
    assert graphed.reason == "CUDA graphs are not used: capture is not permitted"
    assert torch.equal(graphed(x, t), network(x, t))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@torch.inference_mode()
def test_replays_give_what_calls_give() -> None:
    graphed = Graphed(network)
    for rows in (2, 3, 2, 5, 7, 9, 2):  # more shapes than graphs are kept
        x, t = torch.randn(rows, 3, device="cuda"), torch.rand(rows, device="cuda")
        labels = torch.arange(rows, device="cuda")
        first = graphed(x, t, labels=labels, scale=2.0)
        assert torch.equal(first, network(x, t, labels=labels, scale=2.0))
        second = graphed(2 * x, t, labels=labels, scale=2.0)
        assert torch.equal(first, network(x, t, labels=labels, scale=2.0))  # it is the caller's own
        assert torch.equal(second, network(2 * x, t, labels=labels, scale=2.0))
        assert torch.equal(graphed(x, t), network(x, t))
    assert graphed.reason is None
