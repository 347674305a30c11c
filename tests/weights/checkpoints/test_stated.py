"""Sizes that a folder's config.json states: which family they are like, and what makes no network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latentcodec.errors import InvalidWeights
from latentcodec.nn.stable_diffusion.unet import UNet, UNetConfig
from latentcodec.weights.checkpoints import key_tables
from latentcodec.weights.checkpoints.detected import UNET
from latentcodec.weights.checkpoints.families import FAMILIES
from latentcodec.weights.checkpoints.model_files import open_model
from latentcodec.weights.checkpoints.stated import family_like, stated_config
from latentcodec.weights.load import load_unet
from tests.weights.made_checkpoints import in_layout, random_network

safetensors = pytest.importorskip("safetensors.torch")

SMALL = UNetConfig(
    channels=(8, 16), blocks=1, depth=(1, 0), heads=(2, 4), cross_only=(False, False), context=12, groups=4
)
STATED: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [8, 16],
    "layers_per_block": 1,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "attention_head_dim": [2, 4],
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
    "num_class_embeds": None,
}


def folder(path: Path, stated: dict[str, Any]) -> Path:
    (path / "unet").mkdir(parents=True)
    state = in_layout(random_network(lambda: UNet(SMALL)).state_dict(), key_tables.UNET_DIFFUSERS)
    safetensors.save_file(
        {name: tensor.contiguous() for name, tensor in state.items()},
        path / "unet" / "diffusion_pytorch_model.safetensors",
    )
    (path / "unet" / "config.json").write_text(json.dumps(stated))
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_like_itself(family: str) -> None:
    assert family_like(FAMILIES[family].unet) == family


def test_the_sizes_are_those_of_the_file(tmp_path: Path) -> None:
    path = folder(tmp_path, STATED)
    assert stated_config(open_model(path), UNET) == SMALL
    loaded = load_unet(path)
    assert loaded.module.config == SMALL
    assert loaded.detected.family == "sd1"
    assert "by its config.json" in loaded.detected.reasons[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_out_channels": "many"},
        {"block_out_channels": [8] * 9},
        {"block_out_channels": [8, -16]},
        {"layers_per_block": 10**9},
        {"attention_head_dim": [2]},
        {"attention_head_dim": [3, 4]},  # does not divide 8
        {"cross_attention_dim": True},
        {"norm_num_groups": None, "cross_attention_dim": None},
    ],
)
def test_what_makes_no_network_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidWeights, match=r"config\.json: these sizes make no network"):
        stated_config(open_model(folder(tmp_path, STATED | wrong)), UNET)


def test_other_weights_than_stated_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidWeights, match="these are not the weights of the UNet"):
        load_unet(folder(tmp_path, STATED | {"layers_per_block": 2}))


def test_an_sd2_is_known_by_its_linear_projections() -> None:
    assert family_like(replace(SMALL, linear_projections=True)) == "sd2"
