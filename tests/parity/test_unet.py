"""The UNet against diffusers' UNet2DConditionModel, tiny in every run and at full size in the slow tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from latentcodec.nn.stable_diffusion.unet import (
    LCM,
    SD2,
    SD2_DEPTH,
    SD2_INPAINTING,
    SD15,
    SDXL,
    X4_UPSCALER,
    UNet,
    UNetConfig,
    size_embedding,
)
from tests.parity.conftest import Check
from tests.parity.oracle import random_on, sharing

SIZES = 6  # numbers in SDXL's size conditioning

# Each family's configuration at a small size (those of diffusers' own pipeline tests where it has one), and
# combinations of options that no family has.
_LEVELS = {"depth": (1, 0), "heads": (2, 2), "cross_only": (False, False)}
TINY = {
    "SD 1.5": replace(SD15, channels=(4, 8), groups=2, context=8, **_LEVELS),
    "SD 2": replace(SD2, channels=(32, 64), context=32, **_LEVELS | {"heads": (2, 4)}),
    "SD 2 depth": replace(SD2_DEPTH, channels=(32, 64), context=32, **_LEVELS | {"heads": (2, 4)}),
    "SD 2 inpainting": replace(SD2_INPAINTING, channels=(32, 64), context=32, **_LEVELS),
    "x4 upscaler": replace(
        X4_UPSCALER, channels=(32, 32, 64), classes=100, context=32, heads=(8, 8, 8), depth=(0, 1, 1),
        cross_only=(True, True, False),
    ),
    "SDXL": replace(
        SDXL, channels=(8, 16, 16), groups=2, context=64, added=80, heads=(2, 4, 4), depth=(0, 2, 3),
        middle_depth=3,
    ),
    "LCM": replace(LCM, channels=(4, 8), groups=2, context=8, time_condition=32, **_LEVELS),
    "everything at once": UNetConfig(
        inputs=6, outputs=3, channels=(8, 12, 16, 16), blocks=1, depth=(2, 0, 1, 0), heads=(1, 2, 4, 2),
        cross_only=(False, True, True, False), context=20, classes=7, added=80, time_condition=6, groups=4,
        upcast_attention=True,
    ),
    "one level, three blocks": UNetConfig(
        channels=(8,), blocks=3, depth=(1,), heads=(2,), cross_only=(True,), linear_projections=True,
        context=12, groups=4,
    ),
}  # fmt: skip


def reference_of(config: UNetConfig, size_channels: int) -> UNet2DConditionModel:
    """diffusers' network of our configuration (its `attention_head_dim` is the number of heads)."""
    attends = [bool(depth) for depth in config.depth]
    return UNet2DConditionModel(
        in_channels=config.inputs,
        out_channels=config.outputs,
        block_out_channels=config.channels,
        layers_per_block=config.blocks,
        down_block_types=tuple("CrossAttnDownBlock2D" if each else "DownBlock2D" for each in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if each else "UpBlock2D" for each in attends[::-1]),
        transformer_layers_per_block=(*config.depth[:-1], config.middle_depth),
        attention_head_dim=config.heads,
        only_cross_attention=config.cross_only,
        use_linear_projection=config.linear_projections,
        cross_attention_dim=config.context,
        num_class_embeds=config.classes or None,
        time_cond_proj_dim=config.time_condition or None,
        addition_embed_type="text_time" if config.added else None,
        addition_time_embed_dim=size_channels if config.added else None,
        projection_class_embeddings_input_dim=config.added or None,
        norm_num_groups=config.groups,
        upcast_attention=config.upcast_attention,
    )


def compare(
    name: str,
    size: str,
    config: UNetConfig,
    dtype: torch.dtype,
    shape: tuple[int, int, int],
    check: Check,
    size_channels: int = 8,
) -> None:
    """One prediction of one network with one set of weights, at two times."""
    reference = random_on(lambda: reference_of(config, size_channels), dtype)
    ours = sharing(lambda: UNet(config), dict(reference.state_dict()))
    batch, height, width = shape
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    x, context = normal(batch, config.inputs, height, width), normal(batch, 11, config.context)
    our_options: dict[str, Any] = {}
    their_options: dict[str, Any] = {}
    if config.classes:
        our_options["labels"] = torch.arange(batch) * 2 + 1
        their_options["class_labels"] = our_options["labels"]
    if config.time_condition:
        our_options["time_condition"] = normal(batch, config.time_condition)
        their_options["timestep_cond"] = our_options["time_condition"]
    if config.added:
        pooled = normal(batch, config.added - SIZES * size_channels)
        sizes = torch.tensor([[512, 768, 3, 16, 1024, 1000.5]]).expand(batch, -1)
        our_options["added"] = size_embedding(pooled, sizes, size_channels)
        their_options["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": sizes}
    times: list[float | torch.Tensor] = [torch.linspace(999, 12.25, batch)] if batch > 1 else [999]
    for timestep in times:
        check(
            f"UNet {name}",
            size,
            ours(x, timestep, context, **our_options),
            reference(x, timestep, context, **their_options).sample,
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", TINY)
def test_tiny_configurations(name: str, dtype: torch.dtype, check: Check) -> None:
    compare(name, "tiny", TINY[name], dtype, (2, 16, 24), check)


@pytest.mark.parametrize("name", ["SD 2", "SDXL"])
def test_sizes_that_do_not_halve(name: str, check: Check) -> None:
    compare(name, "tiny, odd size", TINY[name], torch.float64, (2, 13, 19), check)


@pytest.mark.release
@pytest.mark.parametrize(
    ("name", "config", "side"),
    [
        ("SD 1.5", SD15, 32),
        ("SD 2", SD2, 32),
        ("SD 2 depth", SD2_DEPTH, 16),
        ("SD 2 inpainting", SD2_INPAINTING, 16),
        ("LCM", LCM, 16),
        ("x4 upscaler", X4_UPSCALER, 32),
    ],
)
def test_full_configurations(name: str, config: UNetConfig, side: int, check: Check) -> None:
    compare(name, "full", config, torch.float32, (1, side, side), check)


@pytest.mark.release
def test_full_sdxl(check: Check) -> None:
    """10.3 GB of parameters."""
    compare("SDXL", "full", SDXL, torch.float32, (1, 16, 16), check, size_channels=256)
