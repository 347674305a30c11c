"""LoRAs of random matrices, in the layouts of their files."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from latentcodec.weights.checkpoints import key_tables

State = dict[str, Tensor]
RANK = 3
# What trainers change: attention and feed-forward; LCM-LoRA and LyCORIS convolutions and embeddings too.
ATTENTION = (".to_q", ".to_k", ".to_v", ".to_out.0", ".proj_in", ".proj_out", ".ff.net.0.proj", ".ff.net.2")
CONVOLUTIONS = (
    ".conv1",
    ".conv2",
    ".conv_shortcut",
    ".time_emb_proj",
    ".downsamplers.0.conv",
    ".upsamplers.0.conv",
)
TEXT = (".q_proj", ".k_proj", ".v_proj", ".out_proj", ".fc1", ".fc2")


def matrices(
    network: nn.Module, endings: Iterable[str], seed: int = 0, rank: int = RANK
) -> dict[str, tuple[Tensor, Tensor]]:
    """down and up of the layers whose names end so."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and name.endswith(tuple(endings)):
            outputs, *rest = module.weight.shape
            up = torch.randn(outputs, rank, *[1] * (len(rest) - 1), generator=generator)
            made[name] = torch.randn(rank, *rest, generator=generator), up
    return made


def kohya(changes: dict[str, tuple[Tensor, Tensor]], prefix: str, alpha: float | None = 2.0) -> State:
    """lora_unet_..., lora_te_text_model_...: dots become underscores."""
    state: State = {}
    for name, (down, up) in changes.items():
        layer = prefix + name.replace(".", "_")
        state |= {f"{layer}.lora_down.weight": down, f"{layer}.lora_up.weight": up}
        if alpha is not None:
            state[f"{layer}.alpha"] = torch.tensor(alpha)
    return state


def ldm_names(
    changes: dict[str, tuple[Tensor, Tensor]], network: nn.Module
) -> dict[str, tuple[Tensor, Tensor]]:
    """The same by the names that ldm checkpoints have for a UNet's layers."""
    rules = key_tables.unet_ldm(list(network.state_dict()))
    return {rules.name(f"{name}.weight").removesuffix(".weight"): pair for name, pair in changes.items()}


def peft(changes: dict[str, tuple[Tensor, Tensor]], prefix: str) -> State:
    """unet....lora_A.weight"""
    return {
        f"{prefix}{name}.{half}.weight": tensor
        for name, pair in changes.items()
        for half, tensor in zip(("lora_A", "lora_B"), pair, strict=True)
    }


def old_diffusers(changes: dict[str, tuple[Tensor, Tensor]], prefix: str) -> State:
    """unet....attn1.processor.to_q_lora.down.weight"""
    state: State = {}
    for name, pair in changes.items():
        layer, _, projection = name.removesuffix(".0").rpartition(".")
        for half, tensor in zip(("down", "up"), pair, strict=True):
            state[f"{prefix}{layer}.processor.{projection}_lora.{half}.weight"] = tensor
    return state
