"""Merged LoRAs against diffusers' fuse_lora, on networks of random weights and files of every layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from latentcodec.nn.stable_diffusion.text_encoder import CLIP_L, OPENCLIP_BIGG, TextEncoder
from latentcodec.nn.stable_diffusion.unet import UNet
from latentcodec.weights.lora import merge_lora, read_lora
from tests.parity.conftest import Check
from tests.parity.oracle import random_on, sharing
from tests.parity.test_text_encoder import own_names, random_reference
from tests.parity.test_unet import TINY, reference_of
from tests.weights.made_loras import (
    ATTENTION,
    CONVOLUTIONS,
    TEXT,
    State,
    kohya,
    ldm_names,
    matrices,
    old_diffusers,
    peft,
)

REFERENCE = "diffusers"
FIRST = replace(CLIP_L, width=32, layers=2, heads=4, feed_forward=37)
SECOND = replace(OPENCLIP_BIGG, width=40, layers=2, heads=4, feed_forward=37, projection=24)


class Models:
    """A model of diffusers and ours, of the same weights, not in the same memory."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float32) -> None:
        xl = name == "SDXL"
        unet = random_on(lambda: reference_of(TINY[name], 8), dtype)
        texts = [random_reference(config, dtype) for config in ((FIRST, SECOND) if xl else (FIRST,))]
        common = {"vae": None, "tokenizer": None, "scheduler": None, "unet": unet, "text_encoder": texts[0]}
        if xl:
            self.theirs = StableDiffusionXLPipeline(
                **common, text_encoder_2=texts[1], tokenizer_2=None, add_watermarker=False
            )
        else:
            self.theirs = StableDiffusionPipeline(
                **common, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
        copies = [{k: v.clone() for k, v in each.state_dict().items()} for each in (unet, *texts)]
        self.unet = sharing(lambda: UNet(TINY[name]), copies[0])
        self.texts = [
            sharing(lambda c=config: TextEncoder(c), own_names(copy))
            for config, copy in zip((FIRST, SECOND), copies[1:], strict=False)
        ]

    def merge(self, files: list[tuple[Path, float]]) -> None:
        for index, (file, weight) in enumerate(files):
            self.theirs.load_lora_weights(file.parent, weight_name=file.name, adapter_name=f"a{index}")
            merge_lora(
                read_lora(file),
                weight,
                unet=self.unet,
                text_encoder=self.texts[0],
                text_encoder_2=self.texts[1] if len(self.texts) > 1 else None,
            )
        names = [f"a{index}" for index in range(len(files))]
        self.theirs.set_adapters(names, [weight for _, weight in files])
        self.theirs.fuse_lora(adapter_names=names)
        self.theirs.unload_lora_weights()

    def compare(self, check: Check, title: str, before: State) -> None:
        pairs = [(self.unet, self.theirs.unet), (self.texts[0], self.theirs.text_encoder)]
        if len(self.texts) > 1:
            pairs.append((self.texts[1], self.theirs.text_encoder_2))
        found, expected = (
            torch.cat([side[key].flatten() for pair in pairs for side in [own_names(pair[which].state_dict())]
                       for key in sorted(own_names(pair[0].state_dict()))])
            for which in (0, 1)
        )  # fmt: skip
        check(f"LoRA, {title}", "tiny", found, expected)
        changed = sum(not torch.equal(before[key], value) for key, value in self.unet.state_dict().items())
        assert changed > 0


def layout(name: str, models: Models, seed: int = 0) -> State:
    """A LoRA of a model as a tool writes it."""
    unet = matrices(models.unet, ATTENTION, seed)
    every = matrices(models.unet, (*ATTENTION, *CONVOLUTIONS), seed)
    texts = [matrices(text, TEXT, seed) for text in models.texts]
    inside, *second = [{f"text_model.{layer}": pair for layer, pair in text.items()} for text in texts]
    attention = {layer: pair for layer, pair in unet.items() if ".attn" in layer}
    of_layout: dict[str, Callable[[], State]] = {
        "kohya": lambda: kohya(unet, "lora_unet_") | kohya(inside, "lora_te_", 1.0),
        "kohya without alpha": lambda: kohya(unet, "lora_unet_", None),
        "kohya, with convolutions": lambda: kohya(every, "lora_unet_"),
        "kohya, two text encoders": lambda: (
            kohya(unet, "lora_unet_") | kohya(inside, "lora_te1_", 1.0) | kohya(second[0], "lora_te2_", 5.0)
        ),
        "kohya, names of ldm": lambda: (
            kohya(ldm_names(unet, models.unet), "lora_unet_") | kohya(second[0], "lora_te2_", 5.0)
        ),
        "peft": lambda: peft(unet, "unet.") | peft(inside, "text_encoder."),
        "old diffusers": lambda: old_diffusers(attention, "unet."),
    }
    return of_layout[name]()


def saved(state: State, file: Path) -> Path:
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, file)
    return file


@pytest.mark.parametrize(
    ("family", "name", "dtype"),
    [
        ("SD 1.5", "kohya", torch.float64),
        ("SD 1.5", "kohya without alpha", torch.float32),
        ("SD 1.5", "kohya, with convolutions", torch.float32),  # as LCM-LoRA
        ("SD 1.5", "peft", torch.float32),
        ("SD 1.5", "old diffusers", torch.float32),
        ("SDXL", "kohya, names of ldm", torch.float64),
        pytest.param("SD 2", "kohya, with convolutions", torch.float32, marks=pytest.mark.slow),
        pytest.param("SDXL", "kohya, two text encoders", torch.float32, marks=pytest.mark.slow),
        pytest.param("SDXL", "peft", torch.float32, marks=pytest.mark.slow),
    ],
)
def test_layouts(check: Check, tmp_path: Path, family: str, name: str, dtype: torch.dtype) -> None:
    models = Models(family, dtype)
    before = dict(models.unet.state_dict())
    models.merge([(saved(layout(name, models), tmp_path / "lora.safetensors"), 0.7)])
    models.compare(check, f"{family}, {name}", before)


@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")
@pytest.mark.filterwarnings("ignore:.*multiple adapters")
def test_several_with_weights(check: Check, tmp_path: Path) -> None:
    models = Models("SD 1.5")
    before = dict(models.unet.state_dict())
    files = [
        (saved(layout(name, models, seed), tmp_path / f"{seed}.safetensors"), weight)
        for seed, (name, weight) in enumerate([("kohya", 0.8), ("peft", -0.3), ("kohya", 1.0)])
    ]
    models.merge(files)
    models.compare(check, "SD 1.5, three with weights", before)


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_what_diffusers_saves(check: Check, tmp_path: Path, rank_stabilised: bool) -> None:
    """Its alpha is in the metadata."""
    models = Models("SD 1.5")
    before = dict(models.unet.state_dict())
    trained = random_on(lambda: reference_of(TINY["SD 1.5"], 8))
    config = LoraConfig(
        r=4, lora_alpha=6, alpha_pattern={"attn2.to_k": 2}, target_modules=["to_q", "attn2.to_k", "conv1"],
        use_rslora=rank_stabilised,
    )  # fmt: skip
    trained.add_adapter(config)
    for name, parameter in trained.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    StableDiffusionPipeline.save_lora_weights(
        tmp_path,
        unet_lora_layers=get_peft_model_state_dict(trained),
        unet_lora_adapter_metadata=config.to_dict() | {"target_modules": sorted(config.target_modules)},
    )
    models.merge([(tmp_path / "pytorch_lora_weights.safetensors", 0.7)])
    models.compare(check, "SD 1.5, as diffusers saves", before)
