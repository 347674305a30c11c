"""The self-test passes engines that compute what they should, and none that errs anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from latentcodec.errors import MissingDependency
from latentcodec.kernel.library import CHOICE, load
from latentcodec.kernel.networks import NetworkFunctions
from latentcodec.nn.exact.compiled_engine import CompiledEngine, available
from latentcodec.nn.exact.layer import Activation, IntegerLayer, NarrowLayer
from latentcodec.nn.exact.numpy_engine import NumpyEngine
from latentcodec.nn.exact.self_test import computes_right
from tests.nn.exact.reference_engine import ReferenceEngine


def test_engines_that_compute_right(compiled: CompiledEngine) -> None:
    assert computes_right(compiled)
    assert computes_right(NumpyEngine())
    assert computes_right(ReferenceEngine())


@pytest.mark.usefixtures("built_kernel")
def test_it_is_available_where_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    assert available()
    monkeypatch.setenv(CHOICE, "off")
    assert not available()


@pytest.mark.parametrize(
    "method", ["add_wide", "add_leaky", "multiply_wide", "multiply_exact", "samples", "to_array", "to_map"]
)
def test_engines_that_err_in_one_number(method: str) -> None:
    class Wrong(ReferenceEngine):
        pass

    right = getattr(ReferenceEngine, method)

    def err(*arguments: Any) -> np.ndarray[Any, Any]:
        out: np.ndarray[Any, Any] = right(*arguments).copy()
        out[-1, -1, -1] ^= 1
        return out

    setattr(Wrong, method, err)
    assert not computes_right(Wrong())


def wrong_layers(change: Callable[[Any, Any, Any], Any]) -> ReferenceEngine:
    """The reference, but for what `change` makes of a layer, a map and its outputs."""

    class Wrong(ReferenceEngine):
        def layer(self, layer: IntegerLayer | NarrowLayer) -> Callable[[Any, int], Any]:
            right = ReferenceEngine.layer(self, layer)
            return lambda x, level: change(layer, x, right(x, level))

    return Wrong()


@pytest.mark.parametrize("activation", Activation)
@pytest.mark.parametrize("kind", [IntegerLayer, NarrowLayer])
def test_layers_that_err_in_one_activation(activation: Activation, kind: type) -> None:
    def change(layer: Any, x: Any, out: Any) -> Any:
        wrong = isinstance(layer, kind) and layer.activation is activation
        return (
            np.where(np.arange(out.size).reshape(out.shape) == out.size // 2, out ^ 1, out) if wrong else out
        )

    assert computes_right(wrong_layers(lambda layer, x, out: out))
    assert not computes_right(wrong_layers(change))


def test_products_that_saturate() -> None:
    """As int8 products do on some processors: two of the largest are 32258, and 32767 the most there is."""

    def change(layer: Any, x: Any, out: Any) -> Any:
        if not isinstance(layer, IntegerLayer):
            return out
        largest = np.abs(layer.weight).min() == 127 and np.abs(x).min() == 127
        return out - np.sign(out) if largest else out

    assert not computes_right(wrong_layers(change))


def test_a_kernel_that_lacks_functions(built_kernel: None) -> None:
    library = load()
    assert library is not None

    class Older:
        def __getattr__(self, name: str) -> Any:
            if name == "lc_samples":
                raise AttributeError(name)
            return getattr(library, name)

    with pytest.raises(MissingDependency, match=r"has to be built again.*lc_samples"):
        NetworkFunctions(Older())  # type: ignore[arg-type]
