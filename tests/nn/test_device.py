"""Device names; what full_precision does to settings is in test_integer_model.py."""

from __future__ import annotations

import pytest
import torch

from latentcodec.errors import InvalidArgument
from latentcodec.nn.device import choose_device, placed


def test_names() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "mps", "meta", "xpu", "cuda:99", "cpu cpu"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="device"):
        choose_device(name)


def test_parts_are_brought_to_a_device_and_are_themselves_again() -> None:
    module = torch.nn.Linear(3, 3)
    before = module.weight.data
    with placed([module], torch.device("meta")):
        assert module.weight.device.type == "meta"
    assert module.weight.data.data_ptr() == before.data_ptr()
    with pytest.raises(KeyError), placed([module], torch.device("meta")):
        raise KeyError
    assert module.weight.device == torch.device("cpu")
