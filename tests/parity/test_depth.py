"""The depth network against transformers' DPTForDepthEstimation: tiny in every run, full size if slow."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import BitConfig, DPTConfig, DPTForDepthEstimation
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

from latentcodec.nn.stable_diffusion.depth import (
    DPT_HYBRID,
    PATCH,
    DepthConfig,
    DepthEstimator,
    picture_for_depth,
)
from tests.conftest import photograph
from tests.parity.conftest import Check
from tests.parity.oracle import random_on, relative_error, sharing

REFERENCE = "transformers"
NAME = "DPT-hybrid"
TINY = DepthConfig(
    stem=16, backbone_widths=(32, 64, 96), backbone_depths=(1, 2, 2), norm_groups=2, width=32, layers=4,
    heads=4, feed_forward=37, grid=4, taps=(2, 4), reassembled_widths=(48, 40), fusion_width=32,
)  # fmt: skip


def reference_of(config: DepthConfig) -> DPTForDepthEstimation:
    """transformers' network of our configuration."""
    backbone = BitConfig(
        embedding_size=config.stem,
        hidden_sizes=list(config.backbone_widths),
        depths=list(config.backbone_depths),
        num_groups=config.norm_groups,
        global_padding="same",
        layer_type="bottleneck",
        embedding_dynamic_padding=True,
        out_features=["stage1", "stage2", "stage3"],
    )
    return DPTForDepthEstimation(
        DPTConfig(
            is_hybrid=True,
            backbone_config=backbone.to_dict(),
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.feed_forward,
            image_size=PATCH * config.grid,
            backbone_featmap_shape=[1, config.backbone_widths[-1], config.grid, config.grid],
            backbone_out_indices=[0, 1, *(tap - 1 for tap in config.taps)],
            neck_hidden_sizes=[*config.backbone_widths[:2], *config.reassembled_widths],
            reassemble_factors=[1, 1, 1, 0.5],
            fusion_hidden_size=config.fusion_width,
            layer_norm_eps=config.norm_epsilon,
        )
    )


def depth_of_reference(reference: DPTForDepthEstimation, picture: Tensor) -> Tensor:
    """transformers' hybrid refuses other sizes than the trained square, which its parts can do: by parts."""
    height, width = (side // PATCH for side in picture.shape[2:])
    embedded = reference.dpt.embeddings(2 * picture - 1, interpolate_pos_encoding=True)
    planes, tokens = list(embedded.intermediate_activations), embedded.last_hidden_states
    for index, layer in enumerate(reference.dpt.encoder.layer):
        tokens = layer(tokens)
        if index in reference.config.backbone_out_indices[2:]:
            planes.append(tokens)
    depth: Tensor = reference.head(reference.neck(planes, height, width))
    return depth


def random_picture(height: int, width: int, dtype: torch.dtype, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=dtype)


def random_pair(config: DepthConfig, dtype: torch.dtype) -> tuple[DepthEstimator, DPTForDepthEstimation]:
    reference = random_on(lambda: reference_of(config), dtype)
    reference.head.head[4].weight.abs_()  # no depth below zero, where the last step would hide differences
    reference.head.head[4].bias.abs_()
    return sharing(lambda: DepthEstimator(config), reference.state_dict()), reference


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiny(check: Check, dtype: torch.dtype) -> None:
    network, reference = random_pair(TINY, dtype)
    side = PATCH * TINY.grid
    picture = random_picture(side, side, dtype)
    with torch.inference_mode():
        found, expected = network(picture), reference(2 * picture - 1).predicted_depth
        check(NAME, "tiny", found, expected)
        assert (expected > 0).all()
        assert torch.equal(depth_of_reference(reference, picture), expected)


@pytest.mark.parametrize("size", [(64, 96), (160, 32), (128, 128)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiny_at_other_sizes(check: Check, dtype: torch.dtype, size: tuple[int, int]) -> None:
    network, reference = random_pair(TINY, dtype)
    picture = random_picture(*size, dtype)
    with torch.inference_mode():
        check(
            NAME,
            "tiny, not square and of other sizes",
            network(picture),
            depth_of_reference(reference, picture),
        )


def test_names_and_shapes_are_the_references() -> None:
    with torch.device("meta"):
        reference, network = reference_of(DPT_HYBRID), DepthEstimator(DPT_HYBRID)
    expected = {name: value.shape for name, value in reference.state_dict().items()}
    assert {name: value.shape for name, value in network.state_dict().items()} == expected


@pytest.mark.release
def test_full_size(check: Check) -> None:
    network, reference = random_pair(DPT_HYBRID, torch.float32)
    for size in ((384, 384), (384, 576)):
        picture = random_picture(*size, torch.float32, batch=1)
        with torch.inference_mode():
            expected = depth_of_reference(reference, picture)
            assert (expected > 0).all()
            check(NAME, "full, 384x384 and 384x576", network(picture), expected)


def test_the_epsilon_of_the_norms_does_not_matter() -> None:
    """transformers' files say 1e-12; the network was trained with 1e-6."""
    network, reference = random_pair(replace(TINY, norm_epsilon=1e-12), torch.float64)
    trained = sharing(lambda: DepthEstimator(TINY), reference.state_dict())
    picture = random_picture(64, 64, torch.float64)
    assert relative_error(trained(picture), network(picture)) < 1e-5


@pytest.mark.parametrize("size", [(512, 512), (512, 300), (300, 512), (120, 90), (400, 390), (64, 500)])
def test_pictures_are_resized_as_the_references_processor_does(size: tuple[int, int]) -> None:
    """Nearly: Pillow rounds and clamps to integers between rows and columns."""
    pixels = photograph(width=size[1], height=size[0], left=0)
    assert pixels.shape[:2] == size
    processor = DPTImageProcessorPil(ensure_multiple_of=32, keep_aspect_ratio=True)
    expected = processor(pixels, return_tensors="pt").pixel_values / 2 + 0.5
    found = picture_for_depth(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    assert found.shape == expected.shape
    difference = (found - expected).abs() * 255
    assert difference.mean() < 0.5
    assert difference.max() < 6
