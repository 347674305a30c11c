"""CUDA computes the integers of docs/model.md, in float32 and in int8, as other engines do."""

from __future__ import annotations

import pytest
import torch

from latentcodec.nn.exact.layer import MAX_SHIFT, Activation
from latentcodec.nn.exact.torch_engine import TorchEngine
from latentcodec.weights.native import NativeWeights
from tests.nn.exact import test_engine_maps as maps
from tests.nn.exact import test_engines as layers
from tests.nn.exact.engine_cases import check_layer, narrow_maps, random_layer


@pytest.mark.gpu
@pytest.mark.parametrize("int8", [False, True])
def test_cuda(int8: bool, weights: NativeWeights) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    engine = TorchEngine(torch.device("cuda"), int8=int8)
    layers.test_the_shipped_layers_are_exact(engine, layers.cases_of(weights))
    for activation in Activation:
        layers.test_narrowings_are_exact(engine, activation)
        layers.test_every_value_that_an_activation_may_get(engine, activation)
        for kernel in (1, 3):
            layer = random_layer(5, 40, 20, kernel, 2, activation)
            check_layer(engine, layer, narrow_maps(5, (7, 40, 40)), 1234)
    for kernel in (1, 3):
        for shift in (8, 9, 14):
            layers.test_sums_at_the_bound_are_exact(engine, kernel, shift)
    for shift in (1, 8, MAX_SHIFT):
        layers.test_narrowings_at_the_bound_are_exact(engine, shift)
    for size in ((3, 1500), (700, 3), (1, 1), (300, 257)):
        layers.test_wide_and_tall_maps_are_cut_into_strips_without_seams(engine, size)
    for bits in (8, 10, 16):
        maps.test_samples(engine, bits)
    for check in (
        layers.test_a_bias_is_of_its_level_whatever_was_asked_before,
        maps.test_maps_are_what_they_were_made_of,
        maps.test_joins_and_shuffles,
        maps.test_sums_of_maps,
        maps.test_products_of_wide_maps,
        maps.test_exact_products,
        maps.test_exact_convolutions,
        maps.test_exact_convolutions_at_their_bound,
        maps.test_no_method_changes_what_it_is_given,
        layers.test_threads_may_share_an_engine,
    ):
        check(engine)
