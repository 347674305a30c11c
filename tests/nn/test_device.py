"""Device names; what full_precision does to settings is in test_integer_model.py."""

from __future__ import annotations

import pytest
import torch

from latentcodec.errors import InvalidArgument
from latentcodec.nn.device import choose_device


def test_names() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "mps", "meta", "xpu", "cuda:99", "cpu cpu"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="device"):
        choose_device(name)
