"""Attention against its formula; tokens and back; the two forms of the projections."""

from __future__ import annotations

import pytest
import torch

from latentcodec.nn.stable_diffusion.spatial_transformer import (
    Attention,
    SpatialTransformer,
    from_tokens,
    to_tokens,
)
from tests.nn.networks import perturb


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random networks on every run."""
    torch.manual_seed(0)


def test_attention_is_a_softmax_of_products() -> None:
    attention = perturb(Attention(8, 6, heads=2, bias=True))
    tokens, context = torch.randn(3, 5, 8), torch.randn(3, 7, 6)
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        query = attention.to_q(tokens)[..., head]
        key, value = attention.to_k(context)[..., head], attention.to_v(context)[..., head]
        heads.append((query @ key.transpose(1, 2) / 2).softmax(-1) @ value)
    expected = attention.to_out[0](torch.cat(heads, -1))
    torch.testing.assert_close(attention(tokens, context), expected)


def test_upcast_attention_returns_what_it_got() -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        attention = perturb(Attention(8, 8, heads=2, upcast=True)).to(dtype)
        tokens = torch.randn(1, 5, 8, dtype=dtype)
        assert attention(tokens, tokens).dtype == dtype


def test_tokens_are_positions_in_reading_order() -> None:
    x = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert torch.equal(to_tokens(x)[1, 7], x[1, :, 1, 2])
    assert torch.equal(from_tokens(to_tokens(x), (4, 5)), x)


def test_a_projection_may_be_stored_as_a_convolution() -> None:
    linear = perturb(SpatialTransformer(8, 6, depth=1, heads=2, groups=2, linear=True))
    convolution = SpatialTransformer(8, 6, depth=1, heads=2, groups=2)
    state = linear.state_dict()
    for name in ("proj_in.weight", "proj_out.weight"):
        state[name] = state[name][:, :, None, None]
    convolution.load_state_dict(state)
    x, context = torch.randn(2, 8, 3, 4).double(), torch.randn(2, 5, 6).double()
    # Two kernels, whose sums may have any order: in float64 that is some 1e-16 of values near 1.
    found, expected = convolution.double()(x, context), linear.double()(x, context)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
