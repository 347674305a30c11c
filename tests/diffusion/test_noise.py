"""Noise from seeds, and first states."""

from __future__ import annotations

import pytest
import torch

from latentcodec.diffusion.noise import seeded_noise, start_from_image, start_from_noise
from latentcodec.errors import InvalidArgument

X = torch.zeros(2, 4, 8, 8)


def test_a_seed_means_the_same_noise_whatever_the_batch_and_the_dtype() -> None:
    both = seeded_noise([3, 4])(X)
    assert torch.equal(both[1:], seeded_noise([4])(X[:1]))
    assert torch.equal(both.half(), seeded_noise([3, 4])(X.half()))
    assert torch.equal(both.double(), seeded_noise([3, 4])(X.double()))
    assert not torch.equal(both[0], both[1])


def test_it_is_what_torch_draws_on_the_cpu_and_each_call_goes_on() -> None:
    noise, generator = seeded_noise([11]), torch.Generator().manual_seed(11)
    for _ in range(3):
        assert torch.equal(noise(X[:1]), torch.randn(1, 4, 8, 8, generator=generator))


def test_neither_torchs_own_generator_nor_its_default_dtype_matters() -> None:
    first = seeded_noise([5])(X[:1])
    torch.manual_seed(99)
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(first, seeded_noise([5])(X[:1]))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_seed_means_the_same_noise_on_a_gpu() -> None:
    assert torch.equal(seeded_noise([3, 4])(X.cuda()).cpu(), seeded_noise([3, 4])(X))


def test_a_batch_without_a_seed_each_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="1 seeds for a batch of 2"):
        seeded_noise([3])(X)


def test_first_states_have_their_level() -> None:
    n = seeded_noise([1])(torch.zeros(1, 4, 64, 64))
    assert start_from_noise(n, 3.0).std().item() == pytest.approx(10**0.5, rel=0.02)
    assert start_from_noise(n, 3.0, variance_preserving=False).std().item() == pytest.approx(3.0, rel=0.02)
    image = torch.full_like(n, 7.0)
    started = start_from_image(image, n, 0.5)
    assert started.mean().item() == pytest.approx(7, abs=0.02)
    assert started.std().item() == pytest.approx(0.5, rel=0.02)
