"""Constants that are on a device once."""

from __future__ import annotations

import pytest
import torch

from latentcodec.nn import perceptual
from latentcodec.nn.constants import DeviceConstant
from latentcodec.nn.native.entropy_model import channel_order
from latentcodec.nn.perceptual import visible_difference
from latentcodec.nn.structure import ms_ssim

CPU = torch.device("cpu")


def test_the_same_tensor_comes_at_every_call() -> None:
    constant = DeviceConstant(((1.0, 2.5), (3.0, 0.1)))
    with torch.inference_mode():  # as when a picture was decoded first
        first = constant.on(CPU)
    assert constant.on(CPU) is first
    assert not first.is_inference()
    assert torch.equal(first, torch.tensor([[1.0, 2.5], [3.0, 0.1]]))
    assert channel_order(8) is channel_order(8, CPU)
    assert channel_order(8).tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert channel_order(8).dtype == torch.int64


def test_losses_make_no_tensors_from_numbers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph cannot hold the copy from the host that torch.tensor is."""
    torch.manual_seed(0)
    x, y = torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128, requires_grad=True)
    first = visible_difference(x, y), ms_ssim(x, y)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a copy from the host")

    monkeypatch.setattr(torch, "tensor", refuse)
    again = visible_difference(x, y), ms_ssim(x, y)
    assert all(map(torch.equal, first, again))
    perceptual._WEIGHTS._copies.clear()
    with pytest.raises(AssertionError, match="a copy from the host"):
        visible_difference(x, y)
