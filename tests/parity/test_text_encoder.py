"""The text encoders against transformers' CLIPTextModel: tiny in every run, full size in slow tests."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from latentcodec.nn.stable_diffusion.text_encoder import (
    CLIP_L,
    OPENCLIP_BIGG,
    OPENCLIP_H,
    OPENCLIP_H_TRUNCATED,
    TextEncoder,
    TextEncoderConfig,
    TextFeatures,
)
from tests.parity.conftest import Check
from tests.parity.oracle import random_on, relative_error, sharing

REFERENCE = "transformers"
FAMILIES = {
    "CLIP-L": CLIP_L,
    "OpenCLIP-H": OPENCLIP_H,
    "OpenCLIP-H, 23 layers": OPENCLIP_H_TRUNCATED,
    "OpenCLIP-bigG": OPENCLIP_BIGG,
}
TINY = {
    name: replace(
        config, width=32, layers=4, heads=4, feed_forward=37, vocabulary=1000, end_token=999,
        projection=config.projection and 24,
    )
    for name, config in FAMILIES.items()
}  # fmt: skip


def reference_of(config: TextEncoderConfig) -> CLIPTextModel | CLIPTextModelWithProjection:
    """transformers' network of our configuration."""
    kind = CLIPTextModel if config.projection is None else CLIPTextModelWithProjection
    return kind(
        CLIPTextConfig(
            vocab_size=config.vocabulary,
            hidden_size=config.width,
            intermediate_size=config.feed_forward,
            projection_dim=config.projection,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            hidden_act="quick_gelu" if config.quick_gelu else "gelu",
            bos_token_id=config.end_token - 1,
            eos_token_id=config.end_token,
        )
    )


def random_reference(config: TextEncoderConfig, dtype: torch.dtype = torch.float32) -> CLIPTextModel:
    """The same with random weights, and with the positions that memory without values has lost."""
    reference = random_on(lambda: reference_of(config), dtype)
    embeddings = getattr(reference, "text_model", reference).embeddings
    embeddings.position_ids.copy_(torch.arange(config.length))
    return reference


def ids_of(config: TextEncoderConfig, batch: int = 3, length: int = 77) -> Tensor:
    """Random ids, each row with its first end token elsewhere, padded with end tokens, zeros and others."""
    ids = torch.randint(config.end_token, (batch, length), generator=torch.Generator().manual_seed(1))
    for row, end in enumerate((length // 2, length - 1, 3)[:batch]):
        ids[row, end] = config.end_token
    ids[0, length // 2 :] = config.end_token
    ids[-1, 4:40] = 0
    return ids


def compare(
    check: Check, name: str, size: str, network: TextEncoder, reference: CLIPTextModel, ids: Tensor
) -> None:
    with torch.inference_mode():
        found = network(ids)
        expected = reference(ids, output_hidden_states=True)
        normed = getattr(reference, "text_model", reference).final_layer_norm(expected.hidden_states[-2])
    pooled = expected.pooler_output if network.config.projection is None else expected.text_embeds
    check(name, size, found.last, expected.last_hidden_state)
    check(name, size, found.penultimate, expected.hidden_states[-2])
    check(name, size, found.penultimate_normed, normed)
    check(name, size, found.pooled, pooled)


def own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("text_model."): tensor for name, tensor in state.items()}


@pytest.mark.parametrize("length", [77, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TINY)
def test_tiny(check: Check, name: str, dtype: torch.dtype, length: int) -> None:
    reference = random_reference(TINY[name], dtype)
    network = sharing(lambda: TextEncoder(TINY[name]), own_names(reference.state_dict()))
    compare(check, name, "tiny", network, reference, ids_of(TINY[name], length=length))


@pytest.mark.parametrize("name", FAMILIES)
def test_names_and_shapes_are_the_references(name: str) -> None:
    with torch.device("meta"):
        reference, network = reference_of(FAMILIES[name]), TextEncoder(FAMILIES[name])
    expected = {key: value.shape for key, value in own_names(reference.state_dict()).items()}
    assert {key: value.shape for key, value in network.state_dict().items()} == expected


def test_the_truncated_encoder_ends_where_the_whole_one_is_penultimate() -> None:
    whole = random_on(lambda: TextEncoder(TINY["OpenCLIP-H"]), torch.float64)
    config = replace(TINY["OpenCLIP-H"], layers=TINY["OpenCLIP-H"].layers - 1, projection=None)
    state = {
        name: tensor
        for name, tensor in whole.state_dict().items()
        if not name.startswith((f"encoder.layers.{config.layers}.", "text_projection."))
    }
    ids = ids_of(config)
    found: TextFeatures = sharing(lambda: TextEncoder(config), state)(ids)
    assert torch.equal(found.last, whole(ids).penultimate_normed)


@pytest.mark.release
@pytest.mark.parametrize("name", FAMILIES)
def test_full_size(check: Check, name: str) -> None:
    reference = random_reference(FAMILIES[name])
    network = sharing(lambda: TextEncoder(FAMILIES[name]), own_names(reference.state_dict()))
    compare(check, name, "full", network, reference, ids_of(FAMILIES[name]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", TINY)
def test_half_precision_is_as_near_to_double_as_the_references(name: str, dtype: torch.dtype) -> None:
    reference = random_reference(TINY[name], torch.float64)
    state, ids = own_names(reference.state_dict()), ids_of(TINY[name])
    exact = sharing(lambda: TextEncoder(TINY[name]), state)(ids).last
    rounded = {key: value.to(dtype) for key, value in state.items()}
    found = sharing(lambda: TextEncoder(TINY[name]), rounded)(ids).last
    theirs = reference.to(dtype)(ids).last_hidden_state
    assert found.dtype == dtype
    assert relative_error(found.double(), exact) <= 1.5 * relative_error(theirs.double(), exact)
