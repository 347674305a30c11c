"""Conditioning: the rule of weights by hand, chunks side by side. tests/parity compares it with diffusers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from latentcodec.errors import InvalidArgument
from latentcodec.generate.conditioning import TextTowers, encode_prompts, weigh
from latentcodec.nn.stable_diffusion.text_encoder import TextEncoder, TextEncoderConfig
from tests.weights.made_checkpoints import random_network

FIRST = TextEncoderConfig(width=8, layers=2, heads=2, feed_forward=16, quick_gelu=True)
SECOND = TextEncoderConfig(width=12, layers=2, heads=2, feed_forward=16, projection=20)
LONG = "cat " * 100  # two chunks


@pytest.fixture(scope="module")
def towers() -> Callable[[str], TextTowers]:
    first, second = (random_network(lambda c=c: TextEncoder(c), seed=1) for c in (FIRST, SECOND))

    def build(family: str) -> TextTowers:
        return TextTowers(first, second if family == "sdxl" else None, family)

    return build


def test_the_rule_of_weights_by_hand() -> None:
    # mean of Z: (1+2+3+6)/4 = 3; w Z = 1 2 6 12, mean 21/4; times 3 / (21/4) = 4/7
    z = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    expected = torch.tensor([[4 / 7, 8 / 7], [24 / 7, 48 / 7]], dtype=torch.float64)
    torch.testing.assert_close(weigh(z, [1.0, 2.0]), expected)
    torch.testing.assert_close(weigh(z, [1.0, 2.0]).mean(), z.mean())


def test_weights_of_one_change_nothing() -> None:
    z = torch.randn(77, 8, generator=torch.Generator().manual_seed(0))
    assert weigh(z, [1.0] * 77) is z


def test_a_mean_that_says_nothing_is_not_restored() -> None:
    # the mean turns from 1/2 to -1/2: restored, every number would change its sign
    z = torch.tensor([[2.0], [-1.0]])
    assert weigh(z, [1.0, 3.0]).tolist() == [[2.0], [-3.0]]
    # from 1/2 to 0, and from 1/2 to 1/20: restored, it would be ten times as large
    assert weigh(z, [1.0, 2.0]).tolist() == [[2.0], [-2.0]]
    assert weigh(z, [1.0, 1.9])[0].item() == 2.0
    assert weigh(torch.zeros(2, 1), [1.0, 2.0]).tolist() == [[0.0], [0.0]]


def test_half_precision_is_weighed_in_single() -> None:
    z = torch.randn(77, 8, generator=torch.Generator().manual_seed(0)).half()
    found = weigh(z, [1.3] * 77)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found, weigh(z.float(), [1.3] * 77).half())


@pytest.mark.parametrize("family", ["sd1", "sd2", "x4", "sdxl"])
def test_shapes(towers: Callable[[str], TextTowers], family: str) -> None:
    found = encode_prompts(towers(family), ["a cat", LONG, ""])
    assert found.context.shape == (3, 2 * 77, 20 if family == "sdxl" else 8)
    assert (found.pooled is None) == (family != "sdxl")
    if found.pooled is not None:
        assert found.pooled.shape == (3, 20)


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_prompt_is_the_same_alone_and_in_a_batch(towers: Callable[[str], TextTowers], family: str) -> None:
    prompts = ["a (cat:1.4)", LONG + "[dog]", "(dog) BREAK a"]
    together = encode_prompts(towers(family), prompts)
    for index, prompt in enumerate(prompts):
        alone = encode_prompts(towers(family), [prompt])
        torch.testing.assert_close(together.context[index, : alone.context.shape[1]], alone.context[0])
        if alone.pooled is not None and together.pooled is not None:
            torch.testing.assert_close(together.pooled[index], alone.pooled[0])


def test_chunks_stand_side_by_side(towers: Callable[[str], TextTowers]) -> None:
    both = encode_prompts(towers("sdxl"), ["a (cat:1.4) BREAK dog"])
    first, second = (encode_prompts(towers("sdxl"), [text]) for text in ("a (cat:1.4)", "dog"))
    torch.testing.assert_close(both.context, torch.cat([first.context, second.context], dim=1))
    torch.testing.assert_close(both.pooled, first.pooled)


def test_pooled_knows_no_weights(towers: Callable[[str], TextTowers]) -> None:
    plain, weighted = (encode_prompts(towers("sdxl"), [text]) for text in ("a cat", "a (cat:3)"))
    assert torch.equal(plain.pooled, weighted.pooled)
    assert not torch.equal(plain.context, weighted.context)


def test_each_encoder_keeps_its_own_mean(towers: Callable[[str], TextTowers]) -> None:
    plain, weighted = (encode_prompts(towers("sdxl"), [text]).context for text in ("a cat", "a (cat:1.2)"))
    for part in (slice(0, 8), slice(8, 20)):
        torch.testing.assert_close(plain[..., part].mean(), weighted[..., part].mean(), atol=1e-5, rtol=1e-3)


def test_padding_is_the_familys(towers: Callable[[str], TextTowers]) -> None:
    sd1, sd2 = (encode_prompts(towers(family), ["a cat"]).context for family in ("sd1", "sd2"))
    assert torch.equal(sd1[:, :4], sd2[:, :4])
    assert not torch.equal(sd1[:, 4:], sd2[:, 4:])


def test_errors(towers: Callable[[str], TextTowers]) -> None:
    with pytest.raises(InvalidArgument, match="prompts: there are none"):
        encode_prompts(towers("sd1"), [])
    with pytest.raises(InvalidArgument, match="prompt, character 3"):
        encode_prompts(towers("sd1"), ["fine", "a (cat"])
