"""The text encoders: sizes, what each feature depends on, refusals. tests/parity has the references."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from latentcodec.errors import InvalidArgument
from latentcodec.nn.stable_diffusion.text_encoder import (
    CLIP_L,
    OPENCLIP_BIGG,
    OPENCLIP_H,
    OPENCLIP_H_TRUNCATED,
    TextEncoder,
    TextEncoderConfig,
)

END = 99
TINY = TextEncoderConfig(
    width=16, layers=3, heads=2, feed_forward=24, projection=12, vocabulary=END + 1, length=10, end_token=END
)


@pytest.fixture(scope="module")
def network() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(TINY).eval().requires_grad_(False)


def ids(*tokens: int) -> Tensor:
    return torch.tensor([tokens])


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (CLIP_L, 123_060_480),  # the text encoder of SD 1.5
        (OPENCLIP_H, 354_032_640),
        (OPENCLIP_H_TRUNCATED, 340_387_840),  # of SD 2
        (OPENCLIP_BIGG, 694_659_840),  # the second one of SDXL
    ],
)
def test_parameter_counts_are_the_published_ones(config: TextEncoderConfig, count: int) -> None:
    with torch.device("meta"):
        network = TextEncoder(config)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def test_shapes(network: TextEncoder) -> None:
    found = network(torch.full((2, 7), END))
    assert found.last.shape == found.penultimate.shape == found.penultimate_normed.shape == (2, 7, 16)
    assert found.pooled.shape == (2, 12)
    assert TextEncoder(replace(TINY, projection=None))(ids(END)).pooled.shape == (1, 16)


def test_a_token_does_not_see_those_behind_it(network: TextEncoder) -> None:
    short, long = network(ids(1, 2, 3, END)), network(ids(1, 2, 3, END, 0, 7, END))
    torch.testing.assert_close(short.last, long.last[:, :4])
    torch.testing.assert_close(short.penultimate, long.penultimate[:, :4])
    torch.testing.assert_close(short.pooled, long.pooled)


def test_pooled_is_read_at_the_first_end_token(network: TextEncoder) -> None:
    for tokens in ((1, END, 2, END), (END, END, END, END), (1, 2, 3, END)):
        found = network(ids(*tokens))
        expected = network.text_projection(found.last[0, tokens.index(END)])
        torch.testing.assert_close(found.pooled[0], expected)


def test_tokens_added_to_the_vocabulary_are_no_end(network: TextEncoder) -> None:
    """Learned tokens (textual inversion) have larger ids than the end token."""
    larger = TextEncoder(replace(TINY, vocabulary=END + 5)).eval().requires_grad_(False)
    found = larger(ids(1, END + 3, END, END))
    torch.testing.assert_close(found.pooled[0], larger.text_projection(found.last[0, 2]))


def test_rows_do_not_see_each_other(network: TextEncoder) -> None:
    rows = torch.tensor([[1, 2, END, 0], [3, END, END, END]])
    both = network(rows)
    for index in range(2):
        alone = network(rows[index : index + 1])
        torch.testing.assert_close(both.penultimate_normed[index], alone.penultimate_normed[0])
        torch.testing.assert_close(both.pooled[index], alone.pooled[0])


@pytest.mark.parametrize(
    ("tokens", "complaint"),
    [
        (torch.tensor([1, END]), r"shape \(2,\), expected \(batch, up to 10\)"),
        (torch.full((1, 11), END), r"shape \(1, 11\), expected \(batch, up to 10\)"),
        (torch.zeros(1, 0, dtype=torch.int64), r"shape \(1, 0\)"),
        (torch.full((1, 4), float(END)), "float32 of shape"),
        (torch.tensor([[1, END], [1, 2]]), "a row has no end token 99"),
        (torch.tensor([[100, END]]), "from 99 to 100, expected 0 to 99"),
        (torch.tensor([[-1, END]]), "from -1 to 99, expected 0 to 99"),
    ],
)
def test_refusals(network: TextEncoder, tokens: Tensor, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        network(tokens)


def test_the_configuration_survives_json() -> None:
    assert TextEncoderConfig.from_dict(OPENCLIP_BIGG.to_dict()) == OPENCLIP_BIGG
